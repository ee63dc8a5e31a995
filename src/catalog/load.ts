import { both } from '../core/concurrency.ts';
import { CorruptError, RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import { entryTime, listLogPage } from '../log/tail.ts';
import type { Manifest, Part } from '../manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../manifest/manifest-store.ts';
import { objectOf, readPart } from '../snapshot/parts.ts';
import { Rows } from '../snapshot/rows.ts';
import { entryKeyFloor } from '../store/keys.ts';
import type { ListPage, ObjectStore } from '../store/object-store.ts';
import type { Fill, LoadContext } from './context.ts';
import { Overlay, pendingIntents, prune } from './fold.ts';
import { resolveIntents } from './intents.ts';
import { CatalogState } from './state.ts';
import { applyEntries, furtherPages, listedUntil, readTail } from './tail.ts';

/** What one refresh leaves for the next. */
export interface Loaded {
  state: CatalogState;
  generation: string | null;
  /** Every entry acknowledged before this server time is in `state`. */
  listedAt: number;
  /** Entries that the last listing showed: their records are in `state`. */
  listed: ReadonlySet<string>;
  /** Monotonic local time at which the round began. */
  beganAt: number;
  /** The same for the last refresh that read the manifest. */
  manifestReadAt: number;
}

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
  fillAll: Fill,
  signal?: AbortSignal,
): Promise<Loaded> {
  const { clock, limits } = context;
  let rounds = 0;
  for (let attempt = 1; attempt <= limits.refreshAttemptsMax; attempt++) {
    const before = rounds;
    // Rounds that had to be done again were waited for too.
    const fill: Fill = (stats) => {
      rounds = before + (stats.rounds ?? rounds - before);
      fillAll({ ...stats, rounds });
    };
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
  const pages = await furtherPages(
    context,
    orgId,
    first,
    previous.listedAt - context.limits.entryLagMaxMs,
    signal,
  );
  const { manifest, base, overlay: before } = previous.state;
  const { entries, keys, rounds } = await readTail(
    context,
    orgId,
    pages,
    manifest,
    previous.listed,
    fill,
    signal,
  );
  fill({ cold: false, rounds: 1 + rounds });
  if (entries === null) return null;
  const loaded = { ...previous, listed: keys, listedAt: first.serverTime, beganAt };
  // Nothing new: the same state, with whatever its views have worked out.
  if (entries.length === 0 && pendingIntents(base, before).length === 0) return loaded;
  const overlay = before.copy();
  // What is withheld was acknowledged long ago, and is in the snapshot, or never was.
  applyEntries(overlay, entries, base, listedUntil(manifest, context.limits));
  await resolveIntents(context, orgId, base, overlay, manifest, fill, signal);
  prune(overlay, base);
  return { ...loaded, state: new CatalogState(orgId, manifest, base, overlay) };
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
  const [read, first] = await both(
    [
      (stop) => readManifest(store, orgId, { signal: stop, known: previous?.generation ?? null }),
      (stop) => listLogPage(store, orgId, { signal: stop }),
    ] as const,
    signal,
  );
  fill({ cold: true, rounds: 1, firstRoundMs: clock.monotonic() - beganAt });
  const { manifest, generation, committedAt } = currentOf(read, previous);
  const from: Snapshot = { manifest, known: knownHead(manifest, previous) };
  try {
    const seen = await assemble(context, orgId, from, first, fill, signal);
    return seen && { ...seen, generation, listedAt: first.serverTime, beganAt, manifestReadAt: beganAt };
  } catch (error) {
    const older = await olderVersion(context, orgId, manifest, committedAt, first, error, signal);
    fill({ fallbackVersion: older.version });
    const seen = await assemble(context, orgId, { manifest: older, known: null }, first, fill, signal);
    // No generation: the next full refresh reads the current manifest again, which may have been repaired.
    return (
      seen && { ...seen, generation: null, listedAt: first.serverTime, beganAt, manifestReadAt: beganAt }
    );
  }
}

/** What one version's snapshot holds, without the tail. Throws SNAPSHOT_EXPIRED when its head is gone. */
export async function loadVersion(
  store: ObjectStore,
  orgId: string,
  manifest: Manifest,
  signal?: AbortSignal,
): Promise<CatalogState> {
  const head = headOf(manifest);
  const base = head === undefined ? Rows.empty(orgId) : await readPart(store, orgId, head, { signal });
  if (base !== null) return new CatalogState(orgId, manifest, base, withTombstones(manifest));
  throw new RunfoldError(
    'SNAPSHOT_EXPIRED',
    `The head of version ${manifest.version} of org ${orgId} is gone.`,
  );
}

/** Facts that the snapshot states besides its rows. */
export function withTombstones(manifest: Manifest | null): Overlay {
  const overlay = new Overlay();
  for (const { run_id, revision, deleted_at } of manifest?.tombstones ?? []) {
    overlay.apply({ kind: 'delete', run_id, revision, deleted_at });
  }
  return overlay;
}

interface Snapshot {
  manifest: Manifest | null;
  /** Its head, when an earlier refresh has it. */
  known: Rows | null;
}

/** Head and tail, side by side; null when an object of either is gone. */
async function assemble(
  context: LoadContext,
  orgId: string,
  { manifest, known }: Snapshot,
  first: ListPage,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<Pick<Loaded, 'state' | 'listed'> | null> {
  const head = headOf(manifest);
  const headRounds = head !== undefined && known === null && head.inline === null ? 1 : 0;
  const from = manifest?.covers_until ?? 0;
  const [base, { entries, keys, rounds }] = await both(
    [
      async (stop) =>
        known ??
        (head === undefined ? Rows.empty(orgId) : readPart(context.store, orgId, head, { signal: stop })),
      async (stop) =>
        readTail(
          context,
          orgId,
          await furtherPages(context, orgId, first, from, stop),
          manifest,
          NONE,
          fill,
          stop,
        ),
    ] as const,
    signal,
  );
  fill({ rounds: 1 + Math.max(headRounds, rounds), tailAgeMs: ageOf(keys, first.serverTime) });
  if (base === null || entries === null) return null;
  const overlay = withTombstones(manifest);
  applyEntries(overlay, entries, base, listedUntil(manifest, context.limits));
  await resolveIntents(context, orgId, base, overlay, manifest, fill, signal);
  prune(overlay, base);
  return { state: new CatalogState(orgId, manifest, base, overlay), listed: keys };
}

function ageOf(keys: ReadonlySet<string>, now: number): number {
  let oldest = now;
  for (const key of keys) oldest = Math.min(oldest, entryTime(key) ?? now);
  return now - oldest;
}

const NONE: ReadonlySet<string> = new Set();

/**
 * The version before one whose head is corrupt, where that and the log are exact: every entry that the corrupt one
 * folded is still in the log, because its grace is not over. Otherwise throws the error that led here.
 */
async function olderVersion(
  { store, limits }: LoadContext,
  orgId: string,
  manifest: Manifest | null,
  committedAt: number | null,
  { serverTime }: ListPage,
  error: unknown,
  signal: AbortSignal | undefined,
): Promise<Manifest> {
  const head = headOf(manifest);
  const isHead = head !== undefined && error instanceof CorruptError && error.key === objectOf(orgId, head);
  const isExact = committedAt !== null && serverTime - committedAt < limits.entryGraceMs;
  if (manifest === null || !isHead || !isExact) throw error;
  const older = await readManifestCopy(store, orgId, manifest.version - 1, { signal }).catch(() => null);
  if (older === null) throw error;
  return older;
}

function headOf(manifest: Manifest | null): Part | undefined {
  return manifest?.parts.find((part) => part.level === 0);
}

function knownHead(manifest: Manifest | null, previous: Loaded | null): Rows | null {
  const head = headOf(manifest);
  if (previous === null || head === undefined) return null;
  return head.name === headOf(previous.state.manifest)?.name ? previous.state.base : null;
}

function currentOf(
  read: CurrentManifest | 'unchanged',
  previous: Loaded | null,
): Pick<CurrentManifest, 'manifest' | 'generation' | 'committedAt'> {
  if (read !== 'unchanged') return read;
  return { manifest: previous!.state.manifest, generation: previous!.generation, committedAt: null };
}
