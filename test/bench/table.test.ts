import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { ScenarioOptions } from '../../bench/support/report.ts';
import { run } from '../../bench/table.ts';

const dir = mkdtempSync(join(tmpdir(), 'runfold-table-'));
afterAll(() => rmSync(dir, { recursive: true }));

const line = (
  scenario: string,
  rival: string,
  median: number,
  dollarsPerMillion: number | null,
  rows = 10,
) => ({
  scenario,
  rival,
  rows,
  ms: { median },
  dollarsPerMillion,
});

function kept(scenario: string, parts: object): string {
  const path = join(dir, `${crypto.randomUUID()}.json`);
  const circumstances = { measured_at: '2026-11-20T00:00:00.000Z', machine: 'one' };
  writeFileSync(path, JSON.stringify({ scenario, ...circumstances, data: {}, ...parts }));
  return path;
}

async function table(...args: string[]): Promise<string> {
  return (await run({ args } as Partial<ScenarioOptions> as ScenarioOptions)).text!;
}

it('prints a result as Markdown: all of it, or the scenarios that stand for the rest', async () => {
  const path = kept('cold-refresh', {
    head: ['scenario', 'rival', 'ms'],
    rows: [
      ['1 000 000 runs in all, 1 000 of the org', 'runfold', '91 (33–243)'],
      ['', 'a | b', '50'],
      ['200 entries in the tail', 'runfold', '99'],
    ],
  });
  const lines = (await table(path)).trim().split('\n');
  expect(lines).toEqual([
    '| scenario | rival | ms |',
    '|---|---|---:|',
    '| 1 000 000 runs in all, 1 000 of the org | runfold | 91 (33–243) |',
    '|  | a \\| b | 50 |',
    '| 200 entries in the tail | runfold | 99 |',
  ]);
  expect((await table(path, 'some')).trim().split('\n')).toEqual(lines.slice(0, 4));
  const codec = kept('codec', { head: ['codec', 'ms'], rows: [['a', '1']] });
  expect(await table(codec, 'some')).toContain('|---|---:|\n| a | 1 |');
});

it('has a short form with the least in bold of those who give all rows, whoever has it', async () => {
  const path = kept('rivals', {
    data: {
      results: [
        line('one', 'runfold', 91.2, 5.4),
        line('one', 'JSON index', 53, 0.4),
        line('one', 'PostgreSQL', 4.04, null),
        line('two', 'runfold', 1_400, 5.4, 8),
        line('two', 'JSON index', 12_345, 4_000),
      ],
    },
  });
  expect((await table(path, 'readme')).split('\n')).toEqual([
    '| median ms, $ per 10⁶ refreshes | one | two |',
    '|---|---:|---:|',
    '| runfold | 91, $5.40 | 1 400, $5.40, 8 rows |',
    '| JSON index | 53, **$0.40** | **12 345**, **$4 000** |',
    '| PostgreSQL | **4.0**, a server | not run |',
    '',
    'Bold is the least of a column among those who answer from all rows. Rows are said where somebody answers from fewer.',
    '',
  ]);
});

it('takes one result, and says what it cannot make of it', async () => {
  await expect(table()).rejects.toThrow('One result, and one form');
  const path = kept('cost', { data: { results: [{ name: 'small' }] } });
  await expect(table(path, 'short')).rejects.toThrow('One result, and one form');
  await expect(table(path, 'readme')).rejects.toThrow('compares no rivals');
  await expect(table(path)).rejects.toThrow('has no table');
  const quick = kept('cold-refresh', { data: { results: [line('a quick one', 'runfold', 1, 2)] } });
  await expect(table(quick, 'readme')).rejects.toThrow('has none of the scenarios');
});
