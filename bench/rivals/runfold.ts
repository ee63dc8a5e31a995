import { openCatalog } from '../../src/catalog/catalog.ts';
import type { Clock } from '../../src/core/clock.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { verified } from '../../src/store/verified.ts';
import type { BenchClock } from '../support/world.ts';
import type { Dataset, Rival } from './rival.ts';

const FOLD_RECORDS = 20_000;
const BETWEEN_FOLDS_MS = 20 * 60_000;

/** As `openStore` and `openCatalog` wire it: retries, deadlines, checksums and validation included. */
export const runfold: Rival = {
  name: 'runfold',
  about:
    'GET manifest ∥ LIST log; head, and entries that did not travel in the listing, in a second round; then tables() and active()',
  prepare,
  async refresh(store, orgId, clock) {
    const org = await open(store, clock).org(orgId).refresh();
    // What a catalog asks: a part decodes its columns on first use, and nobody refreshes to leave them as they came.
    org.tables();
    org.active();
    return { rows: org.stats.rows, projections: () => all(org.runs()) };
  },
};

/** The same, then every row of the org's sealed history too: what a rival that keeps no history apart always reads. */
export const runfoldHistory: Rival = {
  name: 'runfold, all of history',
  about: 'a refresh, then runs() to its end, in ranged GETs',
  prepare: async () => undefined,
  async refresh(store, orgId, clock) {
    const org = await open(store, clock).org(orgId).refresh();
    const rows = await all(org.runs());
    return { rows: rows.length, projections: async () => rows };
  },
};

function open(store: ObjectStore, clock: Clock) {
  return openCatalog(resilient(verified(store), { clock, random: seededRandom(1), limits: limits() }), {
    clock,
  });
}

async function all(runs: AsyncIterable<Projection>): Promise<Projection[]> {
  const rows: Projection[] = [];
  for await (const row of runs) rows.push(row);
  return rows;
}

async function prepare(
  store: ObjectStore,
  { orgId, folded, tail, seed }: Dataset,
  clock: BenchClock,
): Promise<void> {
  // A refresh in a fresh process must not load the compactor.
  const { benchWorld } = await import('../support/world.ts');
  const world = await benchWorld(store, clock, { seed });
  for (let done = 0; done < folded.length; done += FOLD_RECORDS) {
    await world.append(orgId, folded.slice(done, done + FOLD_RECORDS), 1_000);
    clock.skip(BETWEEN_FOLDS_MS);
    await world.fold(orgId);
  }
  for (let i = 0; i < 2; i++) {
    clock.skip(BETWEEN_FOLDS_MS);
    await world.fold(orgId);
  }
  for (const rows of tail) {
    clock.skip(10);
    await world.append(orgId, rows, rows.length);
  }
}
