import { type Overlay, pendingIntents } from '../src/catalog/fold.ts';
import { believe } from '../src/catalog/intents.ts';
import { withTombstones } from '../src/catalog/load.ts';
import { applyEntries, listedUntil } from '../src/catalog/tail.ts';
import { keptVersions } from '../src/catalog/versions.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError } from '../src/core/errors.ts';
import { entryTime, listLog, type ReadEntry, readEntries } from '../src/log/tail.ts';
import { decodeGarbage, type GarbageList } from '../src/manifest/garbage.ts';
import type { LookedAt, Quarantined } from '../src/manifest/manifest.ts';
import { type CurrentManifest, readManifest } from '../src/manifest/manifest-store.ts';
import { type PutRecord, recordOf, revisionOf } from '../src/runs/record.ts';
import { readPart } from '../src/snapshot/parts.ts';
import { Rows } from '../src/snapshot/rows.ts';
import { garbageKey, garbagePrefix, manifestKey, nameOfKey } from '../src/store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import type { CompactorContext } from './context.ts';

/** A garbage list of a committed version that is still there. */
export interface WaitingGarbage {
  meta: ObjectMeta;
  kind: GarbageList['kind'];
  /** Server time from which its grace counts. */
  committedAt: number;
  /** Read only where needed; see `garbageList`. */
  list: GarbageList | null;
}

/** An org as a compactor found it. */
export interface Found {
  orgId: string;
  current: CurrentManifest;
  /** Server time; every entry acknowledged before it was listed. */
  listedAt: number;
  /** Entries that the current version has not folded, without those in quarantine. */
  unfolded: readonly ObjectMeta[];
  /** Entries in quarantine that are still there: those that `repair` released go after their grace. */
  quarantined: readonly string[];
  garbage: readonly WaitingGarbage[];
  /** Server time; every list of a version committed before is in `garbage`, or was collected. */
  garbageListedAt: number;
}

/** One round: GET manifest, LIST log, LIST garbage; and one GET per entry list that waits out its grace. */
export async function find(context: CompactorContext, orgId: string, signal?: AbortSignal): Promise<Found> {
  const { store, limits } = context;
  const [read, log, lists] = await Promise.all([
    readManifest(store, orgId, { signal }),
    listLog(store, orgId, { signal }),
    listGarbage(store, orgId, signal),
  ]);
  const current = read as CurrentManifest;
  // Somebody committed the first version since: look again.
  if (current.manifest === null && (await wasCommitted(store, orgId, signal)))
    return find(context, orgId, signal);
  const garbage = waitingGarbage(current, lists.items);
  await mapParallel(
    garbage.filter(({ kind }) => kind === 'entries'),
    limits.parallelMax,
    async (waiting, stop) => {
      // A corrupt list only costs: its entries are folded again, which changes nothing (ADR 0011). `verify` reports it.
      waiting.list = await garbageList(store, orgId, waiting, stop).catch(nullIfCorrupt);
    },
    signal,
  );
  const passedOver = new Set(current.manifest?.quarantine.map(({ key }) => key));
  const quarantined = log.items.map(({ key }) => key).filter((key) => passedOver.has(key));
  for (const { list } of garbage) for (const { key } of list?.objects ?? []) passedOver.add(key);
  const unfolded = log.items.filter(({ key }) => !passedOver.has(key));
  const { listedAt } = log;
  return { orgId, current, listedAt, unfolded, quarantined, garbage, garbageListedAt: lists.listedAt };
}

/** The garbage lists that are there, and the server time that holds for the oldest of the pages. One LIST per 1000. */
async function listGarbage(
  store: ObjectStore,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<{ items: ObjectMeta[]; listedAt: number }> {
  const items: ObjectMeta[] = [];
  let listedAt = Infinity;
  for await (const page of pagesOf(store, { prefix: garbagePrefix(orgId), signal })) {
    items.push(...page.items);
    listedAt = Math.min(listedAt, page.serverTime);
  }
  return { items, listedAt };
}

/** Lists that the current manifest names: only those were part of a commit. */
function waitingGarbage(
  { manifest, committedAt }: CurrentManifest,
  lists: readonly ObjectMeta[],
): WaitingGarbage[] {
  if (manifest === null) return [];
  const metas = new Map(lists.map((meta) => [nameOfKey(meta.key), meta]));
  return manifest.garbage.flatMap(({ name, kind, version, committed_at }) => {
    const meta = metas.get(name);
    const since = committed_at ?? (version === manifest.version ? committedAt : null);
    return meta === undefined || since === null ? [] : [{ meta, kind, committedAt: since, list: null }];
  });
}

export async function garbageList(
  store: ObjectStore,
  orgId: string,
  waiting: WaitingGarbage,
  signal?: AbortSignal,
): Promise<GarbageList | null> {
  if (waiting.list !== null) return waiting.list;
  const key = garbageKey(orgId, nameOfKey(waiting.meta.key));
  const got = await store.get(key, { signal });
  return got.outcome === 'found' ? decodeGarbage(key, orgId, got.body) : null;
}

/**
 * Whether a manifest is there after all, for one that found none. Throws CorruptError where copies of superseded versions
 * outlive it: then somebody removed it, and a first version on top would bury what the lost one held.
 */
async function wasCommitted(
  store: ObjectStore,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const kept = await keptVersions(store, orgId, { signal });
  if (kept.length === 0) return false;
  const again = await readManifest(store, orgId, { signal });
  if (again === 'unchanged' || again.manifest !== null) return true;
  throw new CorruptError(manifestKey(orgId), `it is missing, but version ${kept.at(-1)} was current once`, {
    hint: 'Run `runfold repair`: it builds the snapshot anew from the canonical runs.',
  });
}

function nullIfCorrupt(error: unknown): null {
  if (error instanceof CorruptError) return null;
  throw error;
}

/** What to fold, and what has to wait. */
export interface Plan {
  base: Rows;
  overlay: Overlay;
  records: number;
  /** Entries whose every record is in `overlay` for good. */
  consumed: readonly ObjectMeta[];
  /** Name time of the oldest entry that stays in the log, ms. */
  oldestKept: number | null;
  intents: LookedAt[];
  quarantined: Quarantined[];
}

/**
 * Reads what `found` names, resolves intents against the canonical runs and decides entry by entry. Requests: one
 * GET for a head that is not inline, one per entry that did not travel in the listing, one per open intent and per run
 * that only an entry from before the last fold tells of.
 * `null`: objects are gone, so another compactor was quicker.
 */
export async function plan(
  context: CompactorContext,
  found: Found,
  signal?: AbortSignal,
): Promise<Plan | null> {
  const { store, limits } = context;
  const { orgId } = found;
  const { manifest } = found.current;
  const head = manifest?.parts.find((part) => part.level === 0);
  const [base, read] = await Promise.all([
    head === undefined ? Rows.empty(orgId) : readPart(store, orgId, head, { signal }),
    readEntries(store, orgId, found.unfolded, { parallel: limits.parallelMax, signal }),
  ]);
  if (base === null || read.entries.some((one) => 'gone' in one)) return null;
  return planOn(context, found, base, read.entries, signal);
}

/** The same on rows that the caller has: what is known of the canonical runs decides about intents. */
export async function planOn(
  context: CompactorContext,
  found: Found,
  base: Rows,
  entries: readonly ReadEntry[],
  signal?: AbortSignal,
): Promise<Plan> {
  const { limits } = context;
  const { orgId, listedAt } = found;
  const { manifest } = found.current;

  const overlay = withTombstones(manifest);
  const withheld = applyEntries(overlay, entries, base, listedUntil(manifest, limits));
  let records = 0;
  const quarantined: Quarantined[] = [];
  for (const read of entries) {
    if ('problem' in read) {
      quarantined.push({ key: read.item.key, reason: read.problem.message, since: listedAt });
    } else if ('entry' in read) {
      records += read.entry.records.length;
    }
  }
  await Promise.all([
    believe(context.runs, orgId, pendingIntents(base, overlay), overlay, limits.parallelMax, signal),
    askAbout(context, orgId, withheld, overlay, signal),
  ]);
  const waiting = waitingIntents(context, entries, base, overlay, listedAt);
  const readable = entries.filter((read) => 'entry' in read);
  const kept = readable.filter((read) => waiting.keys.has(read.item.key));
  return {
    base,
    overlay,
    records,
    consumed: readable.filter((read) => !waiting.keys.has(read.item.key)).map((read) => read.item),
    oldestKept: kept.length === 0 ? null : Math.min(...kept.map((read) => entryTime(read.item.key)!)),
    intents: waiting.intents,
    quarantined,
  };
}

/**
 * Puts that the head cannot judge: what is true of their runs now is no less than what history has. Mostly there are none;
 * they come from entries that stay in the log because of an intent, that landed after their writer gave up, that a rival
 * collected while we looked, or whose garbage list is corrupt.
 */
async function askAbout(
  { runs, limits }: CompactorContext,
  orgId: string,
  withheld: readonly PutRecord[],
  overlay: Overlay,
  signal: AbortSignal | undefined,
): Promise<void> {
  const unknown = withheld.filter(({ row }) => {
    const fact = overlay.facts.get(row.run_id);
    return fact === undefined || revisionOf(fact) < row.revision;
  });
  await mapParallel(
    [...new Set(unknown.map(({ row }) => row.run_id))],
    limits.parallelMax,
    async (runId, stop) => {
      // Of one that cannot be read the catalog keeps what it has.
      const stored = await runs.read(orgId, runId, stop).catch(nullIfCorrupt);
      if (stored !== null) overlay.apply(recordOf(stored.run));
    },
    signal,
  );
}

/**
 * Entries with an intent that the canonical run has neither confirmed nor overtaken stay in the log until
 * `intentTtl`. Once no write that belongs to the intent can land any more, readers are told not to ask again.
 */
function waitingIntents(
  context: CompactorContext,
  entries: readonly ReadEntry[],
  base: Rows,
  overlay: Overlay,
  listedAt: number,
) {
  const { lateWriteMaxMs, intentTtlMs } = context.limits;
  const open = new Map(pendingIntents(base, overlay).map(({ row }) => [row.run_id, row.revision]));
  const keys = new Set<string>();
  const intents = new Map<string, LookedAt>();
  for (const read of entries) {
    if (!('entry' in read)) continue;
    const ageMs = listedAt - entryTime(read.item.key)!;
    if (ageMs > intentTtlMs) continue;
    for (const record of read.entry.records) {
      if (record.kind !== 'intent' || (open.get(record.row.run_id) ?? 0) < record.row.revision) continue;
      keys.add(read.item.key);
      const { run_id, revision } = record.row;
      if (ageMs > lateWriteMaxMs) intents.set(run_id, { run_id, revision, looked_at: listedAt });
      else intents.delete(run_id);
    }
  }
  return { keys, intents: [...intents.values()] };
}
