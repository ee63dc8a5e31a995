import { openCatalog } from '../../src/catalog/catalog.ts';
import { type Limits, limits as limitsOf } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { logPrefix, manifestKey } from '../../src/store/keys.ts';
import { type LatencyProfile, latency } from '../../src/store/latency.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { verified } from '../../src/store/verified.ts';
import { SkippingClock } from '../support/clock.ts';
import { type Cost, costOf } from '../support/meter.ts';
import { type Spread, spread, sum } from '../support/report.ts';

export interface RefreshFigure {
  about: string;
  /** ms of waiting as simulated, and of CPU as it was. */
  refreshMs: Spread;
  /** Of each round, in their order: rounds of two targets can be compared one by one. */
  samples: number[];
  floorMs: Spread;
  /** All refreshes over all floors: pair by pair the ticks of the CPU's clock would blur it. */
  ratio: number;
  cost: Cost;
  rows: number;
}

export interface RefreshTarget {
  about: string;
  store: ObjectStore;
  orgId: string;
  limits?: Partial<Limits>;
}

/**
 * Cold refreshes beside their floor: one bare GET of the manifest and one bare LIST of the log, issued together on a
 * store of the same latency. All of one round draw the same times to first byte, targets take turns, each refresh is
 * by a reader that knows nothing, on a connection that exists, and includes `tables()` and `active()`: a part decodes its columns on first use.
 */
export async function measureRefreshes(
  targets: readonly RefreshTarget[],
  { profile, seed, rounds }: { profile: LatencyProfile; seed: number; rounds: number },
  onProgress: (done: number) => void = () => undefined,
): Promise<RefreshFigure[]> {
  const samples = targets.map(() => ({ refresh: [] as number[], floor: [] as number[] }));
  const rows: number[] = [];
  const warmups = 5;
  for (let round = -warmups; round < rounds; round++) {
    onProgress(round + warmups);
    for (const [at, target] of targets.entries()) {
      const draw = seed * 1_000_000 + round;
      // Which goes first alternates too.
      const turns = round % 2 === 0 ? (['floor', 'refresh'] as const) : (['refresh', 'floor'] as const);
      for (const turn of turns) {
        const clock = new SkippingClock();
        const store = latency(target.store, { profile, clock, random: seededRandom(draw) });
        const began = clock.monotonic();
        if (turn === 'floor') {
          await Promise.all([
            store.get(manifestKey(target.orgId)),
            store.list({ prefix: logPrefix(target.orgId) }),
          ]);
        } else rows[at] = await refresh(store, clock, target, seed);
        if (round >= 0) samples[at]![turn].push(clock.monotonic() - began);
      }
    }
  }
  return Promise.all(
    targets.map(async (target, at) => {
      const { refresh: ms, floor } = samples[at]!;
      return {
        about: target.about,
        refreshMs: spread(ms),
        samples: ms,
        floorMs: spread(floor),
        ratio: sum(ms) / sum(floor),
        cost: await costOf(target.store, (store) =>
          openCatalog(store, { limits: target.limits ?? {} })
            .org(target.orgId)
            .refresh(),
        ),
        rows: rows[at]!,
      };
    }),
  );
}

/** As `openStore` and `openCatalog` wire it. */
async function refresh(
  slow: ObjectStore,
  clock: SkippingClock,
  { orgId, limits = {} }: RefreshTarget,
  seed: number,
): Promise<number> {
  const store = resilient(verified(slow), { clock, random: seededRandom(seed), limits: limitsOf(limits) });
  const org = await openCatalog(store, { clock, limits }).org(orgId).refresh();
  org.tables();
  org.active();
  return org.stats.rows;
}
