import { beforeEach, describe, expect, it } from 'vitest';
import { type FoldPolicy, foldPolicy } from '../../compactor/due.ts';
import { compactPass, type PassOptions } from '../../compactor/pass.ts';
import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import { intentOf } from '../../src/runs/record.ts';
import { DIRTY_PREFIX, entryKey, logPrefix, manifestKey } from '../../src/store/keys.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { ORG, runOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  compactorOn,
  create,
  currentManifest,
  entryKeys,
  expectSettles,
  expectWhole,
  type FakeWorld,
  keysUnder,
} from './support.ts';

const MINUTE = 60_000;

let world: FakeWorld;
let policy: FoldPolicy;
beforeEach(async () => {
  world = await fakeWorld();
  policy = foldPolicy(world.compactor.limits);
});

/** One pass, and what it asked of the store; the LIST of the markers aside. */
async function pass(options: PassOptions = {}) {
  const calls: StoreCall[] = [];
  const context = compactorOn(world, recording(world.memory, calls), world.clock.now() % 9_973);
  const [result] = await compactPass(context, { fold: policy, ...options });
  const requests = calls.slice(1).map(({ operation, key }) => `${operation} ${key.replace(/.*acme\//, '')}`);
  return { ...result!, requests };
}

/** A fold, its garbage collected, and a minute: nothing is in the log. */
async function foldedOnce() {
  await create(world, 'first');
  await world.compact();
  await world.clock.advance(AFTER_GRACE);
  await world.compact();
  expect(await entryKeys(world)).toEqual([]);
}

describe('an org whose tail is short and young', () => {
  it('is deferred for one LIST, keeps its marker, and is folded at its age, first snapshot or not', async () => {
    for (const run_id of ['a', 'b']) {
      await create(world, run_id);
      const began = world.clock.now();
      for (let looks = 0; looks < 10; looks++) {
        expect(await pass()).toMatchObject({
          outcome: 'deferred',
          due: null,
          deferred: { entries: 2, oldest_age_ms: world.clock.now() - began },
          version: null,
          rows: null,
          settled: false,
          requests: [`list ${logPrefix(ORG).replace(/.*acme\//, '')}`],
        });
        await world.clock.advance(MINUTE);
      }
      expect(await keysUnder(world, DIRTY_PREFIX)).toHaveLength(1);
      expect(await pass()).toMatchObject({ outcome: 'committed', due: 'age', entries: 2, deferred: null });
      await world.clock.advance(2 * AFTER_GRACE);
      expect(await pass()).toMatchObject({ outcome: 'clean', collected: { objects: 2 } });
      await pass();
      expect(await keysUnder(world, DIRTY_PREFIX)).toEqual([]);
    }
    await expectSettles(world);
  });

  it('is folded at once when it has enough entries or records, and by a compactor without a policy', async () => {
    for (const [i, changes] of [{ entries: 4 }, { records: 4 }].entries()) {
      await create(world, `a${i}`);
      expect(await pass({ fold: { ...policy, ...changes } })).toMatchObject({ outcome: 'deferred' });
      await create(world, `b${i}`);
      const due = Object.keys(changes)[0];
      expect(await pass({ fold: { ...policy, ...changes } })).toMatchObject({ outcome: 'committed', due });
      await world.clock.advance(AFTER_GRACE);
      await world.compact();
    }
    await create(world, 'c');
    expect(await pass({ fold: undefined })).toMatchObject({ outcome: 'committed', due: null });
    await expectWhole(world);
  });

  it('gives what the last fold took its grace for a HEAD more, and then collects it without a fold', async () => {
    await create(world, 'old');
    await world.clock.advance(20 * MINUTE);
    expect(await pass()).toMatchObject({ outcome: 'committed', due: 'age' });
    await world.clock.advance(MINUTE);
    await create(world, 'new');
    const look = ['list log/', 'head manifest.json'];
    expect(await pass()).toMatchObject({ outcome: 'deferred', deferred: { entries: 2 }, requests: look });
    await world.clock.advance(AFTER_GRACE);
    const collecting = await pass();
    expect(collecting).toMatchObject({
      outcome: 'deferred',
      version: 1,
      rows: 1,
      deferred: { entries: 2 },
      collected: { objects: 2, lists: 1 },
      waiting: 0,
    });
    expect(collecting.requests.filter((request) => request.startsWith('put'))).toEqual([]);
    expect(await entryKeys(world)).toHaveLength(2);
    await world.clock.advance(MINUTE);
    expect((await pass()).requests).toEqual(['list log/']);
    await expectWhole(world);
  });

  it('never starves: whatever comes after it, no entry waits longer than the age and one pass', async () => {
    const random = seededRandom(11);
    const born = new Map<string, number>();
    let oldest = 0;
    for (let minute = 0; minute < 120; minute++) {
      // Now busy, now calm, now nobody.
      const runs =
        minute % 40 < 10 ? random.u32() % 4 : minute % 40 < 30 ? Number(random.u32() % 5 === 0) : 0;
      for (let i = 0; i < runs; i++) await create(world, `run-${minute}-${i}`);
      for (const key of await entryKeys(world)) if (!born.has(key)) born.set(key, world.clock.now());
      const before = world.clock.now();
      const [result] = await compactPass(world.compactor, { fold: { ...policy, entries: 30 } });
      if (result?.outcome === 'committed') born.clear();
      else if (result?.outcome === 'deferred') oldest = Math.max(oldest, result.deferred!.oldest_age_ms);
      await world.clock.advance(before + MINUTE - world.clock.now());
    }
    expect(oldest).toBeGreaterThan(8 * MINUTE);
    expect(oldest).toBeLessThan(policy.afterMs);
    await world.clock.advance(policy.afterMs);
    for (let i = 0; i < 4; i++) {
      await compactPass(world.compactor, { fold: policy });
      await world.clock.advance(AFTER_GRACE);
    }
    expect(await entryKeys(world)).toEqual([]);
    expect(await keysUnder(world, DIRTY_PREFIX)).toEqual([]);
    await expectSettles(world);
  });
});

describe('what a deferral must not hold up', () => {
  it('an announcement that nobody confirms: asked once it is half a minute old, named at five', async () => {
    await foldedOnce();
    const key = entryKey(ORG, uuidv7(world.clock.now(), seededRandom(4)));
    const body = encodeEntry({ org_id: ORG, records: [intentOf(runOf({ run_id: 'never' }))] });
    await world.memory.put(key, body);
    await create(world, 'a');
    const outcomes: string[] = [];
    for (let minute = 0; minute < 9; minute++) {
      const { outcome, ...result } = await pass({ orgs: [ORG] });
      outcomes.push(outcome === 'failed' || !('due' in result) ? 'failed' : `${outcome} ${result.due}`);
      await create(world, `run-${minute}`);
      await world.clock.advance(MINUTE);
    }
    expect(outcomes[0]).toBe('committed apart');
    const named = outcomes.indexOf('committed intent');
    expect(named).toBeGreaterThanOrEqual(5);
    expect(outcomes.slice(named + 1)).toEqual(outcomes.slice(named + 1).map(() => 'deferred null'));
    expect((await currentManifest(world)).intents).toMatchObject([{ run_id: 'never' }]);
    await expectWhole(world);
  });

  it('a corrupt entry goes into quarantine, and the org is deferred again afterwards', async () => {
    await foldedOnce();
    const bad = entryKey(ORG, uuidv7(world.clock.now(), seededRandom(4)));
    await world.memory.put(bad, new TextEncoder().encode('{"broken'));
    await create(world, 'a');
    expect(await pass()).toMatchObject({ outcome: 'committed', quarantined: 1 });
    await world.clock.advance(AFTER_GRACE);
    await create(world, 'b');
    expect(await pass()).toMatchObject({ outcome: 'deferred', collected: { objects: 2 } });
    await world.clock.advance(MINUTE);
    expect(await pass()).toMatchObject({ outcome: 'deferred', deferred: { entries: 2 } });
  });

  it('what retention passes as a whole, and deletes whose tombstone is over', async () => {
    const { recorder } = world.session;
    await create(world, 'gone');
    await recorder.apply(ORG, 'gone', { type: 'started', attempt: 1 });
    await recorder.apply(ORG, 'gone', { type: 'succeeded', attempt: 1 });
    await recorder.apply(ORG, 'gone', { type: 'delete' });
    await world.compact();
    expect((await currentManifest(world)).tombstones).toHaveLength(1);
    await world.clock.advance(world.compactor.limits.tombstoneTtlMs + MINUTE);
    await create(world, 'new');
    // The log holds what was folded a week ago: this pass looks at everything.
    expect(await pass()).toMatchObject({ outcome: 'committed', due: 'upkeep' });
    expect((await currentManifest(world)).tombstones).toEqual([]);
  });

  it('the legacy export, which is brought up to date by folds alone', async () => {
    await create(world, 'a');
    expect(await pass({ exportLegacy: true })).toMatchObject({ outcome: 'committed', exported: { runs: 1 } });
  });

  it('chores: not sent for each deferred org, but by every pass over all orgs, and before each fold', async () => {
    const { recorder } = world.session;
    const chores = { sweep: recorder, archive: recorder, orphans: true };
    await recorder.create(ORG, { run_id: 'late', heartbeat_timeout_ms: 30_000 });
    await recorder.apply(ORG, 'late', { type: 'started', attempt: 1 });
    await world.clock.advance(4 * MINUTE);
    const deferred = await pass(chores);
    expect(deferred).toMatchObject({ outcome: 'deferred', requests: ['list log/'] });
    expect('swept' in deferred || 'archived' in deferred).toBe(false);
    expect(await pass({ ...chores, orgs: 'all' })).toMatchObject({
      outcome: 'deferred',
      swept: { timed_out: ['late'] },
      archived: { waiting: 0 },
      orphans: { orphans: [] },
    });
    await world.clock.advance(10 * MINUTE);
    expect(await pass(chores)).toMatchObject({ outcome: 'committed', due: 'age', swept: { active: 0 } });
    await expectWhole(world);
  });

  it('a policy, a fence: who asks for a version gets one', async () => {
    await create(world, 'a');
    const { compactOrg } = await import('../../compactor/compact.ts');
    expect(await compactOrg(world.compactor, ORG, { fold: policy })).toMatchObject({ outcome: 'deferred' });
    const asked = { fold: policy, policy: { retain_ms: null, time_travel_ms: 1_000 } };
    expect(await compactOrg(world.compactor, ORG, asked)).toMatchObject({ outcome: 'committed', rows: 1 });
    expect(await compactOrg(world.compactor, ORG, { fold: policy, fence: true })).toMatchObject({
      version: 2,
    });
    expect(await world.memory.head(manifestKey(ORG))).not.toBeNull();
  });
});
