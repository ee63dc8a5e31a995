import { mapParallel } from '../core/concurrency.ts';
import { CorruptError } from '../core/errors.ts';
import { uuidv7Time } from '../core/uuid.ts';
import { entryKeyFloor, logPrefix, nameOfKey } from '../store/keys.ts';
import type { CallOptions, ListPage, ObjectMeta, ObjectStore } from '../store/object-store.ts';
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

/** As long as half a page took to fill: so many ranges, before each is twice as long as the one before. */
const EVEN_RANGES = 16;

interface Range {
  /** Inclusive lower and exclusive upper bound of the key; the last one is open: names may be ahead of the clock. */
  start: string;
  end: string | undefined;
  /** Goes on there instead, where a page was too short to tell a place. */
  pageToken?: string;
}

/**
 * What follows the first page of a long log, from the entry named `from` (ms) on: the time up to `until` is cut into
 * ranges that are listed at once, and the rest of a range that holds more than a page is cut again, all of them at once.
 * Ranges are as long as half a page took to fill, for a log that goes on as it began; then each is twice as long
 * as the one before, for a log that came in a burst and has been idle since. `depth`: rounds, `parallel` LISTs each.
 * Entries at the edge of a range may come twice.
 */
export async function listRest(
  store: ObjectStore,
  orgId: string,
  first: { items: readonly ObjectMeta[] },
  bounds: { from: number; until: number },
  options: CallOptions & { parallel: number },
): Promise<{ items: ObjectMeta[]; depth: number }> {
  const { parallel, signal } = options;
  const items: ObjectMeta[] = [];
  let depth = 0;
  const known = { start: entryKeyFloor(orgId, bounds.from), end: undefined };
  for (let ranges = rangesAfter(orgId, first.items, known, bounds.until, parallel); ranges.length > 0; ) {
    depth += Math.ceil(ranges.length / parallel);
    const pages = await mapParallel(
      ranges,
      parallel,
      (range, stop) => listLogPage(store, orgId, { ...range, signal: stop }),
      signal,
    );
    for (const page of pages) items.push(...page.items);
    const full = [...pages.keys()].filter((i) => pages[i]!.next !== null);
    const share = Math.max(2, Math.floor(parallel / full.length));
    ranges = full.flatMap((i) => {
      const [range, page] = [ranges[i]!, pages[i]!];
      // A store may give less than a page: such a one tells nothing.
      if (page.items.length < 2) return [{ ...range, pageToken: page.next as string }];
      return rangesAfter(orgId, page.items, range, bounds.until, share);
    });
  }
  return { items, depth };
}

/** What of `range` comes after a full page of it, in at most `most` ranges. */
function rangesAfter(
  orgId: string,
  page: readonly ObjectMeta[],
  range: Range,
  until: number,
  most: number,
): Range[] {
  const newest = page.at(-1)!.key;
  // Inclusive: that one comes twice. Keys say where to go on more surely than times do.
  const start = newest > range.start ? newest : range.start;
  const from = entryTime(start) ?? 0;
  const end = range.end === undefined ? until : (entryTime(range.end) ?? until);
  // Of the later half of the page: a log that began slowly is as dense as it was last.
  const half = entryTime(page[page.length >> 1]!.key) ?? from;
  let length = Math.max(1, (entryTime(newest) ?? from) - half);
  const starts = [start];
  for (let at = from + length; at < end && starts.length < most; at += length) {
    const edge = entryKeyFloor(orgId, at);
    if (edge > start) starts.push(edge);
    if (starts.length > EVEN_RANGES) length *= 2;
  }
  return starts.map((from, i) => ({ start: from, end: starts[i + 1] ?? range.end }));
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
