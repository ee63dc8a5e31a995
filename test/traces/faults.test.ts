import { describe, expect, it } from 'vitest';
import { CorruptError, StoreError } from '../../src/core/errors.ts';
import { traceWorkKey } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { ArchiveReader } from '../../src/traces/archive-read.ts';
import { intercept, planting, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  archiveKeys,
  archiver,
  chunkKeys,
  DAY,
  ended,
  endedRun,
  entries,
  expectArchived,
  MINUTE,
  readAll,
  SETTLED,
  started,
  type TraceWorld,
  text,
  traceOf,
} from './support.ts';

const LOG = Array.from({ length: 12 }, (_, i) => `line ${i}\n`).join('');

/** What goes wrong at one call of a pass. */
const FAULTS = {
  'is refused': (_: StoreCall) => ({ before: refused(), after: null, dies: false }),
  'takes effect, its answer is lost': (call: StoreCall) => ({
    before: null,
    after: isWrite(call) ? { outcome: 'unknown', cause: refused() } : refused(),
    dies: false,
  }),
  'is the last before a crash': () => ({ before: null, after: refused(), dies: true }),
} as const;

/** A store whose call number `at` goes wrong; after a crash no call gets through. */
function failing(store: ObjectStore, at: number, kind: keyof typeof FAULTS, seen: string[]): ObjectStore {
  let dead = false;
  return intercept(store, async (call, go) => {
    if (dead) throw refused();
    seen.push(`${call.operation} ${call.key}`);
    if (seen.length - 1 !== at) return go();
    const { before, after, dies } = FAULTS[kind](call);
    if (before !== null) throw before;
    const answer = await go();
    dead = dies;
    if (after === null) return answer;
    if (after instanceof Error) throw after;
    return after;
  });
}

/** Passes of a healthy process, until all that waits for its time had it. */
async function settle(world: TraceWorld): Promise<void> {
  for (let i = 0; i < 6; i++) {
    await world.clock.advance(30 * MINUTE);
    await archive(world);
  }
}

async function expectOneOfEach(world: TraceWorld, runs: number): Promise<void> {
  expect(await chunkKeys(world)).toEqual([]);
  expect(await archiveKeys(world)).toHaveLength(runs);
  expect(await entries(world)).toEqual({});
}

describe('a fault at any step of a pass loses no byte and leaves no pair behind', () => {
  it.each(Object.keys(FAULTS) as (keyof typeof FAULTS)[])('the call %s', async (kind) => {
    const steps: string[] = [];
    for (let at = 0; at === 0 || at < steps.length; at++) {
      const world = await fakeWorld();
      await endedRun(world, 'run-1', LOG, 30);
      const seen: string[] = [];
      await archiver(world, failing(world.memory, at, kind, seen))().catch(() => undefined);
      if (at === 0) {
        const whole = await fakeWorld();
        await endedRun(whole, 'run-1', LOG, 30);
        await archiver(whole, failing(whole.memory, -1, kind, steps))();
      }
      await settle(world);
      await expectArchived(world, 'run-1', LOG);
      await expectOneOfEach(world, 1);
    }
    // Every kind of step was one of them.
    const operations = new Set(steps.map((step) => step.split(' ')[0]));
    expect([...operations].sort()).toEqual(['delete', 'get', 'head', 'list', 'put']);
    expect(steps.filter((step) => step === `put ${traceWorkKey(ORG)}`)).toHaveLength(2);
  });
});

describe('two archivers on one run', () => {
  it.each(['before the archive is put', 'before the commit', 'before the first chunk goes'])(
    'the other does it all %s: one archive, no pair',
    async (when) => {
      const world = await fakeWorld();
      await endedRun(world, 'run-1', LOG, 30);
      const at: Record<string, (call: StoreCall) => boolean> = {
        'before the archive is put': ({ operation, key }) =>
          operation === 'put' && key.includes('/archives/'),
        'before the commit': ({ operation, key }) => operation === 'put' && key.includes('/runs/'),
        'before the first chunk goes': ({ operation }) => operation === 'delete',
      };
      // A claim keeps them apart as a rule; here it is over.
      const other = archiver(world, world.memory, 99);
      const slow = planting(world.memory, at[when]!, async () => {
        await world.clock.advance(world.compactor.limits.traceClaimMs + 1);
        await other();
      });
      await archiver(world, slow)().catch(() => undefined);
      await settle(world);
      await expectArchived(world, 'run-1', LOG);
      await expectOneOfEach(world, 1);
    },
  );

  it('who slept past its claim commits nothing', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG);
    const broken = intercept(world.memory, (call, go) => {
      if (call.operation === 'get' && call.key.includes('/chunks/')) throw new Error('broken');
      return go();
    });
    let slept = false;
    const asleep = intercept(world.memory, async (call, go) => {
      const answer = await go();
      if (call.operation !== 'head' || slept) return answer;
      slept = true;
      // Another comes and fails. What looks forgotten stays: nobody knows that the sleeper will look at the clock.
      await world.clock.advance(30 * MINUTE);
      await archiver(world, broken)();
      expect(await archiveKeys(world)).toHaveLength(1);
      return answer;
    });
    const { failed, archived } = await archiver(world, asleep)({ budgetMs: DAY });
    expect([archived, slept]).toEqual([0, true]);
    expect(failed).toMatchObject([{ code: 'DEADLINE_EXCEEDED' }]);
    expect(await readAll(world, 'run-1')).toBe(LOG);
    await world.clock.advance(DAY);
    await settle(world);
    await expectArchived(world, 'run-1', LOG);
    await expectOneOfEach(world, 1);
  });

  it('who comes second leaves what the first has claimed', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 30);
    const other = archiver(world, world.memory, 99);
    let second: Awaited<ReturnType<typeof other>> | null = null;
    const isPut = ({ operation, key }: StoreCall) => operation === 'put' && key.includes('/archives/');
    const first = planting(world.memory, isPut, async () => {
      second = await other();
    });
    expect(await archiver(world, first)()).toMatchObject({ archived: 1 });
    expect(second).toMatchObject({ archived: 0, failed: [], waiting: 1 });
  });
});

describe('an archive that is wrong', () => {
  it('is not committed where the store holds other bytes than were sent; the next try is', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 30);
    let wrong = 1;
    const store = intercept(world.memory, (call, go) => {
      if (call.operation !== 'put' || !call.key.includes('/archives/') || wrong-- <= 0) return go();
      return world.memory.put(call.key, flipped(call.body!), call.put);
    });
    const run = archiver(world, store);
    expect(await run()).toMatchObject({
      archived: 0,
      mismatches: 1,
      waiting: 1,
      failed: [{ code: 'CORRUPT' }],
    });
    expect(await traceOf(world, 'run-1')).toMatchObject({ status: 'live', archive: null });
    expect(await readAll(world, 'run-1')).toBe(LOG);
    expect(Object.values(await entries(world))).toMatchObject([
      { attempts: 1, claim: null, names: [expect.any(String)] },
    ]);
    await settle(world);
    await expectArchived(world, 'run-1', LOG);
    await expectOneOfEach(world, 1);
  });

  it('is never served: not a range, not the whole, whichever bit is flipped', async () => {
    const world = await fakeWorld({ limits: { traceFrameBytes: 32, traceWholeBytesMax: 0 } });
    await endedRun(world, 'run-1', LOG, 30);
    await archive(world);
    const [key] = await archiveKeys(world);
    const got = await world.memory.get(key!);
    if (got.outcome !== 'found') throw new Error('no archive');
    const { traces } = world.session;
    const archived = (await traceOf(world, 'run-1')).archive!;
    // A disk that rots and a store that does not notice: the checksum it tells is the old one.
    for (let bit = 0; bit < got.body.length * 8; bit += 5) {
      const rotten = got.body.slice();
      rotten[bit >> 3]! ^= 1 << (bit & 7);
      const store = intercept(world.memory, async (call, go) => {
        if (call.operation !== 'get' || call.key !== key) return go();
        const { range } = call.get ?? {};
        return { ...got, body: range ? rotten.slice(range.start, range.end) : rotten };
      });
      const reader = new ArchiveReader({ store, limits: world.compactor.limits }, ORG, archived);
      for (const read of [() => reader.read(40, 80), () => reader.whole()]) {
        const text = await read().catch((error: unknown) => error);
        if (text instanceof Uint8Array)
          expect(Buffer.from(text).toString()).toBe(text.length === 40 ? LOG.slice(40, 80) : LOG);
        else expect(text).toBeInstanceOf(CorruptError);
      }
    }
    // One that the store noticed.
    await world.memory.put(key!, flipped(got.body));
    await expect(traces.read(ORG, 'run-1', { from: 40, to: 80 })).rejects.toBeInstanceOf(CorruptError);
    await expect(traces.read(ORG, 'run-1')).rejects.toBeInstanceOf(CorruptError);
  });
});

describe('chunks that are missing or broken', () => {
  it.each(['missing', 'broken'])(
    '%s: tried until the last try, then archived with a gap that says so',
    async (how) => {
      const world = await fakeWorld();
      await endedRun(world, 'run-1', LOG, 30);
      const [, second] = await chunkKeys(world);
      const meta = await world.memory.head(second!);
      if (how === 'missing') await world.memory.delete(second!, { ifGeneration: meta!.generation });
      else await world.memory.put(second!, Buffer.from('other bytes'));
      const tries: number[] = [];
      for (let i = 0; i < 200 && (await traceOf(world, 'run-1')).status === 'live'; i++) {
        const { failed, archived } = await archive(world);
        expect(archived).toBe(0);
        for (const { attempts } of failed) tries.push(attempts);
        await world.clock.advance(15 * MINUTE);
      }
      expect(tries).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      const { status, archive: told } = await traceOf(world, 'run-1');
      expect(status).toBe('partial');
      expect(told).toMatchObject({
        bytes: LOG.length,
        gap_count: 1,
        gap_bytes: 30,
        gaps: [{ offset: 30, bytes: 30 }],
      });
      const log = await readAll(world, 'run-1');
      expect(log).toBe(`${LOG.slice(0, 30)}${'?'.repeat(30)}${LOG.slice(60)}`);
      const [row] = (await world.read()).active().concat(await rows(world));
      expect(row!.trace).toMatchObject({ status: 'partial', gaps: 1 });
      // What the archive does not hold stays for its lifetime, what it holds is gone.
      expect(await chunkKeys(world)).toEqual(how === 'missing' ? [] : [second]);
      await world.clock.advance(8 * DAY);
      expect(await archive(world, { leftovers: true })).toMatchObject({
        leftovers_deleted: how === 'missing' ? 0 : 1,
      });
      await expectOneOfEach(world, 1);
    },
  );

  it('a gap of some length is a line, and offsets behind it stay', async () => {
    const world = await fakeWorld({ limits: { traceAttemptsMax: 1 } });
    const { traces } = world.session;
    await started(world, 'run-2');
    await traces.append(ORG, 'run-2', { attempt: 1, offset: 0, body: Buffer.from('start\n') });
    await traces.append(ORG, 'run-2', { attempt: 1, offset: 106, body: Buffer.from('end\n') });
    await ended(world, 'run-2');
    await world.clock.advance(SETTLED);
    await archive(world);
    await world.clock.advance(5 * MINUTE);
    await archive(world);
    const log = await readAll(world, 'run-2');
    expect(log).toBe(`start\n${'\n[runfold: 100 bytes missing at offset 6]'.padEnd(99)}\nend\n`);
    expect(text((await traces.read(ORG, 'run-2', { from: 106 })).body)).toBe('end\n');
  });

  it('a missing end is a gap where the end was declared', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 0, body: Buffer.from('start\n') });
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 20, body: new Uint8Array(), end: true });
    await ended(world, 'run-1');
    await world.clock.advance(SETTLED);
    expect((await archive(world)).failed).toMatchObject([{ message: '14 bytes are missing at offset 6.' }]);
  });

  it('none left: lost, once every try is over', async () => {
    const world = await fakeWorld({ limits: { traceAttemptsMax: 2 } });
    await endedRun(world, 'run-1', LOG, 1_000);
    const [key] = await chunkKeys(world);
    await world.memory.delete(key!, { ifGeneration: (await world.memory.head(key!))!.generation });
    for (let i = 0; i < 4; i++) {
      await archive(world);
      await world.clock.advance(5 * MINUTE);
    }
    expect(await traceOf(world, 'run-1')).toMatchObject({ status: 'lost', archive: { uri: null, bytes: 0 } });
    expect(await entries(world)).toEqual({});
  });

  it('none readable: kept and tried for as long as chunks live, then given up once', async () => {
    const world = await fakeWorld({ limits: { traceAttemptsMax: 2 } });
    await endedRun(world, 'run-1', LOG, 1_000);
    const [key] = await chunkKeys(world);
    await world.memory.put(key!, Buffer.from('rot'));
    const givenUp: string[] = [];
    for (let day = 0; day < 12; day++) {
      if (day < 7) expect(await traceOf(world, 'run-1')).toMatchObject({ status: 'live' });
      givenUp.push(...(await archive(world, { leftovers: true })).given_up);
      await world.clock.advance(DAY);
    }
    expect(givenUp).toEqual(['run-1']);
    expect(await traceOf(world, 'run-1')).toMatchObject({
      status: 'lost',
      archive: { uri: null, bytes: 0, gap_bytes: LOG.length },
    });
    expect(await entries(world)).toEqual({});
    expect(await chunkKeys(world)).toEqual([]);
  });
});

async function rows(world: TraceWorld) {
  const all = [];
  for await (const row of (await world.read()).runs()) all.push(row);
  return all;
}

function flipped(body: Uint8Array): Uint8Array {
  const copy = new Uint8Array(body);
  copy[10]! ^= 4;
  return copy;
}

function isWrite({ operation }: StoreCall): boolean {
  return operation === 'put' || operation === 'delete';
}

function refused(): StoreError {
  return new StoreError('STORE_UNAVAILABLE', 'The store does not answer.', { retryable: true });
}
