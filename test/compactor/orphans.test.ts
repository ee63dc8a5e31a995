import { beforeEach, describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import { type OrphanSweep, sweepOrphans } from '../../compactor/orphans.ts';
import { compactPass, type PassResult } from '../../compactor/pass.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import {
  garbagePrefix,
  manifestCopyKey,
  manifestKey,
  manifestsPrefix,
  partsPrefix,
  shardOf,
} from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { gate, intercept, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  compactOn,
  compactorOn,
  create,
  currentManifest,
  expectSettles,
  expectWhole,
  type FakeWorld,
  isCommit,
  keysUnder,
} from './support.ts';

const DAY = 24 * 3_600_000;

let world: FakeWorld;
beforeEach(async () => {
  world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
});

const verify = async () => (await world.clock.run(verifyOrg(world.compactor, ORG))).problems;
const keysOf = ({ orphans }: OrphanSweep) => orphans.map(({ key }) => key).sort();

/** A compactor that loses the compare-and-swap; what it wrote, but for the copy that the winner wrote as well. */
async function lose(): Promise<string[]> {
  const written: string[] = [];
  let lost = false;
  const store = intercept(world.memory, async (call, go) => {
    if (isCommit(call) && !lost) {
      lost = true;
      await world.compact();
    }
    if (call.operation === 'put' && !lost && !call.key.startsWith(manifestsPrefix(ORG)))
      written.push(call.key);
    return go();
  });
  expect(await compactOn(world, store)).toMatchObject({ outcome: 'clean' });
  return written.sort();
}

/** A compactor that is stopped before its first call that matches, and goes on when it is woken. */
function sleeper(matches: (call: StoreCall) => boolean) {
  const { opened, open } = gate();
  const asleep = gate();
  let slept = false;
  const store: ObjectStore = intercept(world.memory, async (call, go) => {
    if (!slept && matches(call)) {
      slept = true;
      asleep.open();
      await opened;
    }
    return go();
  });
  const done = compactOn(world, store, 99).catch((error: unknown) => error);
  return { asleep: asleep.opened, wake: open, done };
}

describe('orphans', () => {
  it("of a loser are listed with size, age and reason, and go after a day of the server's clock", async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const lost = await lose();
    expect(lost.some((key) => key.startsWith(partsPrefix(ORG)))).toBe(true);
    expect(lost.some((key) => key.startsWith(garbagePrefix(ORG)))).toBe(true);
    // Local clocks say nothing: this compactor believes to be two days ahead.
    const ahead = { ...world.compactor, clock: world.clock.offBy(2 * DAY) };
    await world.clock.advance(DAY);
    await world.compact();
    expect(await sweepOrphans(ahead, ORG, { dryRun: true })).toMatchObject({ orphans: [], deleted: 0 });
    expect(await sweepOrphans(ahead, ORG)).toMatchObject({ orphans: [], deleted: 0 });

    await world.clock.advance(1);
    const { version } = await currentManifest(world);
    const preview = await sweepOrphans(world.compactor, ORG, { dryRun: true });
    expect(keysOf(preview)).toEqual(lost);
    expect(preview.deleted).toBe(0);
    for (const { key, size_bytes, age_ms, reason } of preview.orphans) {
      expect(size_bytes).toBe((await world.memory.head(key))!.sizeBytes);
      expect(age_ms).toBe(DAY + 1);
      expect(reason).toMatch(/^no /);
    }
    // A dry run does not even commit the fence.
    expect((await currentManifest(world)).version).toBe(version);
    const real = await sweepOrphans(world.compactor, ORG);
    expect(real).toEqual({ ...preview, deleted: lost.length });
    for (const key of lost) expect(await world.memory.head(key)).toBeNull();
    expect((await currentManifest(world)).version).toBe(version + 1);
    expect(await sweepOrphans(world.compactor, ORG)).toMatchObject({ orphans: [], deleted: 0 });
    expect(await verify()).toEqual([]);
    await expectSettles(world);
  });

  it('nothing that a kept version or a waiting list names is one, however old', async () => {
    await world.clock.advance(1);
    const policy = { retain_ms: null, time_travel_ms: 30 * DAY };
    await compactOrg(world.compactor, ORG, { policy });
    for (let n = 0; n < 4; n++) {
      await create(world, `run-${n}`);
      await world.compact();
      await world.clock.advance(3 * DAY);
    }
    expect(await sweepOrphans(world.compactor, ORG)).toMatchObject({ orphans: [] });
    expect(await keysUnder(world, manifestsPrefix(ORG))).toHaveLength(4);
    await expectWhole(world);
  });

  it('a compactor that prepared before the sweep and wakes after it cannot commit (the fence)', async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const before = await keysUnder(world, partsPrefix(ORG));
    const sleepy = sleeper(isCommit);
    await sleepy.asleep;
    const prepared = (await keysUnder(world, partsPrefix(ORG))).filter((key) => !before.includes(key));
    expect(prepared).toHaveLength(1);
    await world.clock.advance(DAY + 1);
    const swept = await sweepOrphans(world.compactor, ORG);
    expect(keysOf(swept)).toEqual(expect.arrayContaining(prepared));
    expect(swept.deleted).toBe(swept.orphans.length);
    sleepy.wake();
    expect(await sleepy.done).toMatchObject({ outcome: 'clean' });
    const names = (await currentManifest(world)).parts.map(
      ({ name }) => `${partsPrefix(ORG)}${name}.parquet`,
    );
    for (const name of names) expect(await world.memory.head(name)).not.toBeNull();
    await expectSettles(world);
    expect(await verify()).toEqual([]);
  });

  it('the fence that cannot be committed lets nothing be deleted', async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const lost = await lose();
    await world.clock.advance(DAY + 1);
    const unknown = { outcome: 'unknown', cause: new Error('reset') };
    const store = intercept(world.memory, async (call, go) => (isCommit(call) ? unknown : go()));
    await expect(sweepOrphans(compactorOn(world, store), ORG)).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
    });
    for (const key of lost) expect(await world.memory.head(key)).not.toBeNull();
  });

  it('a ghost manifest copy that a sleeping compactor puts back is swept, and verify is clean', async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const sleepy = sleeper(({ operation, key }) => operation === 'put' && key === manifestCopyKey(ORG, 1));
    await sleepy.asleep;
    for (const run of ['c', 'd', 'e']) {
      await create(world, run);
      await world.compact();
      await world.clock.advance(world.compactor.limits.partGraceMs + AFTER_GRACE);
      await world.compact();
    }
    expect(await keysUnder(world, manifestsPrefix(ORG))).toEqual([]);
    await create(world, 'f');
    await world.compact();
    sleepy.wake();
    await sleepy.done;
    expect(await keysUnder(world, manifestsPrefix(ORG))).toContain(manifestCopyKey(ORG, 1));
    expect(await verify()).toEqual([]);
    await world.clock.advance(DAY + 1);
    const swept = await sweepOrphans(world.compactor, ORG);
    expect(keysOf(swept)).toContain(manifestCopyKey(ORG, 1));
    expect(swept.orphans.find(({ key }) => key === manifestCopyKey(ORG, 1))!.reason).toBe(
      'the versions after it are gone',
    );
    expect(await world.memory.head(manifestCopyKey(ORG, 1))).toBeNull();
    expect(await verify()).toEqual([]);
    await expectSettles(world);
  });

  it('a corrupt manifest, or a corrupt waiting list, lets nothing be deleted', async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const lost = await lose();
    await world.clock.advance(DAY + 1);
    const [list] = (await currentManifest(world)).garbage;
    const before = await keysUnder(world, '');
    for (const key of [`${garbagePrefix(ORG)}${list!.name}.json`, manifestKey(ORG)]) {
      const store = intercept(world.memory, async (call, go) => {
        const got = await go();
        if (call.operation !== 'get' || call.key !== key) return got;
        return { ...(got as object), body: new TextEncoder().encode('{') };
      });
      await expect(sweepOrphans(compactorOn(world, store), ORG)).rejects.toMatchObject({ code: 'CORRUPT' });
    }
    expect(await keysUnder(world, '')).toEqual(before);
    expect(lost.length).toBeGreaterThan(0);
  });
});

describe('a pass with upkeep', () => {
  const outcomes = (results: readonly PassResult[]) =>
    results.map(({ org_id, outcome }) => `${org_id} ${outcome}`);

  it('shards partition the orgs exactly, whatever their number', async () => {
    const orgs = Array.from({ length: 60 }, (_, n) => `org-${n}`);
    for (const org of orgs) await create(world, 'a', org);
    for (const count of [1, 2, 3, 7, 64, 300]) {
      const shares: string[][] = [];
      for (let index = 0; index < count; index++) {
        const results = await compactPass(world.compactor, { orgs: 'all', shard: { index, count } });
        shares.push(results.map(({ org_id }) => org_id));
        for (const org of shares.at(-1)!) expect(shardOf(org) % count).toBe(index);
      }
      expect(shares.flat().sort()).toEqual([...orgs].sort());
    }
  });

  it('sweeps before the fold, and clears orphans after it', async () => {
    const { recorder } = world.session;
    await recorder.create(ORG, { run_id: 'late', heartbeat_timeout_ms: 30_000 });
    await recorder.apply(ORG, 'late', { type: 'started', attempt: 1 });
    await world.compact();
    await create(world, 'b');
    const lost = await lose();
    await world.clock.advance(DAY + 1);
    const [result] = await compactPass(world.compactor, {
      orgs: [ORG],
      sweep: recorder,
      orphans: true,
    });
    expect(result).toMatchObject({
      outcome: 'committed',
      entries: 1,
      swept: { timed_out: ['late'] },
      orphans: { deleted: lost.length },
    });
    expect((await world.read()).active().map(({ run_id }) => run_id)).toEqual(['b']);
    expect(await compactPass(world.compactor, { orgs: [ORG] })).not.toMatchObject([{ swept: {} }]);
    await expectWhole(world);
  });

  it('one broken org, or one broken chore, stops nobody', async () => {
    for (const org of ['a-broken', 'b-fine', 'c-swept', 'd-fine']) await create(world, 'a', org);
    await world.memory.put(manifestKey('a-broken'), new TextEncoder().encode('x'));
    await world.clock.advance(10 * 60_000);
    // The sweep of c cannot read the canonical run, the fold need not.
    const store = intercept(world.memory, (call, go) =>
      call.operation === 'get' && call.key.startsWith('authoritative-runs/runs/c-swept/')
        ? Promise.reject(new Error('no'))
        : go(),
    );
    const results = await compactPass(compactorOn(world, store), {
      orgs: 'all',
      parallel: 1,
      sweep: world.session.recorder,
      orphans: true,
    });
    expect(outcomes(results)).toEqual([
      'a-broken failed',
      'b-fine committed',
      'c-swept committed',
      'd-fine committed',
    ]);
    expect(results[2]).toMatchObject({
      swept: { outcome: 'failed', message: 'no' },
      orphans: { deleted: 0 },
    });
  });

  it('that is drained finishes the orgs it is at and begins no other', async () => {
    for (const org of ['a', 'b', 'c', 'd', 'e']) await create(world, 'run', org);
    const drain = new AbortController();
    const results = await compactPass(world.compactor, {
      orgs: 'all',
      parallel: 2,
      drain: drain.signal,
      onOrg: () => drain.abort(),
    });
    expect(outcomes(results)).toEqual(['a committed', 'b committed']);
    expect(outcomes(await compactPass(world.compactor, { orgs: 'all', drain: drain.signal }))).toEqual([]);
    expect((await compactPass(world.compactor, { orgs: 'all' })).map(({ outcome }) => outcome)).toEqual([
      'clean',
      'clean',
      'committed',
      'committed',
      'committed',
    ]);
  });
});
