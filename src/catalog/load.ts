import type { Clock } from '../core/clock.ts';
import { mapParallel } from '../core/concurrency.ts';
import { RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import { listLogPage, type ReadEntry, readEntries, travelsInline } from '../log/tail.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { type CurrentManifest, readManifest } from '../manifest/manifest-store.ts';
import { type IntentRecord, putOf } from '../runs/record.ts';
import type { RunStore } from '../runs/run-store.ts';
import { readPart } from '../snapshot/parts.ts';
import { Rows } from '../snapshot/rows.ts';
import { entryKeyFloor } from '../store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../store/object-store.ts';
import { Overlay, pendingIntents } from './fold.ts';
import { CatalogState } from './state.ts';
import type { RefreshStats } from './stats.ts';

export interface LoadContext {
  store: ObjectStore;
  runs: RunStore;
  clock: Clock;
  limits: Limits;
  /** False: unconfirmed intents are not looked into (and law 4 is the caller's). */
  resolveIntents: boolean;
}

/** What one refresh leaves for the next. */
export interface Loaded {
  state: CatalogState;
  generation: string | null;
  /** Every entry acknowledged before this server time is in `state`. */
  listedAt: number;
  /** Monotonic local time at which the round began. */
  beganAt: number;
  /** The same for the last refresh that read the manifest. */
  manifestReadAt: number;
}

type Fill = (stats: Partial<RefreshStats>) => void;

/**
 * One refresh. With `previous` from less than half a grace ago: one LIST of what is new. Otherwise GET manifest
 * beside LIST log, one round, and a second for a head that is not inline, entries that did not travel in the
 * listing, and further pages. Unconfirmed intents cost one more.
 *
 * A round that outlives half the grace, or meets objects that are gone, proves nothing and is done again.
 */
export async function load(
  context: LoadContext,
  orgId: string,
  previous: Loaded | null,
  fill: Fill,
  signal?: AbortSignal,
): Promise<Loaded> {
  const { clock, limits } = context;
  for (let attempt = 1; attempt <= limits.refreshAttemptsMax; attempt++) {
    fill({ attempts: attempt });
    const beganAt = clock.monotonic();
    const loaded =
      previous !== null && isWarm(previous, beganAt, limits)
        ? await loadWarm(context, orgId, previous, beganAt, fill, signal)
        : await loadFull(context, orgId, previous, beganAt, fill, signal);
    if (loaded !== null && clock.monotonic() - beganAt <= limits.entryGraceMs / 2) return loaded;
  }
  throw new RunfoldError(
    'STORE_UNAVAILABLE',
    `The catalog of org ${orgId} could not be read within ${limits.entryGraceMs / 2} ms.`,
    {
      hint: 'The store is too slow, or objects are missing: run `runfold verify`.',
    },
  );
}

function isWarm(previous: Loaded, now: number, limits: Limits): boolean {
  return (
    now - previous.beganAt <= limits.entryGraceMs / 2 &&
    now - previous.manifestReadAt <= limits.manifestMaxAgeMs &&
    previous.state.overlay.size <= limits.overlayRecordsMax
  );
}

async function loadWarm(
  context: LoadContext,
  orgId: string,
  previous: Loaded,
  beganAt: number,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<Loaded | null> {
  const start = entryKeyFloor(orgId, previous.listedAt - context.limits.entryLagMaxMs);
  const first = await listLogPage(context.store, orgId, { start, signal });
  fill({ cold: false, rounds: 1 });
  const items = await furtherPages(context, orgId, first, start, signal);
  const entries = await readTail(context, orgId, items, previous.state.manifest, fill, signal);
  if (entries === null) return null;
  const overlay = previous.state.overlay.copy();
  applyEntries(overlay, entries);
  await resolve(context, orgId, previous.state.base, overlay, previous.state.manifest, fill, signal);
  const state = new CatalogState(orgId, previous.state.manifest, previous.state.base, overlay);
  return { ...previous, state, listedAt: first.serverTime, beganAt };
}

async function loadFull(
  context: LoadContext,
  orgId: string,
  previous: Loaded | null,
  beganAt: number,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<Loaded | null> {
  const { store, clock } = context;
  const [read, first] = await together(
    [
      (stop) => readManifest(store, orgId, { signal: stop, known: previous?.generation ?? null }),
      (stop) => listLogPage(store, orgId, { signal: stop }),
    ] as const,
    signal,
  );
  fill({ cold: true, rounds: 1, firstRoundMs: clock.monotonic() - beganAt });
  const { manifest, generation } = currentOf(read, previous);
  const headPart = manifest?.parts.find((part) => part.level === 0) ?? null;
  const known =
    previous !== null && headPart !== null && headPart.name === headOf(previous.state.manifest)
      ? previous.state.base
      : null;
  const start = manifest === null ? undefined : entryKeyFloor(orgId, manifest.covers_until);
  if (headPart !== null && known === null && headPart.inline === null) fill({ rounds: 2 });
  const [base, entries] = await together(
    [
      async (stop) =>
        known ?? (headPart === null ? Rows.empty(orgId) : readPart(store, orgId, headPart, { signal: stop })),
      async (stop) =>
        readTail(
          context,
          orgId,
          await furtherPages(context, orgId, first, start, stop, () => fill({ rounds: 2 })),
          manifest,
          fill,
          stop,
        ),
    ] as const,
    signal,
  );
  if (base === null || entries === null) return null;
  const overlay = new Overlay();
  for (const { run_id, revision, deleted_at } of manifest?.tombstones ?? [])
    overlay.apply({ kind: 'delete', run_id, revision, deleted_at });
  applyEntries(overlay, entries);
  await resolve(context, orgId, base, overlay, manifest, fill, signal);
  const state = new CatalogState(orgId, manifest, base, overlay);
  return { state, generation, listedAt: first.serverTime, beganAt, manifestReadAt: beganAt };
}

function headOf(manifest: Manifest | null): string | undefined {
  return manifest?.parts.find((part) => part.level === 0)?.name;
}

function currentOf(
  read: CurrentManifest | 'unchanged',
  previous: Loaded | null,
): Pick<CurrentManifest, 'manifest' | 'generation'> {
  if (read !== 'unchanged') return read;
  return { manifest: previous!.state.manifest, generation: previous!.generation };
}

/**
 * The rest of a long log: from the first unfolded entry on, since everything older is in the snapshot.
 */
async function furtherPages(
  context: LoadContext,
  orgId: string,
  first: { items: readonly ObjectMeta[]; next: string | null },
  start: string | undefined,
  signal: AbortSignal | undefined,
  onRound: () => void = () => undefined,
): Promise<readonly ObjectMeta[]> {
  if (first.next === null) return first.items;
  onRound();
  const items = new Map(first.items.map((item) => [item.key, item]));
  let page = await listLogPage(
    context.store,
    orgId,
    start === undefined || start < lastKey(first) ? { pageToken: first.next, signal } : { start, signal },
  );
  for (;;) {
    for (const item of page.items) items.set(item.key, item);
    if (page.next === null) return [...items.values()];
    page = await listLogPage(context.store, orgId, { start, pageToken: page.next, signal });
  }
}

function lastKey({ items }: { items: readonly ObjectMeta[] }): string {
  return items.at(-1)?.key ?? '';
}

/** The decoded tail, without what a compactor has quarantined; null when an entry is gone. */
async function readTail(
  context: LoadContext,
  orgId: string,
  items: readonly ObjectMeta[],
  manifest: Manifest | null,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<ReadEntry[] | null> {
  const quarantined = new Set(manifest?.quarantine.map(({ key }) => key));
  const wanted = items.filter(({ key }) => !quarantined.has(key));
  if (wanted.some((item) => !travelsInline(item))) fill({ rounds: 2 });
  const entries = await readEntries(context.store, orgId, wanted, {
    parallel: context.limits.parallelMax,
    signal,
  });
  let records = 0;
  for (const read of entries) {
    if ('gone' in read) return null;
    if ('problem' in read) throw read.problem;
    records += read.entry.records.length;
  }
  fill({ tailEntries: entries.length, tailRecords: records, quarantined: quarantined.size });
  return entries;
}

function applyEntries(overlay: Overlay, entries: readonly ReadEntry[]): void {
  for (const read of entries) if ('entry' in read) overlay.applyAll(read.entry.records);
}

/** Reads the canonical run behind each intent that nothing has confirmed and no compactor has looked into. */
async function resolve(
  context: LoadContext,
  orgId: string,
  base: Rows,
  overlay: Overlay,
  manifest: Manifest | null,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<void> {
  const looked = new Map(manifest?.intents.map(({ run_id, revision }) => [run_id, revision]));
  const open = pendingIntents(base, overlay).filter(
    ({ row }) => (looked.get(row.run_id) ?? 0) < row.revision,
  );
  if (!context.resolveIntents || open.length === 0) return fill({ intentsAsked: 0 });
  fill({ intentsAsked: open.length, intentRounds: 1 });
  await believe(context.runs, orgId, open, overlay, context.limits.parallelMax, signal);
}

/** The canonical run decides: what is there becomes a fact; where nothing is there the intent stays open. */
export async function believe(
  runs: RunStore,
  orgId: string,
  intents: readonly IntentRecord[],
  overlay: Overlay,
  parallel: number,
  signal?: AbortSignal,
): Promise<void> {
  await mapParallel(
    intents,
    parallel,
    async ({ row }, stop) => {
      const stored = await runs.read(orgId, row.run_id, stop);
      if (stored !== null) overlay.apply(putOf(stored.run));
    },
    signal,
  );
}

/** Runs both at once; the first failure cancels the other. */
async function together<A, B>(
  calls: readonly [(signal: AbortSignal) => Promise<A>, (signal: AbortSignal) => Promise<B>],
  signal: AbortSignal | undefined,
): Promise<[A, B]> {
  const results = await mapParallel<(signal: AbortSignal) => Promise<A | B>, A | B>(
    calls,
    2,
    (call, stop) => call(stop),
    signal,
  );
  return results as [A, B];
}
