import { mapParallel } from '../core/concurrency.ts';
import { CorruptError } from '../core/errors.ts';
import { uuidv7Time } from '../core/uuid.ts';
import { logPrefix, nameOfKey } from '../store/keys.ts';
import type { CallOptions, ListPage, ObjectMeta, ObjectStore } from '../store/object-store.ts';
import { decodeEntry, type Entry, inlineBody } from './entry.ts';

export interface LogListing {
  items: ObjectMeta[];
  /** Every entry that was acknowledged before this server time is among `items`. */
  listedAt: number;
}

export interface LogListOptions extends CallOptions {
  /** Inclusive lower bound of the key. */
  start?: string | undefined;
  pageToken?: string | undefined;
}

/** One LIST. */
export function listLogPage(
  store: ObjectStore,
  orgId: string,
  options: LogListOptions = {},
): Promise<ListPage> {
  return store.list({ prefix: logPrefix(orgId), ...options });
}

/** The whole log from `start`: one LIST per 1000 entries, one after another. */
export async function listLog(
  store: ObjectStore,
  orgId: string,
  options: LogListOptions = {},
): Promise<LogListing> {
  const first = await listLogPage(store, orgId, options);
  const items = [...first.items];
  for (let next = first.next; next !== null; ) {
    const page: ListPage = await listLogPage(store, orgId, { ...options, pageToken: next });
    items.push(...page.items);
    next = page.next;
  }
  return { items, listedAt: first.serverTime };
}

/** The server time in an entry's name; null when the name is not one. */
export function entryTime(key: string): number | null {
  return uuidv7Time(nameOfKey(key));
}

export type ReadEntry =
  | { readonly item: ObjectMeta; readonly entry: Entry }
  | { readonly item: ObjectMeta; readonly problem: CorruptError }
  /** Deleted since it was listed: a committed version has folded it long ago. */
  | { readonly item: ObjectMeta; readonly gone: true };

/**
 * The records behind LIST items. No request for those that travelled in the listing; one GET each for the rest,
 * `parallel` at a time. Corrupt entries come back as problems; everything else throws.
 */
export async function readEntries(
  store: ObjectStore,
  orgId: string,
  items: readonly ObjectMeta[],
  options: CallOptions & { parallel: number },
): Promise<ReadEntry[]> {
  return mapParallel(
    items,
    options.parallel,
    async (item, signal): Promise<ReadEntry> => {
      try {
        if (entryTime(item.key) === null)
          throw new CorruptError(item.key, 'the name is not that of an entry');
        let body = inlineBody(item);
        if (body === null) {
          const got = await store.get(item.key, { signal });
          if (got.outcome !== 'found') return { item, gone: true };
          body = got.body;
        }
        return { item, entry: decodeEntry(item.key, orgId, body) };
      } catch (problem) {
        if (problem instanceof CorruptError) return { item, problem };
        throw problem;
      }
    },
    options.signal,
  );
}

/** Whether reading this item needs a request of its own. */
export function travelsInline(item: ObjectMeta): boolean {
  return inlineBody(item) !== null;
}
