import { type OrgCatalog, openCatalog } from '../../catalog/catalog.ts';
import { Overlay } from '../../catalog/fold.ts';
import { CatalogState } from '../../catalog/state.ts';
import { type TableView, tablesView } from '../../catalog/views.ts';
import { systemClock } from '../../core/clock.ts';
import { mapParallel } from '../../core/concurrency.ts';
import { project } from '../../runs/projection.ts';
import { decodeRun } from '../../runs/run.ts';
import { RowsBuilder } from '../../snapshot/rows.ts';
import { counting, noRequests, requestsOf } from '../../store/counting.ts';
import { RUNS_PREFIX, runsPrefix } from '../../store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../../store/object-store.ts';
import { openStore } from '../../store/open.ts';

/** What an answer to "which tables exist, who wrote them last" cost; everything but the time is counted. */
export interface Cost {
  ms: number;
  requests: number;
  rounds: number;
  bytes: number;
}

export interface Answer {
  tables: TableView[];
  cost: Cost;
}

const GETS_PARALLEL = 64;

/** The state of the canonical runs, without runfold: list them all, get them all, keep those of the org. */
export function flatScan(
  url: string,
  orgId: string,
  which: 'all' | 'org',
  signal: AbortSignal,
): Promise<Answer> {
  return onFreshStore(url, async (store) => {
    const prefix = which === 'all' ? RUNS_PREFIX : runsPrefix(orgId);
    const items: ObjectMeta[] = [];
    let pages = 0;
    for (let pageToken: string | undefined, more = true; more; ) {
      const page = await store.list({ prefix, pageToken, signal });
      pages++;
      items.push(...page.items);
      pageToken = page.next ?? undefined;
      more = page.next !== null;
    }
    const runs = await mapParallel(
      items,
      GETS_PARALLEL,
      async ({ key }, stop) => {
        const got = await store.get(key, { signal: stop });
        return got.outcome === 'found' ? decodeRun(key, got.body) : null;
      },
      signal,
    );
    const rows = new RowsBuilder(orgId, runs.length);
    for (const run of runs) if (run !== null && run.org_id === orgId) rows.add(project(run));
    const tables = tablesView(new CatalogState(orgId, null, rows.build(), new Overlay()));
    // A page's token is in the page before; the GETs need the keys, not each other: all of them are one round.
    return { tables, rounds: pages + (items.length > 0 ? 1 : 0) };
  });
}

/** The same by a refresh that knows nothing yet; the catalog is there for more questions. */
export function coldRefresh(
  url: string,
  orgId: string,
  signal: AbortSignal,
): Promise<Answer & { catalog: OrgCatalog }> {
  return onFreshStore(url, async (store) => {
    const catalog = await openCatalog(store).org(orgId).refresh({ signal });
    return { tables: catalog.tables(), rounds: catalog.stats.rounds, catalog };
  });
}

async function onFreshStore<T extends { tables: TableView[]; rounds: number }>(
  url: string,
  read: (store: ObjectStore) => Promise<T>,
): Promise<T & Answer> {
  const counts = noRequests();
  const store = await openStore(url, { wrap: (adapter) => counting(adapter, counts) });
  try {
    const began = systemClock.monotonic();
    const answer = await read(store);
    const ms = systemClock.monotonic() - began;
    const { rounds } = answer;
    return { ...answer, cost: { ms, rounds, requests: requestsOf(counts), bytes: counts.bytesRead } };
  } finally {
    await store.close();
  }
}
