import type { Limits } from '../core/limits.ts';
import { entryTime, listRest, type ReadEntry, readEntries } from '../log/tail.ts';
import type { Manifest } from '../manifest/manifest.ts';
import type { LogRecord, PutRecord } from '../runs/record.ts';
import type { Rows } from '../snapshot/rows.ts';
import { logPrefix } from '../store/keys.ts';
import type { ListPage, ObjectMeta } from '../store/object-store.ts';
import type { Fill, LoadContext } from './context.ts';
import type { Overlay } from './fold.ts';

export interface Pages {
  items: readonly ObjectMeta[];
  /** LISTs, one after another. */
  rounds: number;
}

/** `first`, and the rest of a long log named `from` (ms) or later: what is older is known, or in the snapshot. */
export async function furtherPages(
  { store, limits }: LoadContext,
  orgId: string,
  first: ListPage,
  from: number,
  signal: AbortSignal | undefined,
): Promise<Pages> {
  if (first.next === null) return { items: first.items, rounds: 0 };
  const bounds = { from, until: first.serverTime + limits.entryLagMaxMs };
  const rest = await listRest(store, orgId, first, bounds, { parallel: limits.parallelMax, signal });
  const items = new Map([...first.items, ...rest.items].map((item) => [item.key, item]));
  return { items: [...items.values()], rounds: rest.depth };
}

export interface Tail {
  /** Null when an entry is gone. */
  entries: ReadEntry[] | null;
  /** Of all entries listed that belong to the tail, `known` ones included. */
  keys: ReadonlySet<string>;
  rounds: number;
}

/** The decoded tail, without what a compactor has quarantined, nor entries that are `known`: entries never change. */
export async function readTail(
  context: LoadContext,
  orgId: string,
  pages: Pages,
  manifest: Manifest | null,
  known: ReadonlySet<string>,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<Tail> {
  const quarantined = new Set(manifest?.quarantine.map(({ key }) => key));
  // A history part in quarantine is another matter: nothing of it is passed over, whoever asks for it is told.
  const missing =
    manifest?.quarantine.filter(({ key, released }) => !released && key.startsWith(logPrefix(orgId)))
      .length ?? 0;
  // What was acknowledged under an older name is folded; what was not acknowledged need not show yet.
  const folded = manifest?.covers_until ?? 0;
  const tail = pages.items.filter(({ key }) => !quarantined.has(key) && (entryTime(key) ?? folded) >= folded);
  const keys = new Set(tail.map(({ key }) => key));
  const wanted = tail.filter(({ key }) => !known.has(key));
  const { parallelMax: parallel } = context.limits;
  const { entries, fetched } = await readEntries(context.store, orgId, wanted, { parallel, signal });
  const rounds = pages.rounds + Math.ceil(fetched / parallel);
  let records = 0;
  for (const read of entries) {
    if ('gone' in read) return { entries: null, keys, rounds };
    if ('problem' in read) throw read.problem;
    records += read.entry.records.length;
  }
  fill({ tailEntries: entries.length, tailRecords: records, quarantined: missing });
  return { entries, keys, rounds };
}

/**
 * Server time: the fold that made `manifest` has listed every acknowledged entry with an older name. 0: there was none.
 * Unlike `covers_until`, no intent holds it back.
 */
export function listedUntil(manifest: Manifest | null, { entryLagMaxMs }: Limits): number {
  return manifest === null ? 0 : manifest.created_at - entryLagMaxMs;
}

/**
 * Applies a tail to `overlay`, but for puts that may be stale, which it gives back. An entry named before `listed` (see
 * `listedUntil`) says nothing acknowledged that the snapshot does not know. Beside a row of the head it does no harm (law
 * 1). Where the head has none, history may have a later one, or the run was forgotten, and nothing here would tell.
 */
export function applyEntries(
  overlay: Overlay,
  entries: readonly ReadEntry[],
  base: Rows,
  listed: number,
): PutRecord[] {
  const withheld: PutRecord[] = [];
  for (const read of entries) {
    if (!('entry' in read)) continue;
    const namedAt = entryTime(read.item.key) ?? Infinity;
    const news: LogRecord[] = [];
    for (const record of read.entry.records) {
      const isNews = namedAt >= listed || record.kind !== 'put' || base.indexOf(record.row.run_id) >= 0;
      if (isNews) news.push(record);
      else withheld.push(record);
    }
    overlay.applyEntry(news, namedAt);
  }
  return withheld;
}
