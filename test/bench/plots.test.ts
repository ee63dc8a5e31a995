import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { run } from '../../bench/plots.ts';
import type { ScenarioOptions } from '../../bench/support/report.ts';

const ms = { median: 20, min: 10, max: 40 };
const size = { totalRuns: 1_000, orgRuns: 10, tables: 5, tailEntries: 0 };
const RESULTS: Record<string, object[]> = {
  'cold-refresh': ['total', 'share', 'tail', 'tables', 'process'].flatMap((group) =>
    ['runfold', 'flat scan'].map((rival) => ({
      ...size,
      group,
      scenario: group,
      rival,
      ms,
      rounds: 2,
      dollarsPerMillion: 3,
    })),
  ),
  rivals: [
    { scenario: 'one', rival: 'runfold', ms, rounds: 1 },
    { scenario: 'one', rival: 'PostgreSQL', ms, rounds: null },
    { scenario: 'two', rival: 'runfold', ms, rounds: 2 },
  ],
  'write-path': [1, 1_000].map((orgs) => ({
    writers: 8,
    callers: 1,
    orgs,
    scenario: 's',
    rival: 'runfold',
    acknowledgedPerSecond: 5,
    p99Ms: 100,
  })),
  cost: [{ name: 'small', month: { refreshes: 1, transitions: 2, folding: 3, storage: 0, total: 6 } }],
};

function options(args: string[]): ScenarioOptions {
  return { args } as Partial<ScenarioOptions> as ScenarioOptions;
}

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'runfold-plots-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

it('draws every kind of result, and puts all on one page', async () => {
  const dir = folder();
  const warned = vi.spyOn(console, 'warn');
  onTestFinished(() => warned.mockRestore());
  const files = Object.entries(RESULTS).map(([scenario, results]) => {
    const file = join(dir, `${scenario}.json`);
    const kept = {
      scenario,
      measured_at: '2026-11-20T00:00:00.000Z',
      machine: 'a <quick> one',
      latency: 'gcs',
      seed: 1,
      title: `About ${scenario}`,
      head: ['how', 'ms'],
      rows: [['runfold & others', '20']],
      notes: ['One < two.'],
      data: { results },
    };
    writeFileSync(file, JSON.stringify(kept));
    return file;
  });
  await run(options([...files, dir]));
  expect(warned).not.toHaveBeenCalled();
  const svgs = readdirSync(dir).filter((name) => name.endsWith('.svg'));
  expect(svgs).toHaveLength(7 + 2 + 4 + 1);
  for (const name of svgs) {
    const svg = readFileSync(join(dir, name), 'utf8');
    expect(svg).toMatch(/^<svg/);
    // A value that is no number would be drawn as one of these.
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  }
  const page = readFileSync(join(dir, 'index.html'), 'utf8');
  for (const scenario of Object.keys(RESULTS)) {
    expect(page).toContain(`href="#${scenario}"`);
    expect(page).toContain(`id="${scenario}"`);
    expect(page).toContain(`href="${scenario}.json"`);
  }
  expect(page.match(/<svg/g)).toHaveLength(svgs.length);
  expect(page).toContain('One &#60; two.');
  expect(page).toContain('runfold &#38; others');
  expect(page).not.toContain('<quick>');
});

it('draws what can be drawn of a quick result without latency, and says what cannot', async () => {
  const dir = folder();
  const results = ['runfold', 'flat scan'].map((rival, i) => ({
    ...size,
    group: 'total',
    scenario: 'quick',
    rival,
    ms: { median: i, min: 0, max: i },
    rounds: 2,
    dollarsPerMillion: 3,
  }));
  const files = ['one', 'two'].map((name) => {
    const file = join(dir, `${name}.json`);
    const kept = { scenario: 'cold-refresh', measured_at: '2026-11-20', machine: 'one', data: { results } };
    writeFileSync(file, JSON.stringify(kept));
    return file;
  });
  const { notes } = await run(options([...files, dir]));
  expect(notes.filter((note) => note.includes('because one has nothing for it'))).toHaveLength(3);
  const svgs = readdirSync(dir).filter((name) => name.startsWith('one-'));
  expect(svgs.sort()).toEqual(['cost', 'rounds', 'total-runs'].map((name) => `one-${name}.svg`));
  for (const name of svgs) expect(readFileSync(join(dir, name), 'utf8')).not.toMatch(/NaN|Infinity/);
  const page = readFileSync(join(dir, 'index.html'), 'utf8');
  const ids = [...page.matchAll(/<h2 id="([^"]*)"/g)].map(([, id]) => id);
  expect(ids).toEqual(['cold-refresh', 'cold-refresh-2']);
  for (const id of ids) expect(page).toContain(`href="#${id}"`);
});

it('takes results of benches only', async () => {
  await expect(run(options([]))).rejects.toThrow('Results to plot');
  const file = join(folder(), 'other.json');
  writeFileSync(file, '{"rows":[]}');
  await expect(run(options([file]))).rejects.toThrow('is no result of a bench');
  await expect(run(options([file, 'a', 'b']))).rejects.toThrow('at most one directory');
});
