import { StoreError } from '../../src/core/errors.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';
import { decodeJson } from '../rivals/rival.ts';
import { GroupCommit, jittered, type WriterContext, type WriterKind } from './writer.ts';

const prefixOf = (orgId: string) => `rival/dense/${orgId}/`;
const keyOf = (orgId: string, number: number) => `${prefixOf(orgId)}${String(number).padStart(12, '0')}.json`;
/** Numbers tried in a row before the end of the log is looked for: fewer and more were slower with 64 writers. */
const PROBES = 4;
const BASE_MS = 20;
const MAX_MS = 1_000;

/** A log whose entries are numbered without gaps, as the logs of Delta Lake and its like are. */
export const denseLogWriter: WriterKind = {
  name: 'dense-sequence log',
  about: `create-only entries 0, 1, 2, …; group commit per process and org; a writer goes on from its own last number, a loser tries the next one at once, after ${PROBES} losses it LISTs from there to the end; a refusal for the rate of changes is settled by a HEAD`,
  prepare: async () => undefined,
  open(store, context) {
    const next = new Map<string, number>();
    return new GroupCommit((orgId, rows) => commit(store, context, next, orgId, rows));
  },
  async readBack(store, orgId) {
    const rows: Projection[] = [];
    const end = await endOf(store, orgId, 0);
    for (let number = 0; number < end; number++) {
      const got = await store.get(keyOf(orgId, number));
      if (got.outcome !== 'found') throw new Error(`Entry ${number} is missing: the log has a gap.`);
      rows.push(...(decodeJson(got.body) as Projection[]));
    }
    return rows;
  },
};

async function commit(
  store: ObjectStore,
  { clock, random }: WriterContext,
  next: Map<string, number>,
  orgId: string,
  rows: readonly Projection[],
): Promise<void> {
  const body = Buffer.from(JSON.stringify(rows));
  let number = next.get(orgId) ?? (await endOf(store, orgId, 0));
  for (let lost = 1; ; lost++) {
    const answer = await create(store, keyOf(orgId, number), body);
    if (answer === 'written') {
      next.set(orgId, number + 1);
      return;
    }
    // Refused for the rate of changes: perhaps somebody has just made it, perhaps not, and then there must be no gap.
    if (answer === 'throttled' && (await store.head(keyOf(orgId, number))) === null) {
      await clock.sleep(jittered(lost, BASE_MS, MAX_MS, random));
      continue;
    }
    number++;
    if (lost % PROBES === 0) number = await endOf(store, orgId, number);
  }
}

async function create(store: ObjectStore, key: string, body: Uint8Array) {
  try {
    return (await store.put(key, body, { ifGeneration: ABSENT })).outcome;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'STORE_THROTTLED') return 'throttled';
    throw error;
  }
}

/** The first free number, `from` at the least. */
async function endOf(store: ObjectStore, orgId: string, from: number): Promise<number> {
  let end = from;
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: prefixOf(orgId), start: keyOf(orgId, from), pageToken });
    end += page.items.length;
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return end;
}
