import { mapParallel } from '../core/concurrency.ts';
import { CorruptError } from '../core/errors.ts';
import { uuidv7Time } from '../core/uuid.ts';
import { entryKeyFloor, logPrefix, nameOfKey } from '../store/keys.ts';
import {
  type CallOptions,
  LIST_PAGE_MAX,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
} from '../store/object-store.ts';
import { decodeEntry, type Entry, inlineBody } from './entry.ts';

export interface LogListing {
  items: ObjectMeta[];
  /** Every entry that was acknowledged before this server time is among `items`. */
  listedAt: number;
}

export interface LogListOptions extends CallOptions {
  /** Inclusive lower and exclusive upper bound of the key. */
  start?: string | undefined;
  end?: string | undefined;
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
  const rest =
    first.next === null ? [] : await pagesFrom(store, orgId, { ...options, pageToken: first.next });
  return { items: [...first.items, ...rest.flat()], listedAt: first.serverTime };
}

async function pagesFrom(
  store: ObjectStore,
  orgId: string,
  options: LogListOptions,
): Promise<(readonly ObjectMeta[])[]> {
  const pages: (readonly ObjectMeta[])[] = [];
  for (let pageToken = options.pageToken; ; ) {
    const page: ListPage = await listLogPage(store, orgId, { ...options, pageToken });
    pages.push(page.items);
    if (page.next === null) return pages;
    pageToken = page.next;
  }
}

/**
 * What follows the first page of a long log, from the entry named `from` (ms) on: the time up to `until` is cut into
 * ranges that are listed at once. The first page tells how dense the log is, so that one page per range is likely to
 * do: one round. `depth` is how many LISTs followed each other in the longest range.
 */
export async function listRest(
  store: ObjectStore,
  orgId: string,
  first: { items: readonly ObjectMeta[] },
  bounds: { from: number; until: number },
  options: CallOptions & { parallel: number },
): Promise<{ items: ObjectMeta[]; depth: number }> {
  const [oldest, newest] = [entryTime(first.items[0]?.key ?? ''), entryTime(first.items.at(-1)?.key ?? '')];
  const from = Math.max(bounds.from, newest ?? 0);
  const spanMs = Math.max(1, bounds.until - from);
  const perMs = first.items.length / Math.max(1, (newest ?? 0) - (oldest ?? 0));
  const ranges = Math.min(options.parallel, Math.max(2, Math.ceil((perMs * spanMs) / (LIST_PAGE_MAX / 2))));
  const edge = (i: number) => entryKeyFloor(orgId, from + Math.floor((spanMs * i) / ranges));
  const lists = await mapParallel(
    Array.from({ length: ranges }, (_, i) => i),
    ranges,
    // The last range is open: names may be ahead of the server's clock.
    (i, signal) =>
      pagesFrom(store, orgId, { start: edge(i), end: i + 1 < ranges ? edge(i + 1) : undefined, signal }),
    options.signal,
  );
  return { items: lists.flat(2), depth: Math.max(...lists.map((pages) => pages.length)) };
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

export interface ReadEntries {
  entries: ReadEntry[];
  /** Entries that did not travel in the listing: a GET each. */
  fetched: number;
}

/**
 * The records behind LIST items. No request for those that travelled in the listing; one GET each for the rest,
 * `parallel` at a time. Corrupt entries come back as problems; everything else throws.
 */
export async function readEntries(
  store: ObjectStore,
  orgId: string,
  items: readonly ObjectMeta[],
  options: CallOptions & { parallel: number },
): Promise<ReadEntries> {
  const entries = new Array<ReadEntry>(items.length);
  const absent: number[] = [];
  for (const [i, item] of items.entries()) {
    const body = inlineBody(item);
    if (body === null) absent.push(i);
    else entries[i] = decoded(orgId, item, body);
  }
  await mapParallel(
    absent,
    options.parallel,
    async (i, signal) => {
      entries[i] = await fetched(store, orgId, items[i]!, signal);
    },
    options.signal,
  );
  return { entries, fetched: absent.length };
}

async function fetched(
  store: ObjectStore,
  orgId: string,
  item: ObjectMeta,
  signal: AbortSignal,
): Promise<ReadEntry> {
  try {
    const got = await store.get(item.key, { signal });
    return got.outcome === 'found' ? decoded(orgId, item, got.body) : { item, gone: true };
  } catch (problem) {
    if (problem instanceof CorruptError) return { item, problem };
    throw problem;
  }
}

function decoded(orgId: string, item: ObjectMeta, body: Uint8Array): ReadEntry {
  try {
    if (entryTime(item.key) === null) throw new CorruptError(item.key, 'the name is not that of an entry');
    return { item, entry: decodeEntry(item.key, orgId, body) };
  } catch (problem) {
    if (problem instanceof CorruptError) return { item, problem };
    throw problem;
  }
}
