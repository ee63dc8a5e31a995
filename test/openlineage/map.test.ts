import { describe, expect, it } from 'vitest';
import { parseEvent, parseTime } from '../../src/openlineage/event.ts';
import { mapRunEvent } from '../../src/openlineage/map.ts';
import { messageOf } from './support.ts';

const base = {
  eventType: 'START',
  eventTime: '2024-12-17T12:00:00Z',
  run: { runId: 'r1' },
  job: { namespace: 'ns', name: 'job' },
  producer: 'https://github.com/OpenLineage/OpenLineage/tree/1.2.3/integration/spark',
};

function mapped(more: object) {
  const parsed = parseEvent({ ...base, ...more });
  if (parsed.type !== 'run') throw new Error(JSON.stringify(parsed));
  return mapRunEvent(parsed.event).observation;
}

const job = (facets: object) => ({ job: { ...base.job, facets } });
const outputs = (...list: object[]) => ({
  outputs: list.map((more, i) => ({ namespace: 'n', name: `t${i}`, ...more })),
});
const statistics = (facet: object) => ({ outputFacets: { outputStatistics: facet } });
const version = (datasetVersion: unknown) => ({ facets: { version: { datasetVersion } } });

describe('mapping of run events', () => {
  it.each<[string, object, object]>([
    ['time to ms', {}, { at: Date.UTC(2024, 11, 17, 12) }],
    ['START', {}, { phase: 'start' }],
    ['RUNNING', { eventType: 'RUNNING' }, { phase: 'running' }],
    ['COMPLETE', { eventType: 'COMPLETE' }, { phase: 'success' }],
    ['FAIL', { eventType: 'FAIL' }, { phase: 'failure' }],
    ['ABORT', { eventType: 'ABORT' }, { phase: 'abort' }],
    ['OTHER', { eventType: 'OTHER' }, { phase: 'other' }],
    ['no type', { eventType: undefined }, { phase: 'other' }],
    ['null type', { eventType: null }, { phase: 'other' }],
    ['lower case type', { eventType: 'complete' }, { phase: 'success' }],
    ['no jobType: no word on the kind', {}, { kind: null }],
    [
      'jobType',
      job({ jobType: { jobType: 'MODEL', integration: 'DBT' } }),
      { kind: 'model', source_type: 'dbt' },
    ],
    [
      'jobType without jobType',
      job({ jobType: { integration: 'SPARK' } }),
      { kind: null, source_type: 'spark' },
    ],
    ['deleted jobType', job({ jobType: { _deleted: true, jobType: 'MODEL' } }), { kind: null }],
    ['undeleted jobType', job({ jobType: { _deleted: null, jobType: 'MODEL' } }), { kind: 'model' }],
    [
      'malformed jobType',
      job({ jobType: { jobType: 7, integration: ['x'] } }),
      { kind: null, source_type: 'spark' },
    ],
    ['facets that are none', job('x' as never), { kind: null }],
    ['a facet that is null', job({ jobType: null }), { kind: null }],
    ['producer without integration', { producer: 'https://example.org/x' }, { source_type: null }],
    ['no producer', { producer: undefined }, { source_type: null }],
    ['reference', {}, { reference_id: 'ns/job' }],
    ['code version', job({ sourceCodeLocation: { version: 'abc' } }), { code_version: 'abc' }],
    [
      'engine version is not code',
      { run: { runId: 'r1', facets: { processing_engine: { version: '3' } } } },
      { code_version: null },
    ],
    [
      'error',
      { run: { runId: 'r1', facets: { errorMessage: { message: 'no', programmingLanguage: 'sql' } } } },
      { error: { code: null, message: 'no' } },
    ],
    [
      'error without message',
      { run: { runId: 'r1', facets: { errorMessage: { message: 5 } } } },
      { error: null },
    ],
    [
      'error cut in a character',
      { run: { runId: 'r1', facets: { errorMessage: { message: 'x\ud83d' } } } },
      { error: { code: null, message: 'x\ufffd' } },
    ],
    [
      'statistics are summed',
      outputs(statistics({ rowCount: 2, size: 10 }), statistics({ rowCount: 3 }), {}),
      { rows: 5, bytes: 10 },
    ],
    ['statistics of zero', outputs(statistics({ rowCount: 0, size: 0 })), { rows: 0, bytes: 0 }],
    [
      'statistics that are text',
      outputs(statistics({ rowCount: '7', size: -1 })),
      { rows: null, bytes: null },
    ],
    [
      'sums beyond 2^53',
      outputs(statistics({ size: 2 ** 53 - 1 }), statistics({ size: 5 })),
      { bytes: null },
    ],
    ['version of the last output', outputs(version('1'), version('2')), { version: '2' }],
    ['no version on the last output', outputs(version('1'), {}), { version: null }],
    ['null datasets', { inputs: null, outputs: null }, { inputs: [], outputs: [] }],
    [
      'a dataset without namespace',
      { inputs: [{ name: 'jdbc' }] },
      { inputs: [{ namespace: '', name: 'jdbc' }] },
    ],
    [
      'datasets in order',
      outputs({}, {}),
      {
        outputs: [
          { namespace: 'n', name: 't0' },
          { namespace: 'n', name: 't1' },
        ],
      },
    ],
  ])('%s', (_name, more, expected) => {
    expect(mapped(more)).toMatchObject(expected);
  });

  it('cuts a boundless error message, visibly', () => {
    const message = 'x'.repeat(100_000);
    const { error } = mapped({ run: { runId: 'r1', facets: { errorMessage: { message } } } });
    expect(error!.message).toHaveLength(65_536);
    expect(error!.message.endsWith('x…')).toBe(true);
  });

  it('refuses names beyond the limit, naming the run', () => {
    expect(messageOf(() => mapped({ inputs: [{ namespace: 'n', name: 'x'.repeat(3_000) }] }))).toBe(
      'Run r1: inputs[0].name is longer than 2048 characters.',
    );
    expect(messageOf(() => mapped({ job: { namespace: 'x'.repeat(2_040), name: 'a long name' } }))).toMatch(
      /^Run r1: reference_id is longer/,
    );
  });

  it('ignores what it does not know, __proto__ included', () => {
    const event = JSON.parse(`{"__proto__":{"x":1},"new":[],${JSON.stringify(base).slice(1)}`);
    expect(parseEvent(event).type).toBe('run');
    expect(({} as { x?: number }).x).toBeUndefined();
  });
});

describe('kinds of event', () => {
  const { run: _run, ...jobEvent } = base;
  const { job: _job, ...datasetEvent } = jobEvent;
  it.each<[string, unknown, string]>([
    ['run', base, 'run'],
    ['job', jobEvent, 'job'],
    ['job with a null run', { ...base, run: null }, 'job'],
    ['dataset', { ...datasetEvent, dataset: { namespace: 'n', name: 't' } }, 'dataset'],
    ['run wins', { ...base, dataset: { namespace: 'n', name: 't' } }, 'run'],
  ])('%s', (_name, event, type) => {
    expect(parseEvent(event).type).toBe(type);
  });

  it.each<[string, unknown, RegExp]>([
    ['a number', 5, /^the event is not a JSON object$/],
    ['null', null, /not a JSON object/],
    ['an array', [base], /not a JSON object/],
    ['nothing in it', {}, /^run, job and dataset are all missing$/],
    ['no eventTime', { ...base, eventTime: undefined }, /^eventTime is missing$/],
    ['a number as eventTime', { ...base, eventTime: 1 }, /^eventTime is not a string$/],
    [
      'words as eventTime',
      { ...base, eventTime: 'yesterday' },
      /^eventTime is not an ISO 8601 time .*"yesterday"$/,
    ],
    ['another type', { ...base, eventType: 'PAUSED' }, /^eventType is not one of START, RUNNING/],
    ['a number as type', { ...base, eventType: 3 }, /^eventType is not a string$/],
    ['run without id', { ...base, run: {} }, /^run\.runId is missing$/],
    ['run that is text', { ...base, run: 'r1' }, /^run is not an object$/],
    [
      'run id with ../',
      { ...base, run: { runId: '../../etc' } },
      /^run\.runId is not usable: .*contains "\.\."/,
    ],
    ['run id with a slash', { ...base, run: { runId: 'a/b' } }, /^run\.runId is not usable/],
    ['empty run id', { ...base, run: { runId: '' } }, /^run\.runId is not usable: .*is empty/],
    ['run without job', { ...base, job: undefined }, /^job is missing$/],
    ['job without name', { ...base, job: { namespace: 'n' } }, /^job\.name is missing$/],
    ['job without namespace', { ...jobEvent, job: { name: 'n' } }, /^job\.namespace is missing$/],
    ['outputs that are an object', { ...base, outputs: {} }, /^outputs is not an array$/],
    ['an output that is text', { ...base, outputs: ['t'] }, /^outputs\.0 is not an object$/],
    ['an output without name', { ...base, outputs: [{ namespace: 'n' }] }, /^outputs\.0\.name is missing$/],
    [
      'an output with an empty name',
      { ...base, outputs: [{ namespace: 'n', name: '' }] },
      /outputs\.0\.name is empty/,
    ],
    ['a dataset without name', { ...datasetEvent, dataset: {} }, /^dataset\.name is missing$/],
    ['many problems', { ...base, eventTime: 1, outputs: [1, 2, 3] }, /; and 1 more$/],
  ])('refuses %s', (_name, event, reason) => {
    const parsed = parseEvent(event);
    expect(parsed.type === 'rejected' ? parsed.reason : parsed.type).toMatch(reason);
  });
});

describe('times', () => {
  const noon = Date.UTC(2024, 11, 17, 12);
  it.each<[string, number | null]>([
    ['2024-12-17T12:00:00Z', noon],
    ['2024-12-17t12:00:00z', noon],
    ['2024-12-17 12:00:00Z', noon],
    ['2024-12-17T12:00:00.5Z', noon + 500],
    ['2024-12-17T12:00:00.123456Z', noon + 123],
    ['2024-12-17T12:00:00.123999999+00:00', noon + 123],
    ['2024-12-17T14:30:00+02:30', noon],
    ['2024-12-17T07:00:00.000-0500', noon],
    ['2024-12-17T13:00:00+01', noon],
    ['2024-12-18T00:00:00+12:00', noon],
    ['2024-12-17T12:00:00', noon],
    ['2024-12-17T12:00Z', noon],
    ['2024-12-17T11:59:60Z', noon],
    ['1970-01-01T00:00:00Z', 0],
    ['1970-01-01T00:00:00+01:00', null],
    ['1969-12-31T23:59:59Z', null],
    ['0024-12-17T12:00:00Z', null],
    ['2024-02-30T12:00:00Z', null],
    ['2024-13-01T12:00:00Z', null],
    ['2024-12-17T25:00:00Z', null],
    ['2024-12-17', null],
    ['1734436800000', null],
    ['12/17/2024', null],
    ['any-string', null],
    ['', null],
  ])('%s', (text, expected) => {
    expect(parseTime(text)).toBe(expected);
  });
});
