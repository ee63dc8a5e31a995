import { StoreError } from '../../src/core/errors.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';
import { decodeIndex, encodeIndex, indexKey } from '../rivals/json-index.ts';
import { GroupCommit, jittered, type WriterContext, type WriterKind } from './writer.ts';

interface Known {
  generation: string | null;
  rows: Map<string, Projection>;
  /** Server time of its last change: the next one is refused for the store's interval after it. */
  changedAt: number;
}

const BASE_MS = 100;
const MAX_MS = 4_000;

/** The writing side of the rival of the same name in bench/rivals. */
export const jsonIndexWriter: WriterKind = {
  name: 'JSON index per org',
  about:
    'the whole object rewritten by compare-and-swap; group commit per process and org; a writer keeps what it wrote last, so that undisturbed it sends only PUTs, and waits out the interval in which a name takes no change; losers read again after a wait with full jitter (100 ms doubling up to 4 s), and where names have an interval everybody comes back to it with a jitter of up to 100 ms',
  async prepare(store, orgId, rows) {
    await store.put(indexKey(orgId), encodeIndex(rows));
  },
  open(store, context) {
    const known = new Map<string, Known>();
    return new GroupCommit((orgId, rows) => commit(store, context, known, orgId, rows));
  },
  readBack: async (store, orgId) => [...(await read(store, orgId)).rows.values()],
};

async function commit(
  store: ObjectStore,
  { clock, random, nameIntervalMs }: WriterContext,
  known: Map<string, Known>,
  orgId: string,
  rows: readonly Projection[],
): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const before = known.get(orgId) ?? (await read(store, orgId));
    const closedMs = before.changedAt + nameIntervalMs - clock.now();
    if (closedMs > 0) await clock.sleep(closedMs);
    // All that waited for the end of the interval would meet there: each spreads out behind it, losers further.
    if (attempt > 0 || closedMs > 0) await clock.sleep(jittered(attempt, BASE_MS, MAX_MS, random));
    const next = new Map(before.rows);
    for (const row of rows) next.set(row.run_id, row);
    const put = await store
      .put(indexKey(orgId), encodeIndex([...next.values()]), { ifGeneration: before.generation ?? ABSENT })
      .catch((error: unknown) => {
        if (error instanceof StoreError && error.code === 'STORE_THROTTLED') return null;
        throw error;
      });
    if (put?.outcome === 'written') {
      known.set(orgId, { generation: put.meta.generation, rows: next, changedAt: put.meta.createdAt });
      return;
    }
    known.delete(orgId);
  }
}

async function read(store: ObjectStore, orgId: string): Promise<Known> {
  const got = await store.get(indexKey(orgId));
  if (got.outcome !== 'found') return { generation: null, rows: new Map(), changedAt: 0 };
  const rows = new Map(decodeIndex(got.body).map((row) => [row.run_id, row]));
  return { generation: got.meta.generation, rows, changedAt: got.meta.createdAt };
}
