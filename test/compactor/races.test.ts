import { beforeEach, describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import { openCatalog } from '../../src/catalog/catalog.ts';
import { garbagePrefix, logPrefix, manifestCopyKey, manifestKey, partsPrefix } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept, latent, planting, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { expectLaw2, fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  compactOn,
  compactorOn,
  create,
  currentManifest,
  entryKeys,
  expectSettles,
  expectWhole,
  type FakeWorld,
  isCommit,
  keysUnder,
} from './support.ts';

let world: FakeWorld;
beforeEach(async () => {
  // Heads are objects, so that every kind of object is raced for.
  world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
});

/** A version and a tail on top of it: the next fold writes a part, two garbage lists, a copy and the manifest. */
async function fill(): Promise<void> {
  await create(world, 'a');
  await world.compact();
  await create(world, 'b');
}

type Instant = [name: string, matches: (call: StoreCall) => boolean];
const operation = (name: StoreCall['operation'], prefix: string) => (call: StoreCall) =>
  call.operation === name && call.key.startsWith(prefix);
const INSTANTS: Instant[] = [
  ['before it reads the manifest', operation('get', manifestKey(ORG))],
  ['before it lists the log', operation('list', logPrefix(ORG))],
  ['before it lists the garbage', operation('list', garbagePrefix(ORG))],
  ['before it reads the head', operation('get', partsPrefix(ORG))],
  ['before it writes the head', operation('put', partsPrefix(ORG))],
  ['before it writes a garbage list', operation('put', garbagePrefix(ORG))],
  ['before it copies the old manifest', operation('put', manifestCopyKey(ORG, 1))],
  ['before the compare-and-swap', isCommit],
];

describe('a rival compactor at any instant', () => {
  it.each(INSTANTS)('%s: one of them commits, nothing is lost', async (_, matches) => {
    await fill();
    let rivals = 0;
    const store = planting(world.memory, matches, async () => {
      rivals++;
      expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2 });
    });
    const outcome = await compactOn(world, store);
    expect(rivals).toBe(1);
    expect(['clean', 'committed']).toContain(outcome.outcome);
    expect((await currentManifest(world)).version).toBeLessThanOrEqual(3);
    await expectSettles(world);
  });

  it.each(INSTANTS)(
    '%s, with writers that go on: their runs are neither lost nor doubled',
    async (_, matches) => {
      await fill();
      const store = planting(world.memory, matches, async () => {
        await create(world, 'c');
        await world.compact();
        await create(world, 'd');
        await world.session.recorder.apply(ORG, 'a', { type: 'cancel' });
      });
      await compactOn(world, store);
      await expectWhole(world);
      await expectSettles(world);
      expect((await world.read()).state.rowCount).toBe(4);
    },
  );

  it('before every compare-and-swap: the loser gives up after a bounded number of rounds, and harms nobody', async () => {
    await fill();
    let n = 0;
    const store = intercept(world.memory, async (call, go) => {
      if (isCommit(call)) {
        await world.compact();
        await create(world, `more-${n++}`);
      }
      return go();
    });
    expect(await compactOn(world, store)).toMatchObject({ outcome: 'lost', settled: false });
    expect(n).toBeLessThan(10);
    await expectSettles(world);
  });

  it('what the loser wrote are orphans: never named, never executed', async () => {
    await fill();
    const orphans: string[] = [];
    const store = intercept(world.memory, async (call, go) => {
      if (isCommit(call)) await world.compact();
      if (call.operation === 'put' && !isCommit(call) && !call.key.includes('/manifests/'))
        orphans.push(call.key);
      return go();
    });
    expect(await compactOn(world, store)).toMatchObject({ outcome: 'clean', version: 2 });
    expect(orphans.some((key) => key.startsWith(partsPrefix(ORG)))).toBe(true);
    expect(orphans.some((key) => key.startsWith(garbagePrefix(ORG)))).toBe(true);
    const named = JSON.stringify(await currentManifest(world));
    for (const key of orphans) expect(named).not.toContain(key.split('/').at(-1)!.split('.')[0]);
    // Its lists name the entries that the winner folded and the head that the winner replaced. A new run under the
    // loser's nose shows whether anything of them is executed later.
    await create(world, 'c');
    await world.clock.advance(10 * AFTER_GRACE);
    await world.compact();
    await world.clock.advance(world.compactor.limits.partGraceMs + AFTER_GRACE);
    await world.compact();
    for (const key of orphans) expect(await world.memory.head(key)).not.toBeNull();
    await expectWhole(world);
  });

  it('three at once, over a slow store, again and again', async () => {
    const { clock } = world;
    const slow = latent(world.memory, clock, 10);
    for (let round = 0; round < 5; round++) {
      await create(world, `run-${round}`);
      const results = await clock.run(
        Promise.all([1, 2, 3].map((seed) => compactOrg(compactorOn(world, slow, 10 * round + seed), ORG))),
      );
      expect(results.filter(({ outcome, entries }) => outcome === 'committed' && entries > 0)).toHaveLength(
        1,
      );
      await expectWhole(world);
    }
    await expectSettles(world);
  });
});

describe('readers beside compactors', () => {
  it.each(INSTANTS.slice(4))('law 3, %s: every refresh shows what was acknowledged', async (_, matches) => {
    await fill();
    const follower = world.reader();
    await follower.refresh();
    const store = planting(world.memory, matches, async () => {
      await create(world, 'c');
      await expectLaw2(world, await world.read());
      await expectLaw2(world, await follower.refresh());
    });
    await compactOn(world, store);
    await expectLaw2(world, await world.read());
    await expectLaw2(world, await follower.refresh());
  });

  it('law 6: a fold and its collection in the middle of a refresh take nothing away that it needs', async () => {
    for (const instant of ['get', 'list'] as const) {
      world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
      await fill();
      const store = planting(
        world.memory,
        (call) => call.operation === instant,
        async () => {
          await world.compact();
          await world.clock.advance(59_000);
          await world.compact();
        },
      );
      const catalog = openCatalog(store, { clock: world.clock }).org(ORG);
      await catalog.refresh();
      expect(catalog.stats.attempts).toBe(1);
      await expectLaw2(world, catalog);
    }
  });

  it('a warm reader that was away for long sees folds, deletes and collections of the meantime', async () => {
    await fill();
    const follower = world.reader();
    await follower.refresh();
    for (const ms of [50_000, 61_000, AFTER_GRACE, 4_000_000]) {
      await create(world, `after-${ms}`);
      await world.compact();
      await world.clock.advance(ms);
      await world.compact();
      await expectLaw2(world, await follower.refresh());
    }
  });
});

describe('a compactor that is killed', () => {
  /** From the first matching call on nothing reaches the store any more; `through`: that one call still does. */
  function killed(matches: (call: StoreCall) => boolean, through: boolean): ObjectStore {
    let dead = false;
    return intercept(world.memory, async (call, go) => {
      if (dead) throw new Error('killed');
      if (!matches(call)) return go();
      dead = true;
      if (through) await go();
      throw new Error('killed');
    });
  }

  it.each(INSTANTS)('%s: the next pass is as if it had never been', async (_, matches) => {
    await fill();
    await expect(compactOn(world, killed(matches, false))).rejects.toThrow('killed');
    await expectWhole(world);
    expect((await currentManifest(world)).version).toBe(1);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2, entries: 2 });
    await expectSettles(world);
  });

  it('at the commit point, the swap done but never answered: the next pass finds it done', async () => {
    await fill();
    await expect(compactOn(world, killed(isCommit, true))).rejects.toThrow('killed');
    expect((await currentManifest(world)).version).toBe(2);
    expect(await world.compact()).toMatchObject({ outcome: 'clean', version: 2, entries: 0 });
    await expectSettles(world);
  });

  it.each([
    ['at the first delete', false],
    ['after the first delete', true],
  ])('while it collects, %s: the next pass goes on', async (_, through) => {
    await fill();
    await world.compact();
    await world.clock.advance(AFTER_GRACE);
    const deletes = ({ operation }: StoreCall) => operation === 'delete';
    await expect(compactOn(world, killed(deletes, through))).rejects.toThrow('killed');
    expect((await entryKeys(world)).length).toBeLessThanOrEqual(through ? 3 : 4);
    expect((await entryKeys(world)).length).toBeGreaterThan(0);
    await expectSettles(world);
  });

  it('between the entries of a list and the list itself: the next pass deletes the list', async () => {
    await fill();
    await world.compact();
    await world.clock.advance(AFTER_GRACE);
    const list = (call: StoreCall) => call.operation === 'delete' && call.key.startsWith(garbagePrefix(ORG));
    await expect(compactOn(world, killed(list, false))).rejects.toThrow('killed');
    await world.compact();
    expect(await entryKeys(world)).toEqual([]);
    await expectSettles(world);
  });
});

describe('the commit has an unknown outcome', () => {
  const unknown = { outcome: 'unknown', cause: new Error('connection reset') };
  const losing = (take: (go: () => Promise<unknown>) => Promise<unknown>) => {
    let first = true;
    return intercept(world.memory, async (call, go) => {
      if (!isCommit(call) || !first) return go();
      first = false;
      await take(go);
      return unknown;
    });
  };

  it('it took effect: reading back settles it', async () => {
    await fill();
    expect(
      await compactOn(
        world,
        losing((go) => go()),
      ),
    ).toMatchObject({ outcome: 'committed', version: 2 });
    await expectSettles(world);
  });

  it('it did not: OUTCOME_UNKNOWN, nothing is cleaned up, and the next pass commits', async () => {
    await fill();
    const before = await keysUnder(world, '');
    await expect(
      compactOn(
        world,
        losing(async () => undefined),
      ),
    ).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(await keysUnder(world, '')).toEqual(expect.arrayContaining(before));
    await expectWhole(world);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2 });
    await expectSettles(world);
  });

  it("it did not, and a rival's version is there: still unknown, and the rival's stands", async () => {
    await fill();
    const compacting = compactOn(
      world,
      losing(() => world.compact()),
    );
    await expect(compacting).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect(await currentManifest(world)).toMatchObject({ version: 2 });
    await expectSettles(world);
  });

  it('it lands long after the compactor gave up: the swap refuses it', async () => {
    await fill();
    let late: (() => Promise<unknown>) | null = null;
    const store = losing(async (go) => {
      late = go;
    });
    await expect(compactOn(world, store)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    await world.compact();
    await create(world, 'c');
    expect(await late!()).toEqual({ outcome: 'conflict' });
    await expectSettles(world);
  });

  it('it lands late, but before anybody else: it is a version like any other', async () => {
    await fill();
    let late: (() => Promise<unknown>) | null = null;
    const store = losing(async (go) => {
      late = go;
    });
    await expect(compactOn(world, store)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    await late!();
    expect(await currentManifest(world)).toMatchObject({ version: 2 });
    await expectSettles(world);
  });
});

describe('what precedes the commit has an unknown outcome', () => {
  it('(the copy of the old manifest): it is not needed for the new one', async () => {
    await fill();
    const copies = operation('put', manifestCopyKey(ORG, 1));
    const store = intercept(world.memory, async (call, go) =>
      copies(call) ? { outcome: 'unknown', cause: new Error('reset') } : go(),
    );
    expect(await compactOn(world, store)).toMatchObject({ outcome: 'committed', version: 2 });
    await expectSettles(world);
  });

  it.each(INSTANTS.slice(4, 6))('(%s): nothing is committed on a guess', async (_, matches) => {
    await fill();
    const store = intercept(world.memory, async (call, go) =>
      matches(call) ? { outcome: 'unknown', cause: new Error('reset') } : go(),
    );
    await expect(compactOn(world, store)).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    expect((await currentManifest(world)).version).toBe(1);
    await expectSettles(world);
  });
});
