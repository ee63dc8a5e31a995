import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { fingerprintOf, Recorder } from '../../src/runs/recorder.ts';
import { runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { FakeClock, START } from '../support/fake-clock.ts';
import { type Around, intercept } from '../support/intercept.ts';
import { dataset, ORG } from '../support/runs.ts';

const KEY = runKey(ORG, 'r1');
const error = { code: null, message: 'it broke' };

/** A recorder whose requests and records end up in one list, in the order in which they happened. */
function setup(around: Around = (_, go) => go()) {
  const clock = new FakeClock();
  const memory = new MemoryStore({ clock });
  const steps: string[] = [];
  const records: LogRecord[] = [];
  const store = intercept(memory, (call, go) => {
    steps.push(call.operation === 'put' ? 'write' : 'read');
    return around(call, go);
  });
  const log = {
    async append(_: string, some: readonly LogRecord[]) {
      for (const record of some) {
        steps.push(record.kind);
        records.push(record);
      }
    },
  };
  const bounds = limits({ contentionRoundsMax: 4 });
  const recorder = new Recorder(new ObjectRunStore(store, bounds), log, {
    limits: bounds,
    now: () => clock.now(),
  });
  const other = new Recorder(
    new ObjectRunStore(memory, bounds),
    { append: async () => undefined },
    {
      limits: bounds,
      now: () => clock.now(),
    },
  );
  const taken = () => steps.splice(0).join(' ');
  return {
    clock,
    memory,
    records,
    recorder,
    other,
    taken,
    create: () => recorder.create(ORG, { run_id: 'r1' }),
  };
}

describe('the order of a change: canonical run, then its record, then the acknowledgement', () => {
  it('what enters the active set is announced first', async () => {
    const { recorder, taken, create } = setup();
    expect(await create()).toMatchObject({ changed: true, run: { revision: 1 } });
    expect(taken()).toBe('read intent write put');
    await recorder.apply(ORG, 'r1', { type: 'started', attempt: 1 });
    expect(taken()).toBe('read write put');
    await recorder.apply(ORG, 'r1', { type: 'failed', attempt: 1, error });
    expect(taken()).toBe('read write put');
    await recorder.apply(ORG, 'r1', { type: 'retry', attempt: 1 });
    expect(taken()).toBe('read intent write put');
    await recorder.apply(ORG, 'r1', { type: 'cancel' });
    await recorder.apply(ORG, 'r1', { type: 'delete' });
    expect(taken()).toBe('read write put read write delete');
  });

  it('a heartbeat writes the canonical run, and a record only when one is due', async () => {
    const { recorder, clock, taken, create } = setup();
    await create();
    await recorder.apply(ORG, 'r1', { type: 'started', attempt: 1 });
    taken();
    const beat = { type: 'heartbeat', attempt: 1, indexIntervalMs: 60_000 } as const;
    await clock.advance(1_000);
    await recorder.apply(ORG, 'r1', beat);
    expect(taken()).toBe('read write');
    await clock.advance(59_000);
    await recorder.apply(ORG, 'r1', beat);
    expect(taken()).toBe('read write put');
  });

  it('a repeat writes nothing, and repairs a record that was lost', async () => {
    const { records, taken, create } = setup();
    const first = await create();
    taken();
    expect(await create()).toEqual({ run: first.run, changed: false });
    expect(taken()).toBe('read put');
    expect(records.at(-1)).toEqual(records.at(-2));
  });

  it('a refusal writes nothing and appends nothing', async () => {
    const { recorder, taken, create } = setup();
    await expect(recorder.apply(ORG, 'r1', { type: 'cancel' })).rejects.toMatchObject({
      code: 'RUN_NOT_FOUND',
    });
    expect(taken()).toBe('read');
    await create();
    taken();
    await expect(recorder.create(ORG, { run_id: 'r1', kind: 'other' })).rejects.toMatchObject({
      name: 'LifecycleError',
      code: 'RUN_ALREADY_EXISTS',
    });
    await expect(recorder.apply(ORG, 'r1', { type: 'started', attempt: 2 })).rejects.toMatchObject({
      code: 'ATTEMPT_STALE',
    });
    expect(taken()).toBe('read read');
  });

  it('orgs do not meet: the same run id in another org is another run', async () => {
    const { recorder, create } = setup();
    await create();
    expect(await recorder.create('other', { run_id: 'r1', kind: 'x' })).toMatchObject({ changed: true });
    await expect(recorder.apply('third', 'r1', { type: 'cancel' })).rejects.toMatchObject({
      code: 'RUN_NOT_FOUND',
    });
  });
});

describe('contention and unknown outcomes: the canonical run decides', () => {
  /** Does `rival` before the first `times` writes of the run. */
  function contended(rival: (n: number) => Promise<unknown>, times = 1) {
    let n = 0;
    return setup(async (call, go) => {
      if (call.operation === 'put' && call.key === KEY && n < times) await rival(n++);
      return go();
    });
  }

  it('two creates of one request: both succeed, one run', async () => {
    const test = contended(() => test.other.create(ORG, { run_id: 'r1' }));
    expect(await test.create()).toMatchObject({ changed: false, run: { revision: 1 } });
    expect(test.taken()).toBe('read intent write read put');
  });

  it('two creates of different requests: the loser is told', async () => {
    const test = contended(() => test.other.create(ORG, { run_id: 'r1', kind: 'other' }));
    await expect(test.create()).rejects.toMatchObject({ code: 'RUN_ALREADY_EXISTS' });
  });

  it('an event that lost the race is applied to what is there now', async () => {
    const test = setup(async (call, go) => {
      if (call.operation === 'put' && armed) {
        armed = false;
        await test.other.apply(ORG, 'r1', { type: 'cancel' });
      }
      return go();
    });
    let armed = false;
    await test.create();
    await test.recorder.apply(ORG, 'r1', { type: 'started', attempt: 1 });
    armed = true;
    // The worker was done when the cancel was asked for: CANCELLING may still end SUCCEEDED.
    const ended = await test.recorder.apply(ORG, 'r1', { type: 'succeeded', attempt: 1 });
    expect(ended.run).toMatchObject({ status: 'SUCCEEDED', revision: 4, cancel_requested_at: START });
  });

  it('one that loses for ever gives up after a bounded number of rounds', async () => {
    const test = setup();
    await test.create();
    await test.recorder.apply(ORG, 'r1', { type: 'started', attempt: 1 });
    const losing = setup();
    let puts = 0;
    const store = intercept(test.memory, async (call, go) => {
      if (call.operation !== 'put') return go();
      puts++;
      return { outcome: 'conflict' };
    });
    const bounds = limits({ contentionRoundsMax: 4 });
    const recorder = new Recorder(
      new ObjectRunStore(store, bounds),
      { append: async () => undefined },
      {
        limits: bounds,
        now: () => losing.clock.now(),
      },
    );
    await expect(recorder.apply(ORG, 'r1', { type: 'cancel' })).rejects.toMatchObject({
      code: 'REVISION_CONFLICT',
    });
    expect(puts).toBe(4);
  });

  const unknown = { outcome: 'unknown', cause: new Error('reset') };

  it('a write that took effect though its answer was lost is not done twice', async () => {
    let first = true;
    const test = setup(async (call, go) => {
      if (call.operation !== 'put' || !first) return go();
      first = false;
      await go();
      return unknown;
    });
    expect((await test.create()).run).toMatchObject({ revision: 1 });
    expect(test.taken()).toBe('read intent write read put');
    expect(test.records.at(-1)).toMatchObject({ kind: 'put', row: { revision: 1 } });
  });

  it('a write that did not is done again; one that stays unknown is told as such', async () => {
    let lost = 1;
    const test = setup(async (call, go) => (call.operation === 'put' && lost-- > 0 ? unknown : go()));
    expect(await test.create()).toMatchObject({ changed: true });
    lost = 99;
    await expect(test.recorder.apply(ORG, 'r1', { type: 'cancel' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      cause: unknown.cause,
    });
  });

  it('a record that could not be appended is no acknowledgement', async () => {
    const { memory } = setup();
    const bounds = limits();
    const denied = new StoreError('STORE_DENIED', 'no', { retryable: false });
    const log = {
      append: (_: string, [record]: readonly LogRecord[]) =>
        record!.kind === 'put' ? Promise.reject(denied) : Promise.resolve(),
    };
    const recorder = new Recorder(new ObjectRunStore(memory, bounds), log, {
      limits: bounds,
      now: () => START,
    });
    await expect(recorder.create(ORG, { run_id: 'r1' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      cause: denied,
    });
    expect(await memory.head(KEY)).not.toBeNull();
  });
});

describe('an outside event', () => {
  it('from too far ahead of the server is refused, whatever else comes with it, and taken once its time has come', async () => {
    const { recorder, clock, taken } = setup();
    const { eventAheadMaxMs } = limits();
    const say = (at: number) => ({ at, phase: 'start', inputs: [], outputs: [] }) as const;
    const ahead = say(START + eventAheadMaxMs + 1);
    await expect(recorder.observe(ORG, 'r1', [say(START), ahead])).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/r1.*2026-11-20T12:05:00.001Z.*300 s ahead/),
    });
    expect(taken()).toBe('read');
    expect((await recorder.observe(ORG, 'r1', [say(START + eventAheadMaxMs)])).changed).toBe(true);
    await clock.advance(1);
    expect((await recorder.observe(ORG, 'r1', [ahead])).changed).toBe(true);
  });

  it('and then the create of its run: the run is taken over, its repeat is one', async () => {
    const { recorder, taken } = setup();
    await recorder.observe(ORG, 'r1', [{ at: START - 5, phase: 'success', inputs: [], outputs: [] }]);
    taken();
    const create = () => recorder.create(ORG, { run_id: 'r1', queue: 'q' });
    // It has ended: nothing enters the active set, so no intent is needed.
    expect(await create()).toMatchObject({
      changed: true,
      run: { status: 'SUCCEEDED', queue: 'q', revision: 2 },
    });
    expect(taken()).toBe('read write put');
    expect(await create()).toMatchObject({ changed: false, run: { revision: 2 } });
    await expect(recorder.create(ORG, { run_id: 'r1', queue: 'p' })).rejects.toMatchObject({
      code: 'RUN_ALREADY_EXISTS',
    });
  });
});

describe('nothing that could not be read back is ever written', () => {
  const create = (changes: object) => ({ run_id: 'r1', ...changes });
  it.each<[string, object]>([
    ['no run id', { run_id: undefined }],
    ['an id that leaves its folder', { run_id: '../x' }],
    ['a run time-out of 0', create({ run_timeout_ms: 0 })],
    ['half a millisecond', create({ heartbeat_timeout_ms: 0.5 })],
    ['a table without a name', create({ outputs: [{ namespace: 'db', name: '' }] })],
    ['a table without a namespace', create({ inputs: [{ name: 't' }] })],
    ['too many tables', create({ inputs: Array.from({ length: 1_001 }, (_, i) => dataset(`t${i}`)) })],
    ['a kind that is a number', create({ kind: 7 })],
    ['a text without end', create({ reference_id: 'x'.repeat(100_000) })],
    ['a field that nobody knows', create({ heartbeatTimeoutMs: 5 })],
  ])('create with %s', async (_, input) => {
    const { recorder, taken } = setup();
    const creating = (async () => recorder.create(ORG, input as never))();
    await expect(creating).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(taken()).toBe('');
  });

  it.each<[string, object]>([
    ['no type', {}],
    ['an unknown type', { type: 'explode' }],
    ['no attempt', { type: 'started' }],
    ['attempt 0', { type: 'started', attempt: 0 }],
    ['a negative count', { type: 'succeeded', attempt: 1, result: { rows: -1 } }],
    ['a count that is none', { type: 'succeeded', attempt: 1, result: { bytes: Number.NaN } }],
    ['a failure without an error', { type: 'failed', attempt: 1 }],
    ['a task called __proto__', { type: 'task', attempt: 1, task: { type: 'queued', key: '__proto__' } }],
  ])('an event with %s', async (_, event) => {
    const { recorder, taken, create } = setup();
    await create();
    await recorder.apply(ORG, 'r1', { type: 'started', attempt: 1 });
    taken();
    const applying = (async () => recorder.apply(ORG, 'r1', event as never))();
    await expect(applying).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(taken()).not.toContain('write');
  });
});

describe('the fingerprint of a request', () => {
  it('does not depend on the order of keys, and on nothing else but the request', () => {
    const a = fingerprintOf(ORG, {
      run_id: 'r',
      kind: 'x',
      payload: { target_table: 't', source_type: 's' },
    });
    const b = fingerprintOf(ORG, {
      payload: { source_type: 's', target_table: 't' },
      kind: 'x',
      run_id: 'r',
    });
    expect(a).toBe(b);
    expect(a).toMatch(/^[0-9a-f]{32}$/);
    const others = [
      fingerprintOf('other', { run_id: 'r', kind: 'x', payload: { target_table: 't', source_type: 's' } }),
      fingerprintOf(ORG, { run_id: 'r', kind: 'y', payload: { target_table: 't', source_type: 's' } }),
      fingerprintOf(ORG, { run_id: 'r', kind: 'x' }),
      fingerprintOf(ORG, { run_id: 'r', kind: 'x', outputs: [dataset('a'), dataset('b')] }),
      fingerprintOf(ORG, { run_id: 'r', kind: 'x', outputs: [dataset('b'), dataset('a')] }),
    ];
    expect(new Set([a, ...others]).size).toBe(6);
  });
});
