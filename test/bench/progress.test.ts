import { expect, it } from 'vitest';
import { startBenchProgress } from '../../bench/support/progress.ts';

it('a log gets a line for each twentieth, with what is left by what was done', () => {
  const lines: string[] = [];
  const stream = { isTTY: false, write: (line: string) => lines.push(line) };
  let now = 1_000;
  const progress = startBenchProgress('x', stream as unknown as NodeJS.WriteStream, () => now);
  progress.update(0, 200, 'first');
  progress.update(0.1, 200, 'still first');
  now += 30_000;
  progress.update(50, 200, 'quarter');
  progress.update(51, 200, 'the same line');
  now += 35_000;
  progress.update(200, 200, 'done');
  progress.stop();
  expect(lines).toEqual(['0 %: first\n', '25 %, 1:30 left: quarter\n', '100 %, 0:00 left: done\n']);
});
