import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { expired, transition } from '../../src/runs/lifecycle.ts';
import { type Observation, observe } from '../../src/runs/observe.ts';
import { decodeRun, encodeRun, type Run } from '../../src/runs/run.ts';
import { must } from '../support/runs.ts';
import { observeAll, unrevised } from './support.ts';

const identity = { org_id: 'acme', run_id: 'r1' };

// Few values and few times, so that ties and collisions are the rule.
const time = fc.integer({ min: 1, max: 4 });
const word = fc.constantFrom('a', 'b', 'c');
const error = fc.record({ code: fc.constantFrom(null, 'x'), message: word });
const dataset = fc.record({ namespace: fc.constantFrom('', 'postgres://host:5432'), name: word });
const datasets = fc.array(dataset, { maxLength: 4 });
const said = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const observation: fc.Arbitrary<Observation> = fc.record({
  at: time,
  phase: fc.constantFrom('start', 'running', 'success', 'failure', 'abort', 'other'),
  kind: said(word),
  reference_id: said(word),
  source_type: said(word),
  code_version: said(word),
  error: said(error),
  rows: said(fc.nat(3)),
  bytes: said(fc.nat(3)),
  version: said(word),
  inputs: datasets,
  outputs: datasets,
});
const unique = (list: { namespace: string; name: string }[]) => [
  ...new Map(list.map((d) => [JSON.stringify([d.namespace, d.name]), d])).values(),
];

/** A run as workers leave it: any status, with or without words of its own. */
const ofWorkers: fc.Arbitrary<Run> = fc
  .record({
    status: fc.constantFrom(
      'QUEUED',
      'RUNNING',
      'CANCELLING',
      'SUCCEEDED',
      'FAILED',
      'CANCELLED',
      'TIMED_OUT',
    ),
    attempt: fc.integer({ min: 1, max: 2 }),
    error: said(error),
    code_version: said(word),
    result: said(
      fc.record({ uri: said(word), rows: said(fc.nat(3)), bytes: said(fc.nat(3)), version: said(word) }),
    ),
    inputs: datasets.map(unique),
    outputs: datasets.map(unique),
  })
  .map((fields) => ({ ...workersRun(), ...fields }) as Run);

const shuffledWithRepeats = fc.array(observation, { minLength: 1, maxLength: 7 }).chain((list) =>
  fc.tuple(
    fc.constant(list),
    fc
      .array(fc.constantFrom(...list), { maxLength: 5 })
      .chain((repeats) =>
        fc.shuffledSubarray([...list, ...repeats], { minLength: list.length + repeats.length }),
      ),
  ),
);

describe('observe: commutative, associative and idempotent (law 1 for events)', () => {
  it.each([
    ['a run that events create', fc.constant(null)],
    ['a run of the workers', ofWorkers],
  ])('%s ends the same in every order, with repeats', (_name, base: fc.Arbitrary<Run | null>) => {
    fc.assert(
      fc.property(base, shuffledWithRepeats, (run, [list, shuffled]) => {
        const straight = observeAll(run, 'acme', 'r1', list).run!;
        const otherwise = observeAll(run, 'acme', 'r1', shuffled).run!;
        expect(unrevised(otherwise)).toEqual(unrevised(straight));
        expect(JSON.stringify(otherwise)).toBe(JSON.stringify(straight));
      }),
      { numRuns: 2_000 },
    );
  });

  it('says "unchanged" and gives back the same object for what a run knows', () => {
    fc.assert(
      fc.property(fc.oneof(fc.constant(null), ofWorkers), shuffledWithRepeats, (base, [list, shuffled]) => {
        const { run } = observeAll(base, 'acme', 'r1', list);
        const again = observeAll(run, 'acme', 'r1', shuffled);
        expect(again.changed).toBe(false);
        expect(again.run).toBe(run);
      }),
      { numRuns: 1_000 },
    );
  });

  it('survives the way through the stored bytes at every step, unknown fields included', () => {
    fc.assert(
      fc.property(fc.array(observation, { minLength: 1, maxLength: 5 }), (list) => {
        let stored: Run | null = null;
        for (const one of list) {
          const { run } = observe(stored, identity, one);
          stored = decodeRun(
            'k',
            encodeRun({ ...run, future: 1, observed: { ...run.observed!, future: 2 } }),
          );
        }
        const { run } = observeAll(null, 'acme', 'r1', list);
        expect(stored).toEqual({ ...run, future: 1, observed: { ...run!.observed, future: 2 } });
      }),
    );
  });

  it('never moves the lifecycle of a run of the workers', () => {
    fc.assert(
      fc.property(ofWorkers, fc.array(observation, { minLength: 1 }), (base, list) => {
        const { run } = observeAll(base, 'acme', 'r1', list);
        const {
          inputs: _i,
          outputs: _o,
          result: _r,
          error: _e,
          code_version: _c,
          observed: _b,
          ...kept
        } = run!;
        expect(base).toMatchObject(kept);
        expect(run!.outputs.slice(0, base.outputs.length)).toEqual(base.outputs);
        if (base.error !== null) expect(run!.error).toEqual(base.error);
        if (base.result !== null) expect(run!.result).toEqual(base.result);
      }),
    );
  });
});

describe('observe: the lifecycle of a run that only events know', () => {
  const at = (ms: number, phase: Observation['phase'], more: Partial<Observation> = {}): Observation => ({
    at: ms,
    phase,
    inputs: [],
    outputs: [],
    ...more,
  });
  it.each<[string, Observation[], Partial<Run>]>([
    ['typeless only', [at(5, 'other')], { status: 'QUEUED', created_at: 5, updated_at: 5, started_at: null }],
    ['RUNNING without START', [at(5, 'running')], { status: 'RUNNING', started_at: 5, finished_at: null }],
    [
      'OTHER, then START',
      [at(1, 'other'), at(5, 'start')],
      { status: 'RUNNING', created_at: 1, started_at: 5 },
    ],
    ['COMPLETE alone', [at(7, 'success')], { status: 'SUCCEEDED', started_at: null, finished_at: 7 }],
    ['FAIL', [at(1, 'start'), at(7, 'failure')], { status: 'FAILED', started_at: 1, finished_at: 7 }],
    ['ABORT', [at(7, 'abort')], { status: 'CANCELLED', finished_at: 7 }],
    [
      'after the end',
      [at(7, 'success'), at(9, 'other'), at(8, 'running')],
      { status: 'SUCCEEDED', updated_at: 9 },
    ],
    ['the later of two ends', [at(7, 'success'), at(8, 'failure')], { status: 'FAILED', finished_at: 8 }],
    ['a FAIL that comes late', [at(8, 'success'), at(7, 'failure')], { status: 'SUCCEEDED', finished_at: 8 }],
    ['two ends at once', [at(7, 'failure'), at(7, 'success'), at(7, 'abort')], { status: 'FAILED' }],
  ])('%s', (_name, observations, expected) => {
    expect(observeAll(null, 'acme', 'r1', observations).run).toMatchObject(expected);
  });

  it('takes the last output as the table, ordered by first sight', () => {
    const [a, b, c] = ['a', 'b', 'c'].map((name) => ({ namespace: 'postgres://h:5432', name })) as never[];
    const { run } = observeAll(null, 'acme', 'r1', [
      at(2, 'success', { outputs: [c!, a!] }),
      at(1, 'start', { outputs: [b!, a!], inputs: [c!] }),
    ]);
    expect(run).toMatchObject({ outputs: [b, a, c], inputs: [c] });
    expect(run!.payload).toMatchObject({ target_namespace: 'postgres://h:5432', target_table: 'c' });
    const none = observeAll(null, 'acme', 'r1', [at(1, 'start', { inputs: [a!] })]);
    expect(none.run!.payload).toMatchObject({ target_namespace: null, target_table: null });
  });

  it('resolves each scalar and each figure by the time of the event that says it', () => {
    const { run } = observeAll(null, 'acme', 'r1', [
      at(3, 'success', { rows: 7, kind: null }),
      at(2, 'running', { rows: 5, bytes: 9, kind: 'model' }),
      at(1, 'start', { kind: 'query', source_type: 'dbt', error: { code: null, message: 'late' } }),
    ]);
    expect(run).toMatchObject({ kind: 'model', error: { message: 'late' } });
    expect(run!.result).toEqual({ uri: null, rows: 7, bytes: 9, version: null });
    expect(observeAll(null, 'acme', 'r1', [at(1, 'start')]).run).toMatchObject({ kind: 'job', result: null });
  });

  it('leaves a run alone once somebody moved it through the lifecycle', () => {
    const { run } = observe(null, identity, at(1, 'start'));
    const forced: Run = {
      ...run,
      status: 'FAILED',
      finished_at: 50,
      error: { code: 'x', message: 'forced' },
    };
    const later = observe(
      forced,
      identity,
      at(60, 'success', { error: { code: null, message: 'event' }, rows: 4 }),
    );
    expect(later.run).toMatchObject({ status: 'FAILED', finished_at: 50, error: { message: 'forced' } });
    expect(later.run.result).toMatchObject({ rows: 4 });
    expect(later.run.observed!.status).toBeNull();
  });

  it('lets events end a run whose cancel was asked for', () => {
    const { run } = observe(null, identity, at(1, 'start'));
    const asked: Run = { ...run, status: 'CANCELLING', cancel_requested_at: 50, updated_at: 50 };
    const running = observe(asked, identity, at(40, 'running')).run;
    expect(running).toMatchObject({ status: 'CANCELLING', updated_at: 50, finished_at: null });
    expect(observe(running, identity, at(60, 'abort')).run).toMatchObject({
      status: 'CANCELLED',
      finished_at: 60,
    });
    const forced: Run = { ...running, status: 'CANCELLED', finished_at: 55 };
    expect(observe(forced, identity, at(60, 'failure')).run).toMatchObject({
      status: 'CANCELLED',
      finished_at: 55,
    });
  });

  it('does not bring back what a retry has cleared', () => {
    const own = observe(
      workersRun(),
      identity,
      at(1, 'failure', { error: { code: null, message: 'first' } }),
    ).run;
    expect(own).toMatchObject({ status: 'RUNNING', error: { message: 'first' } });
    const retried: Run = { ...own, attempt: 2, error: null };
    const next = observe(retried, identity, at(2, 'running', { rows: 1 })).run;
    expect(next).toMatchObject({ error: null, result: { rows: 1 } });
  });
});

describe('a create that comes after events', () => {
  const ask: RunEvent = {
    type: 'create',
    orgId: 'acme',
    input: {
      run_id: 'r1',
      queue: 'q',
      heartbeat_timeout_ms: 1_000,
      outputs: [{ namespace: 'n', name: 'own' }],
    },
    fingerprint: 'f',
  };
  const say = (at: number, phase: Observation['phase'], more: Partial<Observation> = {}): Observation => ({
    at,
    phase,
    inputs: [],
    outputs: [{ namespace: 'n', name: 'seen' }],
    ...more,
  });

  it('takes the run over: its words first, the events added, status and times as they are', () => {
    const begun = observe(null, identity, say(50, 'start', { kind: 'model', reference_id: 'ns/job' })).run;
    const run = must({ ...begun, revision: 3 }, ask, 1_000);
    expect(run).toMatchObject({
      revision: 4,
      status: 'RUNNING',
      created_at: 50,
      started_at: 50,
      heartbeat_at: 1_000,
      kind: 'model',
      reference_id: 'ns/job',
      queue: 'q',
      fingerprint: 'f',
      observed: { status: null },
    });
    expect(run.outputs.map(({ name }) => name)).toEqual(['own', 'seen']);
    expect(expired(run, 1_900)).toBeNull();
    expect(expired(run, 2_100)).toBe('heartbeat');
    // A repeat is one; another request is refused.
    expect(transition(run, ask, 2_000)).toMatchObject({ outcome: 'same' });
    expect(transition(run, { ...ask, fingerprint: 'g' }, 2_000)).toMatchObject({
      code: 'RUN_ALREADY_EXISTS',
    });
    // From here on it is the workers' alone, as in the other order.
    const after = observe(run, identity, say(60, 'success', { rows: 3 })).run;
    expect(after).toMatchObject({ status: 'RUNNING', finished_at: null, result: { rows: 3 } });
    expect(must(after, { type: 'started', attempt: 1 }, 3_000)).toBe(after);
  });

  it('gives in both orders the same datasets, figures and words of the request', () => {
    fc.assert(
      fc.property(fc.array(observation, { minLength: 1, maxLength: 6 }), (list) => {
        const first = observeAll(must(null, ask, 1_000), 'acme', 'r1', list).run!;
        const last = must(observeAll(null, 'acme', 'r1', list).run, ask, 1_000);
        const common = ({ inputs, outputs, result, error, code_version, queue, observed }: Run) => ({
          inputs,
          outputs,
          result,
          error,
          code_version,
          queue,
          observed,
        });
        expect(common(last)).toEqual(common(first));
      }),
    );
  });

  it('does not bring back a run that has ended, nor take one that somebody else has moved or made', () => {
    const ended = observe(null, identity, say(50, 'success')).run;
    expect(must(ended, ask, 1_000)).toMatchObject({ status: 'SUCCEEDED', finished_at: 50, queue: 'q' });
    const failed = observe(null, identity, say(50, 'failure')).run;
    const retried = must(failed, { type: 'retry', attempt: 1 }, 900);
    for (const run of [retried, must(null, { ...ask, fingerprint: 'other' }, 900)]) {
      expect(transition(run, ask, 1_000)).toMatchObject({ outcome: 'refused', code: 'RUN_ALREADY_EXISTS' });
    }
    const asked = must(observe(null, identity, say(50, 'start')).run, { type: 'cancel' }, 900);
    expect(must(asked, ask, 1_000)).toMatchObject({ status: 'CANCELLING', cancel_requested_at: 900 });
  });
});

describe('observe: limits', () => {
  const many = (count: number, prefix = 't') =>
    Array.from({ length: count }, (_, i) => ({ namespace: 'n', name: `${prefix}${i}` }));
  const say = (more: Partial<Observation>): Observation => ({
    at: 1,
    phase: 'other',
    inputs: [],
    outputs: [],
    ...more,
  });
  const tight = limits({ datasetsMax: 3, textLengthMax: 10 });

  it.each<[string, Partial<Observation>, RegExp]>([
    ['too many datasets in one event', { outputs: many(4) }, /Run r1 has 4 outputs; the limit is 3/],
    [
      'a long name',
      { inputs: [{ namespace: '', name: 'x'.repeat(11) }] },
      /Run r1: inputs\[0\]\.name is longer than 10/,
    ],
    ['a long namespace', { outputs: [{ namespace: 'x'.repeat(11), name: 'x' }] }, /outputs\[0\]\.namespace/],
    ['a long kind', { kind: 'x'.repeat(11) }, /kind is longer/],
    ['half a character', { reference_id: '\ud83d' }, /reference_id holds half a surrogate pair/],
  ])('refuses %s, naming the run', (_name, more, message) => {
    expect(() => observe(null, identity, say(more), tight)).toThrowError(message);
  });

  it('refuses what makes the union too long, for both kinds of run', () => {
    const first = observe(null, identity, say({ outputs: many(2) }), tight).run;
    expect(() => observe(first, identity, say({ outputs: many(2, 'u') }), tight)).toThrowError(
      /has 4 outputs/,
    );
    const own: Run = { ...workersRun(), inputs: many(2) };
    expect(() => observe(own, identity, say({ inputs: many(2, 'u') }), tight)).toThrowError(/has 4 inputs/);
    expect(observe(own, identity, say({ inputs: many(2) }), tight).changed).toBe(false);
  });
});

function workersRun(): Run {
  const base = observe(null, identity, { at: 10, phase: 'start', inputs: [], outputs: [] }).run;
  return { ...base, observed: null, queue: 'q', fingerprint: 'f', heartbeat_at: 12, reference_id: 'ref' };
}
