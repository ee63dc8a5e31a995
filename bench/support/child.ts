import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { endWithUs } from './end-with-us.ts';

/**
 * Runs one part of a bench as a process of its own, so that its memory is its own: `name` is a hidden scenario of
 * bench/main.ts, `options` goes to it as JSON, its report's `data` comes back.
 */
export async function inChild<T>(
  name: string,
  options: unknown,
  { flags = [], onProgress }: { flags?: readonly string[]; onProgress?: (done: number) => void } = {},
): Promise<T> {
  const main = join(import.meta.dirname, '../main.ts');
  const child = endWithUs(
    spawn(process.execPath, [...flags, main, name, '--json', '--options', JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    }),
    'SIGTERM',
  );
  const chunks: Buffer[] = [];
  child.stdout!.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.on('message', (message) => {
    if (typeof message === 'number') onProgress?.(message);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`${name} ended with ${code}.`);
  return (JSON.parse(Buffer.concat(chunks).toString()) as { data: T }).data;
}
