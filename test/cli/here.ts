import { afterAll, vi } from 'vitest';
import { main } from '../../src/cli/program.ts';

export interface Told {
  code: number;
  /** What --json printed; null: nothing. */
  value: unknown;
  stderr: string;
}

// Each call listens to the streams anew, as each process does once.
const before = process.stdout.getMaxListeners();
for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(0);
afterAll(() => {
  for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(before);
});

/**
 * `runfold … --json` in this process: for tests of many commands, which would otherwise spend their time in starting
 * Node. One at a time: the streams are everybody's.
 */
export async function runHere(...args: string[]): Promise<Told> {
  let [text, stderr] = ['', ''];
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    stderr += String(chunk);
    return true;
  });
  try {
    await main(['node', 'runfold', ...args, '--json']);
    const code = Number(process.exitCode ?? 0);
    return { code, value: text === '' ? null : JSON.parse(text), stderr };
  } finally {
    process.exitCode = undefined;
    out.mockRestore();
    err.mockRestore();
  }
}
