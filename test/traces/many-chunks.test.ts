import { describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  archiver,
  chunkKeys,
  DAY,
  endedRun,
  entries,
  expectArchived,
  MINUTE,
  type TraceWorld,
} from './support.ts';

const CHUNKS = 120;
const LOG = 'nine more\n'.repeat(CHUNKS);

/** Each chunk that is read takes so long. */
function slow(world: TraceWorld, ms: number, store: ObjectStore = world.memory) {
  return intercept(store, async (call, go) => {
    if (call.operation === 'get' && call.key.includes('/chunks/')) await world.clock.advance(ms);
    return go();
  });
}

/** Whoever committed the archive died before it deleted anything. */
function undeleting(world: TraceWorld) {
  return intercept(world.memory, (call, go) => {
    if (call.operation === 'delete') throw new Error('dead');
    return go();
  });
}

describe('logs of many chunks', () => {
  it('chunks beside their archive go by and by, however little a pass may take', async () => {
    const world = await fakeWorld({ limits: { parallelMax: 4 } });
    await endedRun(world, 'run-1', LOG);
    await archiver(world, undeleting(world))();
    let left = (await chunkKeys(world, 'run-1')).length;
    expect(left).toBe(CHUNKS);
    for (let pass = 0; left > 0 && pass < 20; pass++) {
      await world.clock.advance(30 * MINUTE);
      await archiver(world, slow(world, 100))({ budgetMs: 3_000 });
      const now = (await chunkKeys(world, 'run-1')).length;
      expect(now).toBeLessThan(left);
      left = now;
    }
    await world.clock.advance(30 * MINUTE);
    await archive(world);
    await expectArchived(world, 'run-1', LOG);
    expect(await entries(world)).toEqual({});
  });

  it('one log takes more than the budget of a pass where it has many chunks', async () => {
    const world = await fakeWorld({ limits: { parallelMax: 4, traceChunkBudgetMs: 20 } });
    await endedRun(world, 'run-1', LOG);
    const began = world.clock.monotonic();
    const done = await archiver(world, slow(world, 40))({ budgetMs: 1_000 });
    expect(world.clock.monotonic() - began).toBeGreaterThan(1_000);
    expect(done).toMatchObject({ archived: 1, failed: [] });
    await expectArchived(world, 'run-1', LOG);
  });

  it('is never given up because budgets ended first', async () => {
    const world = await fakeWorld({ limits: { parallelMax: 4, traceAttemptsMax: 2, traceChunkBudgetMs: 1 } });
    await endedRun(world, 'run-1', LOG);
    for (let pass = 0; pass < 5; pass++) {
      await world.clock.advance(DAY);
      const done = await archiver(world, slow(world, 100))({ budgetMs: 3_000 });
      expect(done).toMatchObject({ archived: 0, partial: 0, given_up: [] });
      expect(done.failed).toMatchObject([{ run_id: 'run-1', attempts: 0, code: 'DEADLINE_EXCEEDED' }]);
    }
    await world.clock.advance(DAY);
    await archive(world);
    await expectArchived(world, 'run-1', LOG);
  });
});

describe('the sweep of leftovers', () => {
  const policy = { retain_ms: null, time_travel_ms: 0, trace_retain_ms: 3 * DAY };

  /** An archive, and beside it all its chunks, of which no entry tells. */
  async function leftBehind(world: TraceWorld, ids: readonly string[]) {
    for (const id of ids) await endedRun(world, id, 'a log\n');
    const kept = await Promise.all(
      (await chunkKeys(world)).map(async (key) => [key, await world.memory.get(key)] as const),
    );
    await archive(world);
    for (const [key, got] of kept) if (got.outcome === 'found') await world.memory.put(key, got.body);
    expect(await chunkKeys(world)).toHaveLength(ids.length);
  }

  it('is not stopped by what cannot be read, and retention does not wait for it', async () => {
    const world = await fakeWorld();
    await leftBehind(world, ['run-1', 'run-2']);
    const broken = intercept(world.memory, (call, go) => {
      if (call.operation === 'get' && call.key.includes('/chunks/run-1/')) throw new Error('poison');
      return go();
    });
    const done = await archiver(world, broken)({ leftovers: true });
    expect(done).toMatchObject({ leftovers_deleted: 1, failed: [{ run_id: 'run-1', message: 'poison' }] });
    // What the policy let go contains nothing: the chunks stay for their lifetime, then go.
    await compactOrg(world.compactor, ORG, { policy });
    await world.clock.advance(4 * DAY);
    expect(await archiver(world, broken)({ leftovers: true })).toMatchObject({ expired: 2 });
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 0, failed: [] });
    await world.clock.advance(4 * DAY);
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 1 });
  });

  it('ends with the budget', async () => {
    const world = await fakeWorld({ limits: { traceParallel: 1 } });
    await leftBehind(world, ['run-1', 'run-2', 'run-3']);
    const began = world.clock.monotonic();
    const done = await archiver(world, slow(world, 8_000))({ leftovers: true, budgetMs: 10_000 });
    expect(world.clock.monotonic() - began).toBeLessThanOrEqual(16_000);
    expect(done).toMatchObject({ complete: false });
    expect((await chunkKeys(world)).length).toBeGreaterThan(0);
  });
});
