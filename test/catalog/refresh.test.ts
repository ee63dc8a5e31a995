import { beforeEach, describe, expect, it } from 'vitest';
import { openCatalog } from '../../src/catalog/catalog.ts';
import type { Limits } from '../../src/core/limits.ts';
import { limits as limitsOf } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { LogWriter } from '../../src/log/append.ts';
import { intentOf } from '../../src/runs/record.ts';
import { openSession } from '../../src/session.ts';
import { counting, noRequests, requestsOf } from '../../src/store/counting.ts';
import { entryKey, logPrefix, manifestKey, partsPrefix, runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT, type Capabilities, type ObjectStore } from '../../src/store/object-store.ts';
import { ServerClock } from '../../src/store/server-clock.ts';
import { FakeClock, settle } from '../support/fake-clock.ts';
import { gate, intercept, latent, recording, type StoreCall } from '../support/intercept.ts';
import { ORG, runOf } from '../support/runs.ts';
import { expectLaw2, fakeWorld, type World, worldOn } from '../support/world.ts';

const create = (world: World, run_id: string, orgId = ORG) =>
  world.session.recorder.create(orgId, { run_id });
const idsOf = (catalog: { state: { rows(): { length: number; runId(i: number): string } } }) => {
  const rows = catalog.state.rows();
  return Array.from({ length: rows.length }, (_, i) => rows.runId(i)).sort();
};
/** At most `max` items per page. */
const paged = (store: ObjectStore, max: number) => ({
  ...store,
  url: store.url,
  capabilities: store.capabilities,
  get: store.get.bind(store),
  head: store.head.bind(store),
  put: store.put.bind(store),
  delete: store.delete.bind(store),
  close: store.close.bind(store),
  list: (options: Parameters<ObjectStore['list']>[0]) => store.list({ ...options, limit: max }),
});

describe('what a refresh costs, counted and timed independently of its own stats', () => {
  const LATENCY = 10;
  interface Shape {
    limits?: Partial<Limits>;
    capabilities?: Partial<Capabilities>;
    pageMax?: number;
    /** Makes the org, and may leave a reader that is warm. */
    fill(world: World & { clock: FakeClock; memory: MemoryStore }): Promise<void>;
    /** What happens between the first refresh of the reader and the one that is measured. */
    warm?(world: World & { clock: FakeClock; memory: MemoryStore }): Promise<void>;
    expected: { requests: number; rounds: number; cold?: boolean; runs: number };
  }
  const runs = (n: number) => async (world: World) => {
    for (let i = 0; i < n; i++) await create(world, `run-${i}`);
  };
  /** Twenty seconds apart, as a log grows that nobody folds. */
  const spread =
    (n: number, everyMs = 20_000, first = 0) =>
    async (world: World & { clock: FakeClock }) => {
      for (let i = first; i < first + n; i++) {
        await create(world, `run-${i}`);
        await world.clock.advance(everyMs);
      }
    };
  /** As an import leaves it: two entries for each run, close together; then nothing for so long. */
  const bursts =
    (times: number, n: number, idleMs: number) => async (world: World & { clock: FakeClock }) => {
      for (let i = 0; i < times; i++) {
        await spread(n, 200, i * n)(world);
        await world.clock.advance(idleMs);
      }
    };
  const folded = (n: number) => async (world: World & { clock: FakeClock }) => {
    await runs(n)(world);
    await world.compact();
    // Collects what it folded, so that the tail is what the test says.
    await world.clock.advance(200_000);
    await world.compact();
  };
  const nothing = async () => undefined;
  const intents = (n: number) => async (world: World & { memory: MemoryStore; clock: FakeClock }) => {
    // As a writer leaves it that dies between its canonical write and its record.
    const { clock } = world;
    const limits = limitsOf();
    const serverClock = new ServerClock(clock);
    const log = new LogWriter(world.memory, { clock, serverClock, random: seededRandom(9), limits });
    for (let i = 0; i < n; i++) {
      const run = runOf({ run_id: `lost-${i}` });
      await log.append(ORG, [intentOf(run)]);
      await world.session.runs.create(run);
    }
  };

  const SHAPES: Record<string, Shape> = {
    'an empty org: one round': { fill: nothing, expected: { requests: 2, rounds: 1, runs: 0 } },
    'a tail only: one round': { fill: runs(5), expected: { requests: 2, rounds: 1, runs: 5 } },
    'an inlined head: one round': { fill: folded(5), expected: { requests: 2, rounds: 1, runs: 5 } },
    'an inlined head and a tail: one round': {
      fill: async (world) => {
        await folded(5)(world);
        await create(world, 'later');
      },
      expected: { requests: 2, rounds: 1, runs: 6 },
    },
    'a head of its own: two rounds': {
      limits: { inlineHeadBytesMax: 0 },
      fill: folded(5),
      expected: { requests: 3, rounds: 2, runs: 5 },
    },
    'entries that are not inline: two rounds': {
      capabilities: { listMetadata: false },
      fill: runs(5),
      expected: { requests: 2 + 10, rounds: 2, runs: 5 },
    },
    'a head of its own beside entries that are not inline: two rounds': {
      limits: { inlineHeadBytesMax: 0 },
      capabilities: { listMetadata: false },
      fill: async (world) => {
        await folded(5)(world);
        await create(world, 'later');
      },
      expected: { requests: 3 + 2, rounds: 2, runs: 6 },
    },
    'more entries than fit into one round': {
      limits: { parallelMax: 4 },
      capabilities: { listMetadata: false },
      fill: runs(5),
      expected: { requests: 2 + 10, rounds: 1 + 3, runs: 5 },
    },
    'a log of several pages: time ranges side by side': {
      pageMax: 4,
      fill: spread(5),
      expected: { requests: 2 + 32, rounds: 2, runs: 5 },
    },
    'a log of 4.5 pages that came at once, 7 minutes ago: two rounds': {
      pageMax: 10,
      fill: bursts(1, 23, 7 * 60_000),
      expected: { requests: 2 + 26, rounds: 2, runs: 23 },
    },
    'the same 21 minutes ago: the time since costs LISTs, no round': {
      pageMax: 10,
      fill: bursts(1, 23, 21 * 60_000),
      expected: { requests: 2 + 27, rounds: 2, runs: 23 },
    },
    'the same 7 hours ago': {
      pageMax: 10,
      fill: bursts(1, 23, 7 * 3_600_000),
      expected: { requests: 2 + 31, rounds: 2, runs: 23 },
    },
    'several bursts: what is left of a range is cut again, all of them in one round': {
      pageMax: 10,
      fill: bursts(4, 12, 120_000),
      expected: { requests: 2 + 95, rounds: 4, runs: 48 },
    },
    'a log that grows ever faster: no page after the other': {
      pageMax: 10,
      fill: async (world) => {
        await spread(6, 20_000)(world);
        await spread(60, 200, 6)(world);
      },
      expected: { requests: 2 + 33, rounds: 4, runs: 66 },
    },
    'a log of several pages whose old part is folded: on from the first unfolded entry': {
      pageMax: 4,
      fill: async (world) => {
        await spread(8)(world);
        await world.clock.advance(100_000);
        await world.compact();
        await create(world, 'later');
      },
      expected: { requests: 2 + 31, rounds: 2, runs: 9 },
    },
    'a log of several pages whose entries are not inline': {
      pageMax: 4,
      capabilities: { listMetadata: false },
      fill: spread(3),
      expected: { requests: 2 + 32 + 6, rounds: 3, runs: 3 },
    },
    'unconfirmed intents: one round more': {
      fill: intents(3),
      expected: { requests: 2 + 3, rounds: 2, runs: 3 },
    },
    'many unconfirmed intents': {
      limits: { parallelMax: 4 },
      fill: intents(9),
      expected: { requests: 2 + 9, rounds: 1 + 3, runs: 9 },
    },
    'warm, nothing new: one LIST': {
      fill: folded(5),
      warm: nothing,
      expected: { requests: 1, rounds: 1, cold: false, runs: 5 },
    },
    'warm, a new run: one LIST': {
      fill: folded(5),
      warm: (world) => create(world, 'later').then(() => undefined),
      expected: { requests: 1, rounds: 1, cold: false, runs: 6 },
    },
    'warm, entries not inline: two rounds': {
      capabilities: { listMetadata: false },
      fill: folded(5),
      warm: (world) => create(world, 'later').then(() => undefined),
      expected: { requests: 1 + 2, rounds: 2, cold: false, runs: 6 },
    },
    'warm, several pages': {
      pageMax: 4,
      fill: folded(5),
      warm: async (world) => {
        for (const id of ['b', 'c', 'd']) {
          await create(world, id);
          await world.clock.advance(10_000);
        }
      },
      expected: { requests: 1 + 31, rounds: 2, cold: false, runs: 8 },
    },
    'after a gap of more than half the grace: the manifest again, but not the head that is known': {
      limits: { inlineHeadBytesMax: 0 },
      fill: folded(5),
      warm: (world) => world.clock.advance(61_000),
      expected: { requests: 2, rounds: 1, cold: true, runs: 5 },
    },
    'after a gap and a fold: manifest and new head': {
      limits: { inlineHeadBytesMax: 0 },
      fill: folded(5),
      warm: async (world) => {
        await create(world, 'later');
        await world.compact();
        await world.clock.advance(61_000);
      },
      expected: { requests: 3, rounds: 2, cold: true, runs: 6 },
    },
  };

  for (const [name, shape] of Object.entries(SHAPES)) {
    it(name, async () => {
      const clock = new FakeClock();
      const memory = new MemoryStore({
        clock,
        ...(shape.capabilities ? { capabilities: shape.capabilities } : {}),
      });
      const limits = shape.limits ?? {};
      const world = { clock, memory, ...(await worldOn(memory, { clock, limits })) };
      await shape.fill(world);
      await world.session.close();
      const counts = noRequests();
      const bounded = shape.pageMax === undefined ? memory : paged(memory, shape.pageMax);
      const slow = latent(counting(bounded, counts), clock, LATENCY);
      const catalog = openCatalog(slow, { clock, limits }).org(ORG);
      if (shape.warm) {
        await clock.run(catalog.refresh());
        await shape.warm(world);
      }
      const before = requestsOf(counts);
      const bytesBefore = counts.bytesRead;
      const began = clock.monotonic();
      await clock.run(catalog.refresh());
      const rounds = (clock.monotonic() - began) / LATENCY;
      const { requests: expectedRequests, rounds: expectedRounds, cold = true, runs } = shape.expected;
      expect({ rounds, requests: requestsOf(counts) - before }).toEqual({
        rounds: expectedRounds,
        requests: expectedRequests,
      });
      expect(catalog.stats).toMatchObject({
        rounds,
        requests: expectedRequests,
        cold,
        attempts: 1,
        rows: runs,
      });
      expect(catalog.stats.bytes).toBe(counts.bytesRead - bytesBefore);
      expect(catalog.stats.totalMs).toBe(rounds * LATENCY);
      expect(catalog.state.rowCount).toBe(runs);
      await expectLaw2(world, catalog);
    });
  }

  it("a session's catalog counts the reads of canonical runs too", async () => {
    const world = await fakeWorld();
    await intents(2)(world);
    const { catalog } = openSession(world.memory, { clock: world.clock });
    const org = await catalog.org(ORG).refresh();
    expect(org.stats).toMatchObject({ requests: 4, rounds: 2, intentsAsked: 2 });
  });
});

describe('law 3: a refresh shows what was acknowledged before it', () => {
  let world: Awaited<ReturnType<typeof fakeWorld>>;
  beforeEach(async () => {
    world = await fakeWorld();
  });

  /** A reader whose LISTs answer, but arrive only when the test says so. */
  function heldReader(limits: Partial<Limits> = {}) {
    const gates: ReturnType<typeof gate>[] = [];
    const calls: StoreCall[] = [];
    const held = intercept(recording(world.memory, calls), async (call, go) => {
      const answer = await go();
      if (call.operation === 'list') {
        const mine = gate();
        gates.push(mine);
        await mine.opened;
      }
      return answer;
    });
    return { gates, calls, catalog: openCatalog(held, { clock: world.clock, limits }).org(ORG) };
  }

  it('refreshes called in the same turn are one', async () => {
    const { catalog, calls, gates } = heldReader();
    const all = [catalog.refresh(), catalog.refresh(), catalog.refresh()];
    await settle();
    gates[0]!.open();
    expect(await Promise.all(all)).toEqual([catalog, catalog, catalog]);
    expect(calls.map(({ operation }) => operation).sort()).toEqual(['get', 'list']);
  });

  it('one called while another runs sees what was acknowledged in between; such calls share one', async () => {
    const { catalog, calls, gates } = heldReader();
    const first = catalog.refresh();
    await settle();
    await create(world, 'in-between');
    const later = [catalog.refresh(), catalog.refresh()];
    await settle();
    expect(gates).toHaveLength(1);
    gates[0]!.open();
    await first;
    expect(idsOf(catalog)).toEqual([]);
    await settle();
    gates[1]!.open();
    await Promise.all(later);
    expect(idsOf(catalog)).toEqual(['in-between']);
    expect(calls.filter(({ operation }) => operation === 'list')).toHaveLength(2);
  });

  it('orgs of one catalog refresh side by side', async () => {
    await create(world, 'a');
    await create(world, 'b', 'other');
    const catalog = openCatalog(world.memory, { clock: world.clock });
    expect(catalog.org(ORG)).toBe(catalog.org(ORG));
    const [a, b] = await Promise.all([catalog.org(ORG).refresh(), catalog.org('other').refresh()]);
    expect([idsOf(a), idsOf(b)]).toEqual([['a'], ['b']]);
  });

  it('an aborted caller is let go, and the refresh goes on for the others', async () => {
    const { catalog, gates } = heldReader();
    await create(world, 'a');
    const caller = new AbortController();
    const impatient = catalog.refresh({ signal: caller.signal });
    const patient = catalog.refresh();
    await settle();
    caller.abort();
    await expect(impatient).rejects.toMatchObject({ code: 'CANCELLED' });
    gates[0]!.open();
    await patient;
    expect(idsOf(catalog)).toEqual(['a']);
  });

  it('an already aborted call makes no request, and keeps its own reason', async () => {
    const { catalog, calls } = heldReader();
    const reason = new TypeError('mine');
    await expect(catalog.refresh({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await settle();
    expect(calls).toEqual([]);
  });

  it('maxAgeMs accepts a refresh that began no longer ago; 0 always asks', async () => {
    const { catalog, calls, gates } = heldReader();
    const refresh = async (maxAgeMs?: number) => {
      const lists = gates.length;
      const refreshing = catalog.refresh(maxAgeMs === undefined ? {} : { maxAgeMs });
      await settle();
      gates[lists]?.open();
      await refreshing;
      return gates.length - lists;
    };
    expect(await refresh(60_000)).toBe(1);
    await world.clock.advance(1_000);
    expect(await refresh(1_000)).toBe(0);
    expect(await refresh(999)).toBe(1);
    expect(await refresh(0)).toBe(1);
    expect(await refresh()).toBe(1);
    expect(calls.length).toBeGreaterThan(0);
  });

  it('a failed refresh leaves the last state, fails all that shared it, and the next one works', async () => {
    await create(world, 'a');
    let broken = false;
    const store = intercept(world.memory, (call, go) =>
      broken && call.operation === 'list' ? Promise.reject(new Error('down')) : go(),
    );
    const catalog = openCatalog(store, { clock: world.clock }).org(ORG);
    expect(() => catalog.state).toThrow('never refreshed');
    await catalog.refresh();
    await create(world, 'b');
    broken = true;
    const both = [catalog.refresh(), catalog.refresh()];
    expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(idsOf(catalog)).toEqual(['a']);
    broken = false;
    await catalog.refresh();
    expect(idsOf(catalog)).toEqual(['a', 'b']);
  });

  it('an acknowledged entry with the oldest name allowed is in the next warm refresh', async () => {
    const { clock, memory } = world;
    const catalog = world.reader();
    await catalog.refresh();
    const behind = clock.offBy(-30_000);
    const late = openSession(memory, { clock: behind, random: seededRandom(5) });
    // Its clock is behind by all that an acknowledged name may be; nothing it reads tells the time.
    const log = new LogWriter(memory, {
      clock: behind,
      serverClock: new ServerClock(behind),
      random: seededRandom(6),
      limits: limitsOf(),
    });
    const run = runOf({ run_id: 'late' });
    await late.runs.create(run);
    await log.append(ORG, [{ ...intentOf(run), kind: 'put' }]);
    await log.idle();
    expect((await memory.list({ prefix: logPrefix(ORG) })).items).toHaveLength(1);
    await catalog.refresh();
    expect(catalog.stats.cold).toBe(false);
    expect(idsOf(catalog)).toEqual(['late']);
  });
});

describe('a round that proves nothing is done again', () => {
  it('objects that a compactor collected meanwhile: the new manifest is read', async () => {
    const limits = { inlineHeadBytesMax: 0 };
    const world = await fakeWorld({ limits });
    await create(world, 'a');
    await world.compact();
    let planted = false;
    const store = intercept(world.memory, async (call, go) => {
      if (!planted && call.operation === 'get' && call.key.startsWith(partsPrefix(ORG))) {
        planted = true;
        await create(world, 'b');
        await world.compact();
        const old = await world.memory.head(call.key);
        await world.memory.delete(call.key, { ifGeneration: old!.generation });
      }
      return go();
    });
    const catalog = await openCatalog(store, { clock: world.clock, limits }).org(ORG).refresh();
    expect(catalog.stats).toMatchObject({ attempts: 2, rounds: 4 });
    expect(idsOf(catalog)).toEqual(['a', 'b']);
  });

  it('one that outlived half the grace: what it listed may have been collected', async () => {
    const world = await fakeWorld();
    await create(world, 'a');
    let slow = true;
    const store = intercept(world.memory, async (call, go) => {
      const answer = await go();
      if (slow && call.operation === 'list') {
        slow = false;
        await create(world, 'b');
        await world.clock.advance(60_001);
      }
      return answer;
    });
    const catalog = await openCatalog(store, { clock: world.clock }).org(ORG).refresh();
    expect(catalog.stats).toMatchObject({ attempts: 2, rounds: 2 });
    expect(idsOf(catalog)).toEqual(['a', 'b']);
  });

  it('a store that is too slow for ever: a bounded number of rounds, then an error', async () => {
    const { clock, memory } = await fakeWorld();
    const calls: StoreCall[] = [];
    const store = latent(recording(memory, calls), clock, 70_000);
    const refreshing = clock.run(openCatalog(store, { clock }).org(ORG).refresh());
    await expect(refreshing).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(calls).toHaveLength(10);
  });

  it('a part that is gone for ever is an error, not an empty catalog', async () => {
    const world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
    await create(world, 'a');
    await world.compact();
    for (const { key, generation } of (await world.memory.list({ prefix: partsPrefix(ORG) })).items)
      await world.memory.delete(key, { ifGeneration: generation });
    await expect(world.read()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });
});

describe('law 8: damage is reported, never served', () => {
  it('a corrupt entry fails the refresh until a compactor has set it aside, and then shows in the stats', async () => {
    const world = await fakeWorld();
    await create(world, 'a');
    const key = entryKey(ORG, '0192d3c0-0000-7000-8000-000000000001');
    await world.memory.put(key, new Uint8Array([1]), { ifGeneration: ABSENT });
    await expect(world.read()).rejects.toMatchObject({ code: 'CORRUPT', key });
    await world.compact();
    const catalog = await world.read();
    expect(catalog.stats.quarantined).toBe(1);
    expect(idsOf(catalog)).toEqual(['a']);
  });

  it.each([
    ['no JSON', 'x', 'CORRUPT'],
    ['a newer format', '{"format":99}', 'UNSUPPORTED_FORMAT'],
    [
      'a feature that this reader does not know',
      '{"format":1,"reader_features":["vectors"]}',
      'UNSUPPORTED_FORMAT',
    ],
  ])('a manifest that is %s', async (_, body, code) => {
    const world = await fakeWorld();
    await world.memory.put(manifestKey(ORG), new TextEncoder().encode(body));
    await expect(world.read()).rejects.toMatchObject({ code });
  });

  it("another org's manifest in this org's place", async () => {
    const world = await fakeWorld();
    await create(world, 'a', 'other');
    await world.compact('other');
    const got = await world.memory.get(manifestKey('other'));
    if (got.outcome !== 'found') throw new Error('no manifest');
    await world.memory.put(manifestKey(ORG), got.body);
    await expect(world.read()).rejects.toMatchObject({ code: 'CORRUPT' });
  });
});

describe('intents', () => {
  it('law 4: a run whose writer died before its record is active for every refresh', async () => {
    const world = await fakeWorld();
    const dying = intercept(world.memory, (call, go) => {
      const dead = call.operation === 'put' && call.key.startsWith(logPrefix(ORG)) && puts++ > 0;
      return dead ? Promise.reject(new Error('killed')) : go();
    });
    let puts = 0;
    const { recorder } = openSession(dying, { clock: world.clock, random: seededRandom(3) });
    await expect(recorder.create(ORG, { run_id: 'orphan' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
    });
    const catalog = await world.read();
    expect(catalog.active().map(({ run_id }) => run_id)).toEqual(['orphan']);
    expect(catalog.stats).toMatchObject({ intentsAsked: 1, intentRounds: 1 });
    // Redelivery repairs: then nobody has to ask any more.
    await create(world, 'orphan');
    expect((await world.read()).stats.intentsAsked).toBe(0);
  });

  it('one whose canonical run never came is nothing, and costs nothing where not looked into', async () => {
    const world = await fakeWorld();
    const dying = intercept(world.memory, (call, go) =>
      call.key === runKey(ORG, 'never') && call.operation === 'put'
        ? Promise.reject(new Error('killed'))
        : go(),
    );
    const { recorder } = openSession(dying, { clock: world.clock, random: seededRandom(3) });
    await expect(recorder.create(ORG, { run_id: 'never' })).rejects.toThrow('killed');
    expect(idsOf(await world.read())).toEqual([]);
    const blind = openCatalog(world.memory, { clock: world.clock, resolveIntents: false }).org(ORG);
    await blind.refresh();
    expect(blind.stats).toMatchObject({ requests: 2, intentsAsked: 0 });
  });
});

describe('states never change', () => {
  it('what was read before a refresh stays as it was, also in the middle of an iteration', async () => {
    const world = await fakeWorld();
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    const catalog = await world.read();
    const { state } = catalog;
    const before = JSON.stringify([idsOf({ state }), state.rowCount, state.overlay.size]);
    const iterating = catalog.runs();
    const seen = [(await iterating.next()).value?.run_id];
    await create(world, 'c');
    await world.session.recorder.apply(ORG, 'a', { type: 'cancel' });
    await catalog.refresh();
    expect(catalog.state).not.toBe(state);
    expect(JSON.stringify([idsOf({ state }), state.rowCount, state.overlay.size])).toBe(before);
    for await (const { run_id, status } of iterating) {
      seen.push(run_id);
      expect(status).toBe('QUEUED');
    }
    expect(seen.sort()).toEqual(['a', 'b']);
    expect(
      catalog
        .active()
        .map(({ run_id }) => run_id)
        .sort(),
    ).toEqual(['b', 'c']);
  });
});

describe("law 7: only under its own org's prefixes", () => {
  it('reading, whatever other orgs are called', async () => {
    const world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
    for (const org of [ORG, `${ORG}-2`, `${ORG}.x`, ORG.slice(0, 2)]) {
      await create(world, `of-${org}`, org);
      await world.compact(org);
      await create(world, `later-of-${org}`, org);
    }
    const calls: StoreCall[] = [];
    const catalog = openCatalog(recording(world.memory, calls), { clock: world.clock }).org(ORG);
    await catalog.refresh();
    await catalog.refresh();
    await world.clock.advance(100_000);
    await catalog.refresh();
    expect(idsOf(catalog)).toEqual([`later-of-${ORG}`, `of-${ORG}`]);
    expect(calls.length).toBeGreaterThan(5);
    for (const { operation, key } of calls) {
      expect(['get', 'list']).toContain(operation);
      expect(
        key.startsWith(`catalog/orgs/${ORG}/`) || key.startsWith(`authoritative-runs/runs/${ORG}/`),
      ).toBe(true);
    }
  });

  it('an id that is none reaches no store', () => {
    const calls: StoreCall[] = [];
    const catalog = openCatalog(recording(new MemoryStore(), calls));
    for (const id of ['', '..', 'a/b', 'a\0'] as const) expect(() => catalog.org(id)).toThrow();
    expect(calls).toEqual([]);
  });
});
