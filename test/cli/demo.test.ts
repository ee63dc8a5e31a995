import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { demoSchema } from './contract.ts';
import { RUNFOLD, run, tempDir } from './support.ts';

function inTemp() {
  const dir = join(tempDir(), 'tmp');
  mkdirSync(dir);
  return { dir, env: { TMPDIR: dir } };
}

it('asks one question in two ways, counts, and leaves nothing behind', async () => {
  const { dir, env } = inTemp();
  const ran = await run(RUNFOLD, ['demo', '--size', '400', '--json'], { env });
  expect(ran).toMatchObject({ code: 0, stderr: '' });
  const result = demoSchema.parse(JSON.parse(ran.stdout));
  expect(result).toMatchObject({ runs: 400, equal: true });
  expect(result.tables.length).toBe(22);
  expect(result.lineage.edges.length).toBeGreaterThan(5);
  // All 400 runs and the 12 of the tail: one page, one GET each.
  expect(result.flat_scan).toMatchObject({ requests: 413, rounds: 2 });
  expect(result.flat_scan_of_org.requests).toBeLessThan(result.flat_scan.requests);
  expect(result.refresh.rounds).toBeLessThanOrEqual(2);
  expect(result.refresh.requests).toBeLessThan(20);
  expect(readdirSync(dir)).toEqual([]);
});

it('tells people, and keeps the store where asked to', async () => {
  const { dir, env } = inTemp();
  const { code, stdout, stderr } = await run(RUNFOLD, ['demo', '--size', '60', '--keep'], { env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const words of ['RUNFOLD REFRESH', 'All three answers are the same', 'Tables of acme', 'is fed by']) {
    expect(stdout).toContain(words);
  }
  expect(stdout).toContain(join(dir, readdirSync(dir)[0]!));
});
