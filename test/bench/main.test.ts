import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { warningsOf } from '../../bench/compare.ts';
import { circumstancesOf } from '../../bench/support/circumstances.ts';
import { readPrices } from '../../bench/support/prices.ts';
import { LATENCY_PROFILES } from '../../src/store/latency.ts';

const MAIN = join(import.meta.dirname, '../../bench/main.ts');
const dir = mkdtempSync(join(tmpdir(), 'runfold-bench-'));
afterAll(() => rmSync(dir, { recursive: true }));
const bad = join(dir, 'bad.json');
writeFileSync(bad, '{');
const other = join(dir, 'other.json');
writeFileSync(other, 'null');

it.each([
  [['cost', '--latency', 'foo'], 'foo cannot be read'],
  [['cost', '--latency', bad], 'is no JSON'],
  [['cost', '--latency', other], 'is no latency profile'],
  [['cost', '--prices', bad], 'is no JSON'],
  [['cost', '--seed', 'x'], '--seed x is no whole number'],
  [['cost', '--fast'], "Unknown option '--fast'"],
  [['cost', 'more'], 'takes no further words: "more"'],
  [['cost', '--profile'], 'cost has no --profile'],
  [['cost', '--out', join(dir, 'no', 'such.json')], 'cannot be written: ENOENT'],
  [['toString'], 'no scenario "toString"'],
  [['scale:build'], 'is started by its bench only'],
  [['compare', 'a', 'b'], 'a cannot be read: ENOENT'],
  [['plots', bad], 'is no JSON'],
  [['plots', other], 'is no result of a bench'],
  [['write-path', '--latency', 'none'], 'would never end'],
])('%j is one error with a hint, and exit 2', (args, message) => {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  const lines = stderr.trim().split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^error: /);
  expect(lines[0]).toContain(message);
  expect(lines[1]).toMatch(/^hint: /);
  expect(status).toBe(2);
});

it('a comparison warns of other latency, seed and prices, and of what was not kept', () => {
  const prices = readPrices();
  const kept = {
    scenario: 's',
    data: {},
    ...circumstancesOf({ latency: LATENCY_PROFILES.gcs, prices, seed: 1 }),
  };
  expect(warningsOf(kept, { ...kept })).toEqual([]);
  const changed = { ...LATENCY_PROFILES.gcs, list_item_ms: 1 };
  expect(warningsOf(kept, { ...kept, latency_profile: changed })).toEqual([
    'Latency profile gcs had other figures in the old result.',
  ]);
  const { latency_profile: _, prices: __, ...older } = kept;
  const warnings = warningsOf(older, { ...kept, latency: 'lan', seed: 2 });
  expect(warnings).toEqual([
    'Latency profiles differ: gcs; lan.',
    'Seeds differ: 1; 2.',
    'Not kept in both, so not compared: latency_profile, prices.',
  ]);
  const dearer = { ...prices, name: 'dear' };
  expect(warningsOf(kept, { ...kept, prices: dearer })[0]).toContain('Prices differ');
});
