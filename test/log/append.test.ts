import { describe, expect, it } from 'vitest';
import { RunfoldError, StoreError } from '../../src/core/errors.ts';
import { type Limits, limits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { LogWriter } from '../../src/log/append.ts';
import { decodeEntry } from '../../src/log/entry.ts';
import { entryTime } from '../../src/log/tail.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { DIRTY_PREFIX, dirtyKey, logPrefix } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { calibrating, ServerClock } from '../../src/store/server-clock.ts';
import { FakeClock, settle } from '../support/fake-clock.ts';
import { type Around, gate, intercept, latent, recording, type StoreCall } from '../support/intercept.ts';
import { ORG, put } from '../support/runs.ts';

const isEntry = (call: StoreCall) => call.operation === 'put' && call.key.startsWith('catalog/orgs/');
const isMarker = (call: StoreCall) => call.operation === 'put' && call.key.startsWith(DIRTY_PREFIX);
const record = (i: number | string): LogRecord => put({ run_id: `run-${i}` });

interface Setup {
  clock?: FakeClock;
  /** Of the writer's wall clock against the server's. */
  offByMs?: number;
  around?: Around;
  wrap?: (store: ObjectStore) => ObjectStore;
  changes?: Partial<Limits>;
}

function setup({ clock = new FakeClock(), offByMs = 0, around, wrap, changes }: Setup = {}) {
  const memory = new MemoryStore({ clock });
  const calls: StoreCall[] = [];
  const broken = around ? intercept(memory, around) : memory;
  const store = (wrap ?? ((inner: ObjectStore) => inner))(recording(broken, calls));
  const local = clock.offBy(offByMs);
  const serverClock = new ServerClock(local);
  const random = seededRandom(1);
  const options = { clock: local, serverClock, random, limits: limits(changes) };
  const log = new LogWriter(calibrating(store, local, serverClock), options);
  /** Run ids entry by entry, in the order of the writes. */
  async function written(orgId = ORG): Promise<string[][]> {
    const { items } = await memory.list({ prefix: logPrefix(orgId) });
    const entries: string[][] = [];
    for (const { key } of items.toSorted((a, b) => Number(a.generation) - Number(b.generation))) {
      const got = await memory.get(key);
      if (got.outcome !== 'found') throw new Error('gone');
      const { records } = decodeEntry(key, orgId, got.body);
      entries.push(records.map((one) => (one.kind === 'delete' ? one.run_id : one.row.run_id)));
    }
    return entries;
  }
  return { clock, memory, calls, log, written };
}

/** Holds every PUT of an entry until the test opens its gate. */
function held() {
  const gates: ReturnType<typeof gate>[] = [];
  const around: Around = async (call, go) => {
    if (!isEntry(call)) return go();
    const mine = gate();
    gates.push(mine);
    await mine.opened;
    return go();
  };
  return { gates, around };
}

describe('group commit', () => {
  it('one append is one entry and one PUT, beside the marker', async () => {
    const { log, calls, written } = setup();
    await log.append(ORG, [record(1)]);
    expect(await written()).toEqual([['run-1']]);
    expect(calls.filter(isEntry)).toHaveLength(1);
    expect(calls.filter(isMarker)).toHaveLength(1);
    expect(calls).toHaveLength(2);
  });

  it('appends of one turn go out as one entry, in their order', async () => {
    const { log, written } = setup();
    await Promise.all([log.append(ORG, [record(1), record(2)]), log.append(ORG, [record(3)])]);
    expect(await written()).toEqual([['run-1', 'run-2', 'run-3']]);
  });

  it('what is queued while a PUT is in flight goes out together as the next', async () => {
    const { gates, around } = held();
    const { log, written } = setup({ around });
    const acknowledged: number[] = [];
    const append = (i: number) => log.append(ORG, [record(i)]).then(() => acknowledged.push(i));
    append(1);
    await settle();
    append(2);
    append(3);
    await settle();
    expect(gates).toHaveLength(1);
    gates[0]!.open();
    await settle();
    expect(acknowledged).toEqual([1]);
    expect(gates).toHaveLength(2);
    append(4);
    gates[1]!.open();
    await settle();
    expect(acknowledged).toEqual([1, 2, 3]);
    gates[2]!.open();
    await log.idle();
    expect(acknowledged).toEqual([1, 2, 3, 4]);
    expect(await written()).toEqual([['run-1'], ['run-2', 'run-3'], ['run-4']]);
  });

  it('nothing is acknowledged before its entry is durable', async () => {
    const { gates, around } = held();
    const { log, written } = setup({ around });
    let acknowledged = false;
    const appending = log.append(ORG, [record(1)]).then(() => {
      acknowledged = true;
    });
    await settle();
    expect(acknowledged).toBe(false);
    expect(await written()).toEqual([]);
    gates[0]!.open();
    await appending;
    expect(await written()).toEqual([['run-1']]);
  });

  it('orgs do not wait for each other, and do not share entries', async () => {
    const { gates, around } = held();
    const { log, written } = setup({ around });
    const first = log.append(ORG, [record(1)]);
    const second = log.append('other', [put({ org_id: 'other', run_id: 'run-2' })]);
    await settle();
    gates[1]!.open();
    await second;
    gates[0]!.open();
    await first;
    expect([await written(), await written('other')]).toEqual([[['run-1']], [['run-2']]]);
  });

  it('a batch is bounded by records and by bytes; one call is never split', async () => {
    const byRecords = setup({ changes: { batchRecordsMax: 3 } });
    await Promise.all([1, 2, 3, 4, 5].map((i) => byRecords.log.append(ORG, [record(i)])));
    expect((await byRecords.written()).map((ids) => ids.length)).toEqual([3, 2]);

    const size = JSON.stringify(record(1)).length;
    const byBytes = setup({ changes: { batchBytesMax: 2 * size } });
    await Promise.all([1, 2, 3, 4, 5].map((i) => byBytes.log.append(ORG, [record(i)])));
    expect((await byBytes.written()).map((ids) => ids.length)).toEqual([2, 2, 1]);

    const large = setup({ changes: { batchRecordsMax: 3 } });
    const many = [1, 2, 3, 4, 5].map(record);
    await Promise.all([
      large.log.append(ORG, [record(0)]),
      large.log.append(ORG, many),
      large.log.append(ORG, [record(6)]),
    ]);
    expect((await large.written()).map((ids) => ids.length)).toEqual([1, 5, 1]);
  });

  it('a batch may wait for company', async () => {
    const { clock, log, written } = setup({ changes: { batchWaitMs: 20 } });
    const first = log.append(ORG, [record(1)]);
    await clock.advance(19);
    const second = log.append(ORG, [record(2)]);
    expect(await written()).toEqual([]);
    await clock.advance(1);
    await Promise.all([first, second]);
    expect(await written()).toEqual([['run-1', 'run-2']]);
  });

  it('an entry beyond the size limit is refused, and the next goes out', async () => {
    const { log, written } = setup({ changes: { entryBytesMax: 2_000, batchBytesMax: 1_000 } });
    const huge = put({ run_id: 'huge', reference_id: 'x'.repeat(2_000) });
    const refused = expect(log.append(ORG, [huge])).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    const fine = log.append(ORG, [record(1)]);
    await refused;
    await fine;
    expect(await written()).toEqual([['run-1']]);
  });

  it('a full queue refuses by a rejection, and takes again once it has drained', async () => {
    const { gates, around } = held();
    const { log } = setup({ around, changes: { queueRecordsMax: 3 } });
    const first = log.append(ORG, [record(1)]);
    await settle();
    const queued = [log.append(ORG, [record(2), record(3)]), log.append(ORG, [record(4)])];
    await expect(log.append(ORG, [record(5)])).rejects.toMatchObject({ code: 'OVERLOADED' });
    gates[0]!.open();
    await first;
    await settle();
    const again = log.append(ORG, [record(5)]);
    gates[1]!.open();
    await Promise.all(queued);
    await settle();
    gates[2]!.open();
    await again;
  });

  it('no records are no entry', async () => {
    const { log, calls } = setup();
    await log.append(ORG, []);
    await log.idle();
    expect(calls.filter(isEntry)).toEqual([]);
  });

  it('a failed entry fails its own callers only', async () => {
    let failures = 1;
    const around: Around = async (call, go) => {
      if (isEntry(call) && failures-- > 0) throw new StoreError('STORE_DENIED', 'no', { retryable: false });
      return go();
    };
    const { log, written } = setup({ around });
    await expect(log.append(ORG, [record(1)])).rejects.toMatchObject({ code: 'STORE_DENIED' });
    await log.append(ORG, [record(2)]);
    expect(await written()).toEqual([['run-2']]);
  });
});

describe('a caller that gives up', () => {
  it('before: nothing is written', async () => {
    const { log, calls } = setup();
    const given = new RunfoldError('CANCELLED', 'gone');
    await expect(log.append(ORG, [record(1)], AbortSignal.abort(given))).rejects.toBe(given);
    await log.idle();
    expect(calls).toEqual([]);
  });

  it('while queued: its records are not written, its neighbours are', async () => {
    const { gates, around } = held();
    const { log, written } = setup({ around });
    const caller = new AbortController();
    const first = log.append(ORG, [record(1)]);
    await settle();
    const second = log.append(ORG, [record(2)], caller.signal);
    const third = log.append(ORG, [record(3)]);
    caller.abort();
    await expect(second).rejects.toMatchObject({ code: 'CANCELLED' });
    gates[0]!.open();
    await first;
    await settle();
    gates[1]!.open();
    await third;
    expect(await written()).toEqual([['run-1'], ['run-3']]);
  });

  it('while the entry is in flight: unknown, and the entry lands', async () => {
    const { gates, around } = held();
    const { log, written } = setup({ around });
    const caller = new AbortController();
    const appending = log.append(ORG, [record(1)], caller.signal);
    await settle();
    caller.abort();
    await expect(appending).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    gates[0]!.open();
    await log.idle();
    expect(await written()).toEqual([['run-1']]);
  });

  it('afterwards: nothing happens', async () => {
    const { log } = setup();
    const caller = new AbortController();
    await log.append(ORG, [record(1)], caller.signal);
    caller.abort();
    await log.idle();
  });
});

describe('entries are named by the clock of the server', () => {
  const lags = ({ calls }: ReturnType<typeof setup>, clock: FakeClock) =>
    calls.filter(isEntry).map((call) => Math.abs(entryTime(call.key)! - clock.now()));

  it.each([-600_000, -31_000, 31_000, 600_000])(
    'a client clock off by %i ms appends again',
    async (offByMs) => {
      const test = setup({ offByMs });
      await test.log.append(ORG, [record(1)]);
      const found = lags(test, test.clock);
      expect(found).toHaveLength(2);
      expect(found[0]).toBe(Math.abs(offByMs));
      expect(found[1]).toBeLessThanOrEqual(1_000);
      // The one under the dishonest name says the same: harmless, folded twice.
      expect(await test.written()).toEqual([['run-1'], ['run-1']]);
      await test.log.append(ORG, [record(2)]);
      expect(lags(test, test.clock)).toHaveLength(3);
    },
  );

  it.each([-29_000, 0, 29_000])('one off by %i ms is within the lag: one PUT', async (offByMs) => {
    const test = setup({ offByMs });
    await test.log.append(ORG, [record(1)]);
    expect(test.calls.filter(isEntry)).toHaveLength(1);
  });

  it('a clock that jumps between two appends is noticed', async () => {
    const clock = new FakeClock();
    let jump = 0;
    const memory = new MemoryStore({ clock });
    const local = { ...clock.offBy(0), now: () => clock.now() + jump };
    const serverClock = new ServerClock(local);
    const store = calibrating(memory, local, serverClock);
    const log = new LogWriter(store, {
      clock: local,
      serverClock,
      random: seededRandom(1),
      limits: limits(),
    });
    await log.append(ORG, [record(1)]);
    jump = -3_600_000;
    await log.append(ORG, [record(2)]);
    const { items } = await memory.list({ prefix: logPrefix(ORG) });
    expect(items).toHaveLength(3);
    expect(items.filter(({ key }) => Math.abs(entryTime(key)! - clock.now()) <= 30_000)).toHaveLength(2);
  });

  it('an entry that took longer than the lag to appear is not acknowledged under its old name', async () => {
    const clock = new FakeClock();
    let slow = true;
    const around: Around = async (call, go) => {
      if (isEntry(call) && slow) {
        slow = false;
        await clock.sleep(31_000);
      }
      return go();
    };
    const test = setup({ clock, around });
    await clock.run(test.log.append(ORG, [record(1)]));
    expect(test.calls.filter(isEntry)).toHaveLength(2);
    expect(lags(test, clock)[1]).toBeLessThanOrEqual(1_000);
  });

  it('a store that never confirms in time is unknown, after a bounded number of PUTs', async () => {
    const clock = new FakeClock();
    const test = setup({ clock, wrap: (store) => latent(store, clock, 40_000), changes: { attemptsMax: 3 } });
    const appending = clock.run(test.log.append(ORG, [record(1)]));
    await expect(appending).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(test.calls.filter(isEntry)).toHaveLength(3);
  });
});

describe('unknown outcomes', () => {
  const changes = { attemptsMax: 4, backoffBaseMs: 1 };
  const around = (answer: (n: number, go: () => Promise<unknown>) => Promise<unknown>): Around => {
    let n = 0;
    return (call, go) => (isEntry(call) ? answer(n++, go) : go());
  };
  function resilientSetup(behave: Around) {
    const clock = new FakeClock();
    const wrap = (store: ObjectStore) =>
      resilient(store, { clock, random: seededRandom(2), limits: limits(changes) });
    return { ...setup({ clock, around: behave, wrap, changes }), clock };
  }
  const unknown = { outcome: 'unknown', cause: new Error('connection reset') };

  it('lost before it arrived: the same name and the same bytes again', async () => {
    const test = resilientSetup(around(async (n, go) => (n < 2 ? unknown : go())));
    await test.clock.run(test.log.append(ORG, [record(1)]));
    const puts = test.calls.filter(isEntry);
    expect(puts).toHaveLength(3);
    expect(new Set(puts.map(({ key }) => key)).size).toBe(1);
    expect(new Set(puts.map(({ body }) => Buffer.from(body!).toString())).size).toBe(1);
    expect(await test.written()).toEqual([['run-1']]);
  });

  it('written, but the answer was lost: the repeat meets our own entry, and that is success', async () => {
    const test = resilientSetup(around(async (n, go) => (n === 0 ? go().then(() => unknown) : go())));
    await test.clock.run(test.log.append(ORG, [record(1)]));
    expect(await test.written()).toEqual([['run-1']]);
    expect(test.calls.filter(isEntry)).toHaveLength(2);
  });

  it('a throttled store is asked again', async () => {
    const throttled = new StoreError('STORE_THROTTLED', '429', { retryable: true, retryAfterMs: 500 });
    const test = resilientSetup(around((n, go) => (n === 0 ? Promise.reject(throttled) : go())));
    await test.clock.run(test.log.append(ORG, [record(1)]));
    expect(test.clock.monotonic()).toBeGreaterThanOrEqual(500);
    expect(await test.written()).toEqual([['run-1']]);
  });

  it('never settled: OutcomeUnknownError with its cause, never a success', async () => {
    const test = resilientSetup(around(async () => unknown));
    const appending = test.clock.run(test.log.append(ORG, [record(1)]));
    await expect(appending).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN', cause: unknown.cause });
  });
});

describe('the dirty marker', () => {
  it('is written once per cache time and org', async () => {
    const { clock, log, calls } = setup();
    const markers = () => calls.filter(isMarker).map(({ key }) => key);
    await log.append(ORG, [record(1)]);
    await clock.advance(59_999);
    await log.append(ORG, [record(2)]);
    expect(markers()).toEqual([dirtyKey(ORG)]);
    await log.append('other', [put({ org_id: 'other' })]);
    expect(markers()).toEqual([dirtyKey(ORG), dirtyKey('other')]);
    await clock.advance(1);
    await log.append(ORG, [record(3)]);
    expect(markers()).toEqual([dirtyKey(ORG), dirtyKey('other'), dirtyKey(ORG)]);
  });

  it('no acknowledgement waits for it, and idle does', async () => {
    const hold = gate();
    const { log, memory } = setup({
      around: async (call, go) => {
        if (isMarker(call)) await hold.opened;
        return go();
      },
    });
    await log.append(ORG, [record(1)]);
    expect(await memory.head(dirtyKey(ORG))).toBeNull();
    let idle = false;
    const waiting = log.idle().then(() => {
      idle = true;
    });
    await settle();
    expect(idle).toBe(false);
    hold.open();
    await waiting;
    expect(await memory.head(dirtyKey(ORG))).not.toBeNull();
  });

  it('one that failed is written again with the next append, and fails no append', async () => {
    let failures = 2;
    const { log, calls } = setup({
      around: async (call, go) => {
        if (!isMarker(call) || failures-- <= 0) return go();
        if (failures === 1) throw new StoreError('STORE_DENIED', 'no', { retryable: false });
        return { outcome: 'unknown', cause: new Error('reset') };
      },
    });
    for (const i of [1, 2, 3, 4]) {
      await log.append(ORG, [record(i)]);
      await log.idle();
    }
    expect(calls.filter(isMarker)).toHaveLength(3);
  });
});
