import { describe, expect, it } from 'vitest';
import { archiveOrg } from '../../compactor/archive.ts';
import { compactOrg } from '../../compactor/compact.ts';
import { importTraces } from '../../compactor/trace-import.ts';
import { StoreError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { transition } from '../../src/runs/lifecycle.ts';
import { RUN_STATUSES, type Run } from '../../src/runs/run.ts';
import { neverNames } from '../../src/runs/traces.ts';
import { openSession } from '../../src/session.ts';
import { traceWorkKey } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept, planting, type StoreCall } from '../support/intercept.ts';
import { archiveOf, ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  archiveKeys,
  archiver,
  bytes,
  chunkKeys,
  DAY,
  ended,
  endedRun,
  entries,
  expectArchived,
  MINUTE,
  readAll,
  started,
  type TraceWorld,
  traceOf,
} from './support.ts';

const LOG = Array.from({ length: 12 }, (_, i) => `line ${i}\n`).join('');
const isCommit = ({ operation, key }: StoreCall) => operation === 'put' && key.includes('/runs/');
const NEVER = Number.POSITIVE_INFINITY;

/** Dies before its request number `calls`, or at what `at` says. */
function mortal(store: ObjectStore, calls: number, at = (_: StoreCall) => false): ObjectStore {
  let left = calls;
  return intercept(store, (call, go) => {
    if (at(call)) left = 0;
    if (left-- <= 0) throw new StoreError('STORE_FAILED', 'The process is dead.', { retryable: false });
    return go();
  });
}

/** A pass of somebody whose chunks cannot be read: it takes over and gets nowhere. */
function hapless(world: TraceWorld): ObjectStore {
  return intercept(world.memory, (call, go) => {
    if (call.operation === 'get' && call.key.includes('/chunks/')) throw new Error('broken');
    return go();
  });
}

/** A pass of a process that believes it is so much later. */
function ahead(world: TraceWorld, store: ObjectStore, offsetMs: number): Promise<unknown> {
  const { clock, compactor } = world;
  const session = openSession(store, { clock, random: seededRandom(5), limits: compactor.limits });
  const { recorder } = session;
  const early = new Proxy(recorder, {
    get: (target, name) => {
      if (name === 'now') return () => target.now() + offsetMs;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return archiveOrg({ ...compactor, store, runs: session.runs }, ORG, early, { leftovers: true });
}

/** A store whose user sleeps before the first such call, while `meanwhile` happens; `woken` throws what that threw. */
function sleeping(world: TraceWorld, at: (call: StoreCall) => boolean, meanwhile: () => Promise<unknown>) {
  let slept: Promise<unknown> | null = null;
  const store = planting(world.memory, at, () => {
    slept = meanwhile();
    return slept.catch(() => undefined);
  });
  const woken = async () => {
    expect(slept).not.toBeNull();
    await slept;
  };
  return { store, woken };
}

/** An archiver that sleeps between its last check and its commit, while `meanwhile` happens. */
async function sleeper(world: TraceWorld, meanwhile: () => Promise<unknown>) {
  const { store, woken } = sleeping(world, isCommit, meanwhile);
  const report = await archiver(world, store)({ budgetMs: 30 * DAY });
  await woken();
  return report;
}

/** Passes of healthy processes until all had its time: the log is there once, and nothing else. */
async function expectWhole(world: TraceWorld): Promise<void> {
  for (let i = 0; i < 6; i++) {
    await world.clock.advance(30 * MINUTE);
    await archive(world, { leftovers: i % 2 === 0 });
  }
  await expectArchived(world, 'run-1', LOG);
  expect(await chunkKeys(world)).toEqual([]);
  expect(await archiveKeys(world)).toEqual([(await traceOf(world, 'run-1')).archive!.uri]);
  expect(await entries(world)).toEqual({});
}

describe('an archiver that sleeps before its commit', () => {
  it('finds its archive there, wherever another dies that took over', async () => {
    let calls = 0;
    const all = { counted: 0 };
    for (let at = 1; at <= Math.max(1, all.counted); at++) {
      const world = await fakeWorld();
      await endedRun(world, 'run-1', LOG, 60);
      await sleeper(world, async () => {
        await world.clock.advance(30 * MINUTE);
        calls = 0;
        const counting = intercept(world.memory, (_, go) => {
          calls++;
          return go();
        });
        await archiver(world, at === 1 ? counting : mortal(world.memory, at - 1), 99)().catch(
          () => undefined,
        );
        if (at === 1) all.counted = calls;
      });
      await expectWhole(world);
    }
    expect(all.counted).toBeGreaterThan(15);
  });

  it.each([
    ['dies before its commit', (world: TraceWorld) => mortal(world.memory, NEVER, isCommit)],
    ['cannot read the log', hapless],
    ['finishes', (world: TraceWorld) => world.memory],
  ] as const)('by clocks that are 30 minutes apart: the other %s', async (_, storeOf) => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 60);
    await sleeper(world, () => ahead(world, storeOf(world), 30 * MINUTE).catch(() => undefined));
    await expectWhole(world);
  });

  it('finds that others were done with it, and leaves nothing', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 60);
    let other: string[] = [];
    const report = await sleeper(world, async () => {
      await world.clock.advance(30 * MINUTE);
      await archiver(world, world.memory, 99)();
      await expectWhole(world);
      other = await archiveKeys(world);
    });
    expect(report).toMatchObject({ archived: 0, failed: [] });
    await expectWhole(world);
    expect(await archiveKeys(world)).toEqual(other);
  });

  it('may have put its archive after all others had forgotten it', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 60);
    const isPut = ({ operation, key }: StoreCall) => operation === 'put' && key.includes('/archives/');
    const { store, woken } = sleeping(world, isPut, async () => {
      await world.clock.advance(30 * MINUTE);
      await archiver(world, world.memory, 99)();
      await expectWhole(world);
    });
    const { failed } = await archiver(world, store)({ budgetMs: DAY });
    await woken();
    expect(failed).toMatchObject([{ code: 'DEADLINE_EXCEEDED' }]);
    expect(await archiveKeys(world)).toHaveLength(2);
    await expectWhole(world);
  });

  it('for days, while nobody can read the log: neither a lost work list nor retention takes its archive', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 60);
    await sleeper(world, async () => {
      const policy = { retain_ms: null, time_travel_ms: 0, trace_retain_ms: 2 * DAY };
      await compactOrg(world.compactor, ORG, { policy });
      await world.memory.put(traceWorkKey(ORG), Buffer.from('rot'));
      for (let i = 0; i < 4; i++) {
        await archiver(world, hapless(world), 99)({ leftovers: true });
        await world.clock.advance(DAY);
      }
      expect((await entries(world))['run-1']!.names).toHaveLength(1);
    });
    expect(await readAll(world, 'run-1')).toBe(LOG);
    expect(await archiveKeys(world)).toHaveLength(1);
    await archive(world);
    expect(await entries(world)).toEqual({});
  });

  it('as an import: its archive stays until the run names it, or another', async () => {
    for (const isRepeated of [false, true]) {
      const world = await fakeWorld();
      await started(world, 'run-1');
      await ended(world, 'run-1');
      await world.memory.put('old/log', bytes(LOG));
      const rows = [{ run_id: 'run-1', attempt: 1, uri: 'old/log' }];
      const importer = (store: ObjectStore, seed: number) => {
        const { clock, compactor } = world;
        const session = openSession(store, { clock, random: seededRandom(seed), limits: compactor.limits });
        return importTraces(
          { ...compactor, store, runs: session.runs, recorder: session.recorder },
          ORG,
          rows,
        );
      };
      const { store, woken } = sleeping(world, isCommit, async () => {
        await world.clock.advance(30 * MINUTE);
        await archive(world, { leftovers: true });
        expect(await archiveKeys(world)).toHaveLength(1);
        if (isRepeated) expect(await importer(world.memory, 8)).toMatchObject([{ outcome: 'imported' }]);
      });
      const outcome = isRepeated ? 'rejected' : 'imported';
      expect(await importer(store, 9)).toMatchObject([{ outcome }]);
      await woken();
      await expectWhole(world);
    }
  });
});

describe('the commit of an archive', () => {
  it('deletes no chunk where the archive is not there behind it, and goes on telling', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG, 60);
    const all = await chunkKeys(world);
    const stolen = intercept(world.memory, async (call, go) => {
      const answer = await go();
      const [key] = isCommit(call) ? await archiveKeys(world) : [];
      if (key !== undefined)
        await world.memory.delete(key, { ifGeneration: (await world.memory.head(key))!.generation });
      return answer;
    });
    expect(await archiver(world, stolen)()).toMatchObject({ archived: 0, failed: [{ code: 'CORRUPT' }] });
    for (let day = 0; day < 9; day++) {
      await world.clock.advance(DAY);
      await archive(world, { leftovers: true });
    }
    expect(await chunkKeys(world)).toEqual(all);
    expect(Object.values(await entries(world))).toMatchObject([{ error: { code: 'CORRUPT' }, stale: true }]);
  });

  it('is refused in every state of a run that can never come to name the archive', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG);
    const { run } = (await world.compactor.runs.read(ORG, 'run-1'))!;
    const mine = archiveOf({ uri: 'mine' });
    const traces = [
      { status: 'live', ended_at: null, archive: null },
      ...['mine', 'other', null].map((uri) => ({
        status: 'archived' as const,
        ended_at: null,
        archive: archiveOf({ uri }),
      })),
      { status: 'lost', ended_at: null, archive: archiveOf({ uri: null, status: 'lost' }) },
    ] as const;
    let ruledOut = 0;
    for (const status of RUN_STATUSES)
      for (const deleted_at of [null, 1])
        for (const attempt of [1, 2])
          for (const trace of [...traces, null]) {
            const one = { ...run, status, deleted_at, attempt, traces: trace ? { 1: trace } : {} } as Run;
            const never = neverNames(one, 1, 'mine');
            for (const imported of [undefined, true]) {
              const event = { type: 'trace_archived', attempt: 1, archive: mine, imported } as const;
              if (never) expect(transition(one, event, 5).outcome).toBe('refused');
              // What is live, or is imported, or is there already, may be named.
              else if (trace !== null) expect(transition(one, event, 5).outcome).not.toBe('refused');
            }
            ruledOut += Number(never);
          }
    expect(ruledOut).toBeGreaterThan(50);
  });
});
