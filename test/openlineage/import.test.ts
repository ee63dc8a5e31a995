import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { openEventFiles } from '../../src/cli/read-events.ts';
import { InputError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { importEvents } from '../../src/openlineage/import.ts';
import { readJson, type SourceEvent } from '../../src/openlineage/read.ts';
import { sharedFile, sharedMissing } from '../support/shared.ts';
import { collect, FakeRecorder, sourceOf } from './support.ts';

const missing = sharedMissing('data', 'openlineage');

describe.skipIf(missing !== null)(`real events${missing === null ? '' : ` (skipped: ${missing})`}`, () => {
  const files: [file: string, counts: object, statuses: Record<string, number>][] = [
    ['marquez-seed', { events: 26, run_events: 26, runs: 13 }, { SUCCEEDED: 13 }],
    ['dbt-postgres-build', { events: 186, run_events: 186, runs: 93 }, { SUCCEEDED: 91, FAILED: 2 }],
    ['dbt-postgres-failed-run', { events: 8, run_events: 8, runs: 4 }, { SUCCEEDED: 1, FAILED: 3 }],
    ['spark-samples', { events: 39, run_events: 11, job_events: 28, runs: 11 }, { SUCCEEDED: 2, RUNNING: 9 }],
  ];

  it.each(files)('%s: counts and statuses', async (file, counts, statuses) => {
    const recorder = new FakeRecorder();
    const { events } = await openEventFiles([path(file)]);
    const report = await importEvents({ source: events, orgId: 'acme', record: recorder.record });
    expect(report).toMatchObject({ ...counts, rejected_total: 0, rejected: [], dataset_events: 0 });
    expect(report.changed).toBe(report.runs);
    // One write per run, however many events.
    expect(recorder.writes).toBe(report.runs);
    const counted: Record<string, number> = {};
    for (const { status } of Object.values(recorder.runs())) counted[status] = (counted[status] ?? 0) + 1;
    expect(counted).toEqual(statuses);
  });

  it.each(files)('%s: the same runs in any order, with repeats, in windows of any size', async (file) => {
    const items = await collect((await openEventFiles([path(file)])).events);
    const straight = await importAll(items);
    expect(await importAll([...items].reverse())).toEqual(straight);
    expect(await importAll(items, 1)).toEqual(straight);
    for (let seed = 1; seed <= 10; seed++) {
      expect(await importAll(shuffled([...items, ...items, ...items], seed), seed), `seed ${seed}`).toEqual(
        straight,
      );
    }
  });

  it('changes nothing the second time, and reads the same from one JSON array', async () => {
    const recorder = new FakeRecorder();
    const paths = files.map(([file]) => path(file));
    const run = async () =>
      importEvents({ source: (await openEventFiles(paths)).events, orgId: 'acme', record: recorder.record });
    const first = await run();
    const runs = recorder.runs();
    const second = await run();
    expect(second).toEqual({ ...first, changed: 0, unchanged: first.runs });
    const texts = await Promise.all(paths.map((p) => readFile(p, 'utf8')));
    const lines = texts.flatMap((text) => text.split('\n').filter((line) => line !== ''));
    const array = readJson('array', bytesOf(`[${lines.join(',\n')}]`));
    expect(await importEvents({ source: array, orgId: 'acme', record: recorder.record })).toEqual(second);
    expect(recorder.runs()).toEqual(runs);
  });

  it('maps what the files say', async () => {
    const recorder = new FakeRecorder();
    const paths = files.map(([file]) => path(file));
    await importEvents({
      source: (await openEventFiles(paths)).events,
      orgId: 'acme',
      record: recorder.record,
    });
    const runs = Object.values(recorder.runs());
    expect(new Set(runs.map(({ kind }) => kind))).toEqual(
      new Set(['job', 'sql', 'seed', 'model', 'snapshot', 'test']),
    );
    expect(
      runs.find(({ reference_id }) => reference_id === 'food_delivery/delivery_times_7_days'),
    ).toMatchObject({
      kind: 'job',
      payload: { target_namespace: 'food_delivery', target_table: 'public.discounts', source_type: null },
      inputs: [{ namespace: 'food_delivery', name: 'public.delivery_7_days' }],
      finished_at: Date.UTC(2026, 10, 2, 0, 27),
    });
    const failed = runs.filter(({ status }) => status === 'FAILED');
    expect(failed.every(({ error }) => error !== null && error.message.length > 0)).toBe(true);
    expect(runs.some(({ payload }) => payload.target_namespace === 'postgres://postgres:5432')).toBe(true);
  });

  const path = (file: string) => sharedFile('data', 'openlineage', `${file}.ndjson`);
});

describe('import', () => {
  const event = (runId: string, more: object = {}) => ({
    eventType: 'START',
    eventTime: '2024-12-17T12:00:00Z',
    run: { runId },
    job: { namespace: 'ns', name: 'job' },
    ...more,
  });

  it('rejects what is broken, by file and line, and imports the rest', async () => {
    const recorder = new FakeRecorder();
    const { run: _, ...jobEvent } = event('x');
    const text = [
      JSON.stringify(event('r1')),
      '{"eventType": ',
      '[]',
      JSON.stringify(event('../up')),
      JSON.stringify({ ...event('r2'), eventTime: undefined }),
      '',
      JSON.stringify(jobEvent),
      JSON.stringify(event('r3', { inputs: [{ namespace: 'n', name: 'x'.repeat(5_000) }] })),
      JSON.stringify({ eventTime: '2024-12-17T12:00:00Z', dataset: { namespace: 'n', name: 't' } }),
      `{"padding":"${'x'.repeat(10_000)}"}`,
      JSON.stringify(event('r1', { eventType: 'COMPLETE' })),
    ].join('\n');
    const report = await importEvents({
      source: readJson('f.ndjson', bytesOf(text), 9_000),
      orgId: 'acme',
      record: recorder.record,
    });
    expect(report).toMatchObject({ events: 10, run_events: 2, job_events: 1, dataset_events: 1, runs: 1 });
    expect(report.rejected_total).toBe(6);
    expect(report.rejected).toEqual([
      { file: 'f.ndjson', line: 2, reason: expect.stringMatching(/^it is not JSON/) },
      { file: 'f.ndjson', line: 3, reason: 'the event is not a JSON object' },
      { file: 'f.ndjson', line: 4, reason: expect.stringMatching(/^run\.runId is not usable/) },
      { file: 'f.ndjson', line: 5, reason: 'eventTime is missing' },
      { file: 'f.ndjson', line: 8, reason: 'Run r3: inputs[0].name is longer than 2048 characters.' },
      { file: 'f.ndjson', line: 10, reason: 'the event is longer than 9000 bytes' },
    ]);
    expect(recorder.runs()).toMatchObject({ r1: { status: 'SUCCEEDED' } });
  });

  it('loses only the events that do not fit when a run cannot take them all', async () => {
    const recorder = new FakeRecorder();
    const outputs = (from: number) =>
      Array.from({ length: 600 }, (_, i) => ({ namespace: 'n', name: `t${from + i}` }));
    const source = sourceOf([
      event('r1', { outputs: outputs(0) }),
      event('r1', { outputs: outputs(600) }),
      event('r1', { eventType: 'FAIL' }),
    ]);
    const report = await importEvents({ source, orgId: 'acme', record: recorder.record });
    expect(report).toMatchObject({ run_events: 2, runs: 1, changed: 1, unchanged: 0, rejected_total: 1 });
    expect(report.rejected[0]).toMatchObject({
      line: 2,
      reason: 'Run r1 has 1200 outputs; the limit is 1000.',
    });
    expect(recorder.runs().r1).toMatchObject({ status: 'FAILED' });
  });

  it('counts a run once over several windows', async () => {
    const recorder = new FakeRecorder();
    const ids = ['a', 'b', 'a', 'c', 'b', 'a'];
    const events = ids.map((id, i) => event(id, i === 4 ? { eventType: 'ABORT' } : {}));
    const options = { orgId: 'acme', record: recorder.record, limits: { windowEventsMax: 2 } };
    const first = await importEvents({ source: sourceOf(events), ...options });
    expect(first).toMatchObject({ run_events: 6, runs: 3, changed: 3, unchanged: 0 });
    const again = await importEvents({
      source: sourceOf([...events, event('a', { eventType: 'FAIL' })]),
      ...options,
    });
    expect(again).toMatchObject({ runs: 3, changed: 1, unchanged: 2 });
  });

  it('holds no more than a window, by events and by datasets, and writes at most so many runs at once', async () => {
    let [taken, written, running, runningMax] = [0, 0, 0, 0];
    const ahead: number[] = [];
    const source = function* () {
      for (const item of sourceOf(Array.from({ length: 500 }, (_, i) => event(`r${i}`)))) {
        ahead.push(taken++ - written);
        yield item;
      }
    };
    const record = async () => {
      runningMax = Math.max(runningMax, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      written++;
      return 'changed' as const;
    };
    await importEvents({
      source: source(),
      orgId: 'acme',
      record,
      limits: { windowEventsMax: 50, parallelMax: 8 },
    });
    expect([written, runningMax]).toEqual([500, 8]);
    expect(Math.max(...ahead)).toBeLessThanOrEqual(50);

    const recorder = new FakeRecorder();
    const heavy = event('r1', { inputs: [{ name: 'a' }, { name: 'b' }] });
    const options = { orgId: 'acme', record: recorder.record, limits: { windowDatasetsMax: 2 } };
    await importEvents({ source: sourceOf([heavy, { ...heavy, eventType: 'FAIL' }]), ...options });
    expect(recorder.writes).toBe(2);
  });

  it('tells a bounded number of rejections one by one, in order, and counts them all', async () => {
    const record = async (_org: string, run: string) => {
      throw new InputError(`no ${run}`);
    };
    const source = sourceOf([{}, event('a'), event('b'), {}, {}, {}]);
    const report = await importEvents({ source, orgId: 'acme', record, limits: { rejectedMax: 5 } });
    expect(report).toMatchObject({ events: 6, rejected_total: 6, runs: 0 });
    expect(report.rejected.map(({ line }) => line)).toEqual([1, 2, 4, 5, 6]);
  });

  it('stops at the first failure of the store, and when it is aborted', async () => {
    const source = sourceOf([event('a'), event('b')]);
    const broken = async () => {
      throw new Error('the store is gone');
    };
    await expect(importEvents({ source, orgId: 'acme', record: broken })).rejects.toThrowError(
      'the store is gone',
    );
    const stop = new AbortController();
    stop.abort();
    const { record } = new FakeRecorder();
    await expect(importEvents({ source, orgId: 'acme', record, signal: stop.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });

  it('outlives deep nesting and wrong types anywhere', async () => {
    const recorder = new FakeRecorder();
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    const good = JSON.stringify(event('r1')).slice(0, -1);
    const text = [
      `${good},"custom":${deep}}`,
      `${good},"inputs":${deep}}`,
      `${good},"outputs":[{"namespace":1,"name":"x"}]}`,
      `${good},"eventTime":{}}`,
    ].join('\n');
    const report = await importEvents({
      source: readJson('f', bytesOf(text)),
      orgId: 'acme',
      record: recorder.record,
    });
    expect(report).toMatchObject({ run_events: 1, rejected_total: 3 });
    expect(report.rejected.map(({ reason }) => reason)).toEqual([
      'inputs.0 is not an object',
      'outputs.0.namespace is not a string',
      'eventTime is not a string',
    ]);
  });
});

async function importAll(source: readonly SourceEvent[], windowEventsMax = 10_000) {
  const recorder = new FakeRecorder();
  await importEvents({ source, orgId: 'acme', record: recorder.record, limits: { windowEventsMax } });
  return recorder.runs();
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = seededRandom(seed);
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = random.u32() % (i + 1);
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
