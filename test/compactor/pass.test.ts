import { beforeEach, describe, expect, it } from 'vitest';
import { listOrgs } from '../../compactor/orgs.ts';
import { compactPass, type PassResult } from '../../compactor/pass.ts';
import { seededRandom } from '../../src/core/random.ts';
import { LogWriter } from '../../src/log/append.ts';
import { intentOf } from '../../src/runs/record.ts';
import { DIRTY_PREFIX, dirtyKey, manifestKey } from '../../src/store/keys.ts';
import { intercept, planting, recording, type StoreCall } from '../support/intercept.ts';
import { ORG, runOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import { AFTER_GRACE, compactorOn, create, expectWhole, type FakeWorld, keysUnder } from './support.ts';

let world: FakeWorld;
beforeEach(async () => {
  world = await fakeWorld();
});
const markers = () => keysUnder(world, DIRTY_PREFIX);
const outcomes = (results: readonly PassResult[]) =>
  results.map(({ org_id, outcome }) => `${org_id} ${outcome}`).sort();

describe('a pass', () => {
  it('folds the orgs with a marker, and no other', async () => {
    await create(world, 'a', 'one');
    await create(world, 'b', 'two');
    await world.session.close();
    const quiet = (await world.memory.head(dirtyKey('two')))!;
    await world.memory.delete(quiet.key, { ifGeneration: quiet.generation });
    const seen: [number, string[]] = [0, []];
    const results = await compactPass(world.compactor, {
      onStart: (orgs) => {
        seen[0] = orgs;
      },
      onOrg: ({ org_id }) => seen[1].push(org_id),
    });
    expect(outcomes(results)).toEqual(['one committed']);
    expect(seen).toEqual([1, ['one']]);
  });

  it('over all orgs finds those whose marker was lost; over named ones only those', async () => {
    for (const org of ['one', 'two', 'three']) await create(world, 'a', org);
    await world.session.close();
    for (const key of await markers())
      await world.memory.delete(key, { ifGeneration: (await world.memory.head(key))!.generation });
    expect(await compactPass(world.compactor)).toEqual([]);
    expect(outcomes(await compactPass(world.compactor, { orgs: ['two'] }))).toEqual(['two committed']);
    expect(await listOrgs(world.memory)).toEqual(['one', 'three', 'two']);
    const all = await compactPass(world.compactor, { orgs: 'all' });
    expect(outcomes(all)).toEqual(['one committed', 'three committed', 'two clean']);
  });

  it('one broken org comes back as failed, and stops nobody', async () => {
    for (const org of ['a-broken', 'fine', 'newer']) await create(world, 'a', org);
    await world.memory.put(manifestKey('a-broken'), new TextEncoder().encode('x'));
    await world.memory.put(manifestKey('newer'), new TextEncoder().encode('{"format":99}'));
    await world.session.close();
    const results = await compactPass(world.compactor, { parallel: 1 });
    expect(results.map(({ org_id }) => org_id)).toEqual(['a-broken', 'fine', 'newer']);
    expect(results).toMatchObject([
      { outcome: 'failed', code: 'CORRUPT', message: expect.stringContaining('manifest.json') },
      { outcome: 'committed' },
      { outcome: 'failed', code: 'UNSUPPORTED_FORMAT' },
    ]);
    expect(await markers()).toHaveLength(3);
  });

  it('a defect is told from a foreseen error, and stops nobody either', async () => {
    for (const org of ['one', 'two']) await create(world, 'a', org);
    await world.session.close();
    const store = intercept(world.memory, (call, go) =>
      call.key === manifestKey('one') ? Promise.reject(new TypeError('x is undefined')) : go(),
    );
    const results = await compactPass(compactorOn(world, store));
    expect(results).toMatchObject([{ outcome: 'failed', code: 'INTERNAL' }, { outcome: 'committed' }]);
  });

  it('an abort stops it', async () => {
    for (const org of ['one', 'two']) await create(world, 'a', org);
    await world.session.close();
    const caller = new AbortController();
    const pass = compactPass(world.compactor, {
      parallel: 1,
      signal: caller.signal,
      onOrg: () => caller.abort(new Error('enough')),
    });
    await expect(pass).rejects.toThrow('enough');
    expect(await world.memory.head(manifestKey('two'))).toBeNull();
  });
});

describe('a dirty marker', () => {
  it('goes when its org is settled and no writer can rely on it any more, not before', async () => {
    await create(world, 'a');
    await world.session.close();
    const marked = world.clock.now();
    const pass = async () => {
      const results = await compactPass(world.compactor);
      return { ...results[0], markers: (await markers()).length };
    };
    expect(await pass()).toMatchObject({ outcome: 'committed', markers: 1 });
    expect(await pass()).toMatchObject({ outcome: 'clean', settled: false, markers: 1 });
    await world.clock.advance(119_999);
    expect(await pass()).toMatchObject({ settled: false, markers: 1 });
    await world.clock.advance(AFTER_GRACE - 119_999);
    expect(world.clock.now() - marked).toBeGreaterThan(120_000);
    expect(await pass()).toMatchObject({ outcome: 'clean', settled: true, markers: 0 });
    const calls: StoreCall[] = [];
    expect(await compactPass(compactorOn(world, recording(world.memory, calls)))).toEqual([]);
    expect(calls.map(({ operation, key }) => `${operation} ${key}`)).toEqual([`list ${DIRTY_PREFIX}`]);
  });

  it('of a settled org stays while a writer may still trust it', async () => {
    await world.memory.put(dirtyKey(ORG), new Uint8Array());
    await world.clock.advance(119_999);
    expect(await compactPass(world.compactor)).toMatchObject([{ outcome: 'clean', settled: true }]);
    expect(await markers()).toHaveLength(1);
    await world.clock.advance(1);
    await compactPass(world.compactor);
    expect(await markers()).toEqual([]);
  });

  it('however old, stays while anything is left to do: garbage in its grace, an unconfirmed intent', async () => {
    await create(world, 'a');
    await world.session.close();
    await world.clock.advance(10 * AFTER_GRACE);
    expect(await compactPass(world.compactor)).toMatchObject([{ outcome: 'committed', settled: false }]);
    expect(await compactPass(world.compactor)).toMatchObject([{ outcome: 'clean', settled: false }]);
    expect(await markers()).toHaveLength(1);
    const { clock, serverClock, limits } = world.session;
    const log = new LogWriter(world.memory, { clock, serverClock, random: seededRandom(8), limits });
    await log.append(ORG, [intentOf(runOf({ run_id: 'never' }))]);
    await log.idle();
    for (const _ of [1, 2, 3]) {
      await world.clock.advance(10 * AFTER_GRACE);
      expect(await compactPass(world.compactor)).toMatchObject([{ waiting: 1, settled: false }]);
      expect(await markers()).toHaveLength(1);
    }
  });

  it('that a writer renewed since the listing stays', async () => {
    await create(world, 'a');
    await world.session.close();
    await compactPass(world.compactor);
    await world.clock.advance(AFTER_GRACE);
    const store = planting(
      world.memory,
      ({ operation, key }) => operation === 'delete' && key === dirtyKey(ORG),
      async () => {
        await create(world, 'b');
        await world.session.close();
      },
    );
    expect(await compactPass(compactorOn(world, store))).toMatchObject([{ settled: true }]);
    expect(await markers()).toEqual([dirtyKey(ORG)]);
    expect(await compactPass(world.compactor)).toMatchObject([{ outcome: 'committed', entries: 2 }]);
    await expectWhole(world);
  });

  it('that cannot be deleted fails no pass', async () => {
    await world.memory.put(dirtyKey(ORG), new Uint8Array());
    await world.clock.advance(AFTER_GRACE);
    const store = intercept(world.memory, (call, go) =>
      call.operation === 'delete' ? Promise.reject(new Error('no')) : go(),
    );
    expect(await compactPass(compactorOn(world, store))).toMatchObject([{ outcome: 'clean' }]);
    expect(await markers()).toHaveLength(1);
  });

  it('of no org is passed over', async () => {
    await world.memory.put(`${DIRTY_PREFIX}00/%2e%2e`, new Uint8Array());
    expect(await compactPass(world.compactor)).toEqual([]);
  });
});
