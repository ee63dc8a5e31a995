import { mkdirSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { basename, join } from 'node:path';
import { errorMessage } from '../../src/core/errors.ts';

/** Where profiles and other results of a run go; not for keeping. */
export const OUT_DIR = join(import.meta.dirname, '../out');
const TOP = 30;

/** Runs `work` under V8's CPU profiler. Gives the functions that took most, and where the whole profile lies. */
export async function profiled<T>(
  name: string,
  work: () => Promise<T>,
): Promise<{ result: T; notes: string[] }> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 200 });
  await session.post('Profiler.start');
  const result = await work();
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  const kept = write(name, JSON.stringify(profile));
  const nodes = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
  const selfUs = new Map<string, number>();
  let totalUs = 0;
  for (const [i, id] of (profile.samples ?? []).entries()) {
    const frame = nodes.get(id)!;
    const us = profile.timeDeltas?.[i] ?? 0;
    if (frame.functionName === '(idle)') continue;
    const label = `${frame.functionName || '(anonymous)'} ${basename(frame.url)}:${frame.lineNumber + 1}`;
    selfUs.set(label, (selfUs.get(label) ?? 0) + us);
    totalUs += us;
  }
  const top = [...selfUs].sort((a, b) => b[1] - a[1]).slice(0, TOP);
  return {
    result,
    notes: [
      `CPU profile of ${name}: ${kept}`,
      ...top.map(([label, us]) => `  ${((100 * us) / totalUs).toFixed(1).padStart(5)} %  ${label}`),
    ],
  };
}

/** Where it lies, or why it does not: what was measured meanwhile is not lost for it. */
function write(name: string, profile: string): string {
  const file = join(OUT_DIR, `${name}.cpuprofile`);
  try {
    mkdirSync(OUT_DIR, { recursive: true });
    writeFileSync(file, profile);
    return file;
  } catch (error) {
    return `not written, ${errorMessage(error)}`;
  }
}
