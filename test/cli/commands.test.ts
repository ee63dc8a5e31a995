import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { sharedFile, sharedMissing } from '../support/shared.ts';
import {
  compactedSchema,
  importSchema,
  inspectSchema,
  lineageSchema,
  runsSchema,
  tablesSchema,
  verifySchema,
} from './contract.ts';
import { EVENTS, event, jsonOf, onStore, RUNFOLD, run, tempDir, writeEvents } from './support.ts';

const table = (name: string) => ({ namespace: 'db', name });
const runId = (n: number) => `01900000-0000-7000-8000-00000000000${n}`;

describe('import, fold twice, ask', () => {
  const dir = tempDir();
  const runfold = onStore(`file:${join(dir, 'store')}?fsync=off`);
  const ask = (...args: string[]) => jsonOf(runfold(...args, '--org', 'acme', '--json'));

  beforeAll(async () => {
    const file = writeEvents(join(dir, 'events.ndjson'), EVENTS);
    const imported = importSchema.parse(await ask('import', 'openlineage', file));
    expect(imported).toMatchObject({ events: 5, runs: 4, changed: 4, unchanged: 0, rejected_total: 0 });
  });

  it('imports again and changes nothing; reads standard input', async () => {
    const text = EVENTS.map((one) => JSON.stringify(one)).join('\n');
    const args = ['import', 'openlineage', '-', '--org', 'acme', '--json'];
    const ran = await run(RUNFOLD, args, {
      stdin: text,
      env: { RUNFOLD_STORE: `file:${join(dir, 'store')}?fsync=off` },
    });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(importSchema.parse(JSON.parse(ran.stdout))).toMatchObject({ runs: 4, changed: 0, unchanged: 4 });
  });

  it('answers the same before the first fold and after the second', async () => {
    const before = await Promise.all([ask('tables'), ask('runs'), ask('active')]);
    const tail = inspectSchema.parse(await ask('inspect'));
    expect(tail).toMatchObject({ org: 'acme', manifest: null, garbage: { lists: 0, objects: 0 } });
    expect(tail.tail.records).toBeGreaterThanOrEqual(4);

    const compact = () =>
      jsonOf(runfold('compact', '--json')).then((all) => compactedSchema.array().parse(all));
    expect(await compact()).toMatchObject([{ org_id: 'acme', outcome: 'committed', version: 1, rows: 4 }]);
    const rest = await compact();
    expect(rest).toMatchObject([{ org_id: 'acme', version: 1, entries: 0, records: 0, rows: 4 }]);

    expect(await Promise.all([ask('tables'), ask('runs'), ask('active')])).toEqual(before);
    const folded = inspectSchema.parse(await ask('inspect'));
    expect(folded).toMatchObject({
      manifest: { version: 1, rows: 4, active: 1 },
      tail: { entries: 0, records: 0 },
    });
    expect(folded.manifest!.parts[0]!.inline_bytes).toBeGreaterThan(0);
    // What was folded waits out its grace.
    expect(folded.garbage).toMatchObject({ lists: 1, objects: tail.tail.entries });
    expect(JSON.stringify(folded).length).toBeLessThan(5_000);
  });

  it('tables: sorted, with the latest run and the latest success', async () => {
    const tables = tablesSchema.parse(await ask('tables'));
    expect(tables).toEqual([
      {
        ...table('b'),
        latest_run: { run_id: runId(2), status: 'FAILED', updated_at: '2026-01-02T00:01:00.000Z' },
        latest_success: { run_id: runId(1), status: 'SUCCEEDED', updated_at: '2026-01-01T00:01:00.000Z' },
        upstream: 1,
        downstream: 1,
      },
      expect.objectContaining({ ...table('c'), upstream: 1, downstream: 1 }),
      expect.objectContaining({ ...table('d'), latest_success: null, upstream: 1, downstream: 0 }),
    ]);
  });

  it('runs: newest first, filtered', async () => {
    const ids = async (...args: string[]) =>
      runsSchema.parse(await ask('runs', ...args)).map(({ run_id }) => Number(run_id.at(-1)));
    expect(await ids()).toEqual([4, 3, 2, 1]);
    const [newest] = runsSchema.parse(await ask('runs', '--limit', '1'));
    expect(newest).toMatchObject({
      run_id: runId(4),
      reference_id: 'etl/report',
      kind: 'job',
      outputs: [table('d')],
      started_at: '2026-01-04T00:00:00.000Z',
      finished_at: null,
    });
    const filters: [args: string[], expected: number[]][] = [
      [
        ['--limit', '2'],
        [4, 3],
      ],
      [
        ['--namespace', 'db', '--name', 'b'],
        [2, 1],
      ],
      [['--name', 'c'], [3]],
      [
        ['--status', 'failed,running'],
        [4, 2],
      ],
      [['--kind', 'model'], []],
      [['--queue', 'none'], []],
      [['--reference', 'etl/report'], [4]],
      [
        ['--since', '2026-01-03'],
        [4, 3],
      ],
      [['--until', '2026-01-02T00:00:00Z'], [1]],
    ];
    const answers = await Promise.all(filters.map(([args]) => ids(...args)));
    expect(answers).toEqual(filters.map(([, expected]) => expected));
  });

  it('runs --format: a file on standard output, the same runs', async () => {
    const file = async (format: string, ...args: string[]) =>
      runfold('runs', '--org', 'acme', '--format', format, ...args);
    const [csv, ndjson, parquet] = await Promise.all([
      file('csv', '--status', 'RUNNING'),
      file('ndjson'),
      file('parquet', '--limit', '1'),
    ]);
    expect(csv.stdout.split('\r\n')[1]).toMatch(`${runId(4)},acme,job,etl/report,,RUNNING,`);
    expect(ndjson.stdout.trimEnd().split('\n')).toHaveLength(4);
    expect(parquet.stdout).toMatch(/^PAR1.*PAR1$/s);
    expect([csv, ndjson, parquet].map(({ code, stderr }) => [code, stderr])).toEqual(Array(3).fill([0, '']));
    expect(await file('csv', '--json')).toMatchObject({ code: 2, stdout: '' });
    expect(await file('xlsx')).toMatchObject({ code: 2, stdout: '' });
  });

  it('active: the runs that have not ended', async () => {
    expect(runsSchema.parse(await ask('active'))).toMatchObject([{ run_id: runId(4), status: 'RUNNING' }]);
  });

  it('lineage: both ways, to a depth', async () => {
    const lineage = async (...args: string[]) =>
      lineageSchema.parse(await ask('lineage', '--namespace', 'db', '--name', 'b', ...args));
    const [all, up, near] = await Promise.all([
      lineage(),
      lineage('--direction', 'upstream'),
      lineage('--direction', 'downstream', '--depth', '1'),
    ]);
    expect(all.nodes).toEqual(['a', 'b', 'c', 'd'].map(table));
    expect(all.edges).toHaveLength(3);
    expect(up).toEqual({
      nodes: [table('a'), table('b')],
      edges: [{ from: table('a'), to: table('b'), run_id: runId(2) }],
    });
    expect(near.nodes).toEqual([table('b'), table('c')]);
  });

  it('shows people the same in words', async () => {
    const [tables, runs, lineage, inspect] = await Promise.all([
      runfold('tables', '--org', 'acme'),
      runfold('runs', '--org', 'acme', '--limit', '1'),
      runfold('lineage', '--org', 'acme', '--namespace', 'db', '--name', 'c'),
      runfold('inspect', '--org', 'acme'),
    ]);
    expect(tables.stdout).toMatch(/^NAMESPACE +NAME +LATEST RUN/);
    expect(tables.stdout).toContain('3 tables of org acme');
    expect(runs.stdout).toContain('The newest 1 run of org acme (--limit shows more)');
    expect(lineage.stdout).toContain('is fed by\n└─ b db\n   └─ a db\nfeeds\n└─ d db\n');
    expect(inspect.stdout).toContain('Manifest of org acme');
    for (const ran of [tables, runs, lineage, inspect]) expect(ran).toMatchObject({ code: 0, stderr: '' });
  });

  it('an org is what has been written: there is no other one', async () => {
    const other = await runfold('tables', '--org', 'nobody', '--json');
    expect(other).toMatchObject({ code: 2, stdout: '' });
    expect(other.stderr).toContain('There is no org nobody.');
  });

  it('verify: clean, then a flipped byte is reported with exit code 1', async () => {
    const verify = () => runfold('verify', '--json');
    const clean = await verify();
    expect(clean).toMatchObject({ code: 0, stderr: '' });
    expect(verifySchema.parse(JSON.parse(clean.stdout))).toMatchObject({
      ok: true,
      problems: [],
      orgs: [{ org: 'acme', ok: true, checked: { runs: 4 } }],
    });

    const runs = join(dir, 'store', 'authoritative-runs/runs/acme');
    const path = join(runs, readdirSync(runs)[0]!);
    const bytes = readFileSync(path);
    bytes[bytes.length - 20]! ^= 1;
    writeFileSync(path, bytes);
    const broken = await verify();
    expect(broken).toMatchObject({ code: 1, stderr: '' });
    const { ok, problems } = verifySchema.parse(JSON.parse(broken.stdout));
    expect(ok).toBe(false);
    expect(problems.length).toBeGreaterThan(0);
    const told = await runfold('verify');
    expect(told.code).toBe(1);
    expect(told.stdout).toMatch(/^law \d: org acme: /);
  });
});

it('import reports what it rejects, keeps the rest and exits with 1', async () => {
  const dir = tempDir();
  const runfold = onStore(`file:${join(dir, 'store')}?fsync=off`);
  const file = join(dir, 'broken.ndjson');
  writeFileSync(file, `${JSON.stringify(EVENTS[0])}\nnot json\n${JSON.stringify(event({ ...REPORT }))}\n`);
  const ran = await runfold('import', 'openlineage', file, '--org', 'acme', '--json');
  expect(ran).toMatchObject({ code: 1, stderr: '' });
  const report = importSchema.parse(JSON.parse(ran.stdout));
  expect(report).toMatchObject({ runs: 2, rejected_total: 1, rejected: [{ file, line: 2 }] });
  expect(runsSchema.parse(await jsonOf(runfold('runs', '--org', 'acme', '--json')))).toHaveLength(2);
  const told = await runfold('import', 'openlineage', file, '--org', 'acme');
  expect(told.stderr).toContain(`rejected: ${file}:2: `);
  expect(told.stdout).toContain('1 event rejected');
  expect(existsSync(join(dir, 'store'))).toBe(true);
});

const REPORT = { type: 'COMPLETE', run: 5, at: '2026-01-05T00:00:00Z', job: 'report', outputs: ['d'] };

const missing = sharedMissing('data', 'openlineage');
it.skipIf(missing !== null)(
  `the real files: import, fold twice, verify${missing ? ` (skipped: ${missing})` : ''}`,
  async () => {
    const runfold = onStore(`file:${join(tempDir(), 'store')}?fsync=off`);
    const folder = sharedFile('data', 'openlineage');
    const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson'));
    const paths = files.map((name) => join(folder, name));
    const imported = await jsonOf(runfold('import', 'openlineage', ...paths, '--org', 'real', '--json'));
    expect(importSchema.parse(imported)).toMatchObject({ events: 259, runs: 121, rejected_total: 0 });
    const tables = () => jsonOf(runfold('tables', '--org', 'real', '--json'));
    const before = tablesSchema.parse(await tables());
    await jsonOf(runfold('compact', '--json'));
    await jsonOf(runfold('compact', '--org', 'real', '--json', '--codec', 'parquetjs'));
    expect(await tables()).toEqual(before);
    const verified = verifySchema.parse(await jsonOf(runfold('verify', '--all', '--json')));
    expect(verified).toMatchObject({ ok: true, problems: [] });
  },
);
