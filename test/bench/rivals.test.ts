import { beforeAll, describe, expect, it } from 'vitest';
import { CACHE_MS, CachedScan } from '../../bench/rivals/cached-scan.ts';
import { flatScan } from '../../bench/rivals/flat-scan.ts';
import { RIVALS } from '../../bench/rivals/index.ts';
import { runOfRow } from '../../bench/rivals/rival.ts';
import { SkippingClock } from '../../bench/support/clock.ts';
import { datasetOf } from '../../bench/support/dataset.ts';
import { costOf } from '../../bench/support/meter.ts';
import { firstDifference } from '../../bench/support/same-rows.ts';
import { project } from '../../src/runs/projection.ts';
import { decodeRun, encodeRun } from '../../src/runs/run.ts';
import { counting, noRequests, requestsOf } from '../../src/store/counting.ts';
import { MemoryStore } from '../../src/store/memory.ts';

const ORG = 'org';

async function prepared(size: Parameters<typeof datasetOf>[1]) {
  const clock = new SkippingClock();
  const store = new MemoryStore({ clock });
  const data = datasetOf(ORG, size, 5);
  for (const rival of RIVALS) await rival.prepare(store, data, clock);
  return { clock, store, data };
}

describe.each([
  ['a small org with a tail', { totalRuns: 400, orgRuns: 100, tables: 5, tailEntries: 30 }],
  ['an org without a tail', { totalRuns: 200, orgRuns: 150, tables: 20, tailEntries: 0 }],
  ['a tail of several pages', { totalRuns: 1_500, orgRuns: 50, tables: 5, tailEntries: 1_200 }],
  ['an org with sealed history', { totalRuns: 24_000, orgRuns: 24_000, tables: 50, tailEntries: 10 }],
])('%s', (_, size) => {
  let world: Awaited<ReturnType<typeof prepared>>;
  beforeAll(async () => {
    world = await prepared(size);
  });

  it.each(RIVALS.map((rival) => [rival.name, rival] as const))(
    '%s has exactly its rows',
    async (_, rival) => {
      const { store, data } = world;
      const answer = await rival.refresh(store, ORG, new SkippingClock());
      expect(firstDifference(await answer.projections(), data.current)).toBeNull();
    },
  );
});

describe('the rivals', () => {
  it('need as many rounds as they say', async () => {
    const { store } = await prepared({ totalRuns: 400, orgRuns: 100, tables: 5, tailEntries: 30 });
    const rounds: Record<string, number> = {};
    for (const rival of RIVALS) {
      rounds[rival.name] = (await costOf(store, (slow, clock) => rival.refresh(slow, ORG, clock))).rounds;
    }
    expect(rounds).toEqual({
      runfold: 1,
      'runfold, all of history': 1,
      'plain snapshot': 3,
      'JSON index per org': 1,
      'object per run': 3,
      // 400 bodies, 64 at a time, behind one page.
      'flat scan': 8,
      'flat scan, 30 s cache': 8,
    });
  });

  it('a cached scan asks once, and again when its 30 s are over', async () => {
    const { store } = await prepared({ totalRuns: 20, orgRuns: 10, tables: 5, tailEntries: 0 });
    const clock = new SkippingClock();
    const counts = noRequests();
    const cache = new CachedScan(counting(store, counts), clock);
    const requests = async () => {
      await cache.refresh(ORG);
      return requestsOf(counts);
    };
    const first = await requests();
    expect(first).toBe(21);
    clock.skip(CACHE_MS - 1_000);
    expect(await requests()).toBe(first);
    clock.skip(1_000);
    expect(await requests()).toBe(2 * first);
  });

  it('canonical runs of the flat scan are what a run store holds', async () => {
    const { data } = await prepared({ totalRuns: 50, orgRuns: 50, tables: 5, tailEntries: 0 });
    for (const row of data.current) {
      expect(project(decodeRun('run', encodeRun(runOfRow(row))))).toEqual(row);
    }
    expect(flatScan.name).toBe('flat scan');
  });
});
