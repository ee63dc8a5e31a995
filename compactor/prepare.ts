import { fold, stateHashOf } from '../src/catalog/fold.ts';
import { CorruptError, OutcomeUnknownError } from '../src/core/errors.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import { FEATURE_VERSIONS, READER_FEATURES, WRITER_FEATURES } from '../src/manifest/features.ts';
import { encodeGarbage, GARBAGE_FORMAT, type GarbageList } from '../src/manifest/garbage.ts';
import {
  checkWritable,
  type GarbageRef,
  MANIFEST_FORMAT,
  type Manifest,
  type Part,
  type Policy,
  type Quarantined,
  type Tombstone,
} from '../src/manifest/manifest.ts';
import { type CurrentManifest, copyManifest } from '../src/manifest/manifest-store.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import type { DeleteRecord } from '../src/runs/record.ts';
import { isTerminal } from '../src/runs/run.ts';
import type { Rows } from '../src/snapshot/rows.ts';
import {
  garbageKey,
  manifestCopyKey,
  manifestKey,
  nameOfKey,
  partKey,
  partsPrefix,
} from '../src/store/keys.ts';
import { ABSENT } from '../src/store/object-store.ts';
import type { CompactorContext } from './context.ts';
import { nextParts } from './parts.ts';
import type { Found, Plan } from './plan.ts';
import { horizonAt, KEEP_ALL } from './retention.ts';
import { withLogs } from './stubs.ts';

export interface PrepareOptions {
  policy?: Policy | undefined;
  /** `work.base` is the whole state, made anew: no part of the current version is kept, nor what it quarantined. */
  rebuild?: boolean | undefined;
  /** Rewrite the head, and one history part, where an older runfold wrote them. */
  upgrade?: boolean | undefined;
}

/** Writes everything that the next version names, and gives that version. Nothing of it counts before the commit. */
export async function prepare(
  context: CompactorContext,
  found: Found,
  work: Plan,
  change: PrepareOptions = {},
): Promise<Manifest> {
  const { orgId, listedAt, current } = found;
  const { manifest } = current;
  if (manifest !== null) checkWritable(manifestKey(orgId), manifest);
  const policy = change.policy ?? manifest?.policy ?? KEEP_ALL;
  const horizon = horizonAt(manifest, policy, listedAt);
  // Late records are judged by the horizon that stood when they could still be folded in time.
  const folded = fold(work.base, work.overlay, manifest?.horizon ?? null);
  const tombstones = tombstonesOf(manifest, folded.deletes, listedAt);
  const next = await nextParts(context, {
    orgId,
    listedAt,
    current: change.rebuild ? [] : (manifest?.parts ?? []),
    before: work.base,
    replaced: folded.replaced,
    head: folded.rows,
    headChanged: folded.changed,
    horizon,
    tombstones,
    upgrade: change.upgrade,
    quarantine: new Set(change.rebuild ? [] : manifest?.quarantine.map(({ key }) => key)),
  });
  const before = StateHash.parse(manifest?.state_hash ?? StateHash.empty().hex());
  const brought = folded.added.plus(next.added);
  const added = change.rebuild ? brought.plus(stateHashOf(work.base)) : brought;
  const removed = folded.removed.plus(next.removed).plus(change.rebuild ? before : StateHash.empty());
  const dropped = change.rebuild ? (manifest?.parts ?? []) : next.dropped;
  const stateHash = checkedStateHash(orgId, before, next.parts, added, removed);
  const version = (manifest?.version ?? 0) + 1;
  const writeId = uuidv7(listedAt, context.random);
  const superseded = [
    ...(await copyOf(context, current)),
    ...dropped.flatMap((part) => objectOfPart(orgId, part)),
  ];
  const lists = [
    ...newGarbage(
      context,
      found,
      'entries',
      work.consumed.map(({ key, generation }) => ({ key, generation })),
      version,
      writeId,
    ),
    ...newGarbage(context, found, 'snapshot', superseded, version, writeId),
  ];
  await Promise.all(lists.map(({ name, list }) => putList(context, orgId, name, list)));
  const [needed, due] = [[], []] as [Tombstone[], Tombstone[]];
  for (const tombstone of tombstones)
    (isNeeded(context, tombstone, next.parts, listedAt) ? needed : due).push(tombstone);
  const totals = manifest?.totals ?? { entries: 0, records: 0, ties: 0, rows_written: 0 };
  return {
    ...manifest,
    format: MANIFEST_FORMAT,
    org_id: orgId,
    version,
    write_id: writeId,
    reader_features: [...READER_FEATURES],
    writer_features: [...WRITER_FEATURES],
    feature_versions: FEATURE_VERSIONS,
    created_at: listedAt,
    previous_committed_at: current.committedAt,
    lost: undefined,
    covers_until: Math.max(
      0,
      Math.min(listedAt - context.limits.entryLagMaxMs, work.oldestKept ?? Number.POSITIVE_INFINITY),
    ),
    parts: next.parts,
    rows: next.parts.reduce((sum, { runs }) => sum + runs, 0),
    active: countActive(folded.rows),
    state_hash: stateHash.hex(),
    fold: {
      entries: work.consumed.length,
      records: work.records,
      ties: work.overlay.ties,
      added_hash: added.hex(),
      removed_hash: removed.hex(),
    },
    totals: {
      entries: totals.entries + work.consumed.length,
      records: totals.records + work.records,
      ties: totals.ties + work.overlay.ties,
      rows_written: totals.rows_written + next.rowsWritten,
    },
    policy,
    horizon,
    intents: work.intents,
    tombstones: [...needed, ...(await withLogs(context, orgId, due))],
    quarantine: [
      ...(change.rebuild ? [] : stillQuarantined(found)),
      ...work.quarantined,
      ...next.quarantined,
    ],
    garbage: [...stillWaiting(context, found), ...lists.map(({ ref }) => ref)],
  };
}

/** Law 5: the new state is the old one plus what was folded minus what was dropped, worked out both ways. */
function checkedStateHash(
  orgId: string,
  before: StateHash,
  parts: readonly Part[],
  added: StateHash,
  removed: StateHash,
): StateHash {
  const expected = before.plus(added).minus(removed);
  const actual = parts.reduce((sum, part) => sum.plus(StateHash.parse(part.state_hash)), StateHash.empty());
  if (actual.hex() === expected.hex()) return actual;
  throw new CorruptError(manifestKey(orgId), 'its state hash does not fit its rows; nothing was committed', {
    hint: 'Run `runfold verify`, then `runfold repair`.',
  });
}

interface NewGarbage {
  name: string;
  list: GarbageList;
  ref: GarbageRef;
}

function newGarbage(
  { random }: CompactorContext,
  { orgId, listedAt }: Found,
  kind: GarbageList['kind'],
  objects: GarbageList['objects'],
  version: number,
  writeId: string,
): NewGarbage[] {
  if (objects.length === 0) return [];
  const name = uuidv7(listedAt, random);
  const list: GarbageList = {
    format: GARBAGE_FORMAT,
    org_id: orgId,
    version,
    write_id: writeId,
    kind,
    objects,
  };
  return [{ name, list, ref: { name, kind, objects: objects.length, version, committed_at: null } }];
}

/** The copy of the version that is superseded, first in its list: nobody finds a version whose parts are going. */
async function copyOf(
  { store }: CompactorContext,
  { manifest, body }: CurrentManifest,
): Promise<GarbageList['objects']> {
  if (manifest === null) return [];
  // A copy that somebody wrote before and that has rotted since must not stop the org: `repair` deals with it.
  const generation = await copyManifest(store, manifest, body).catch(nullIfCorrupt);
  return generation === null ? [] : [{ key: manifestCopyKey(manifest.org_id, manifest.version), generation }];
}

function nullIfCorrupt(error: unknown): null {
  if (error instanceof CorruptError) return null;
  throw error;
}

function objectOfPart(orgId: string, { name, generation }: Part): GarbageList['objects'] {
  return generation === null ? [] : [{ key: partKey(orgId, name), generation }];
}

async function putList(
  { store }: CompactorContext,
  orgId: string,
  name: string,
  list: GarbageList,
): Promise<void> {
  const key = garbageKey(orgId, name);
  const put = await store.put(key, encodeGarbage(list), {
    ifGeneration: ABSENT,
    contentType: 'application/json',
  });
  if (put.outcome === 'written') return;
  throw new OutcomeUnknownError(`The store did not confirm ${key}.`, {
    cause: put.outcome === 'unknown' ? put.cause : undefined,
  });
}

/**
 * Without entries that are gone: `repair` released them, and their grace is over. One that is not in a listing from
 * before its quarantine may just be new. And without parts that no longer are any of the org, since the horizon passed
 * all that they hold.
 */
export function stillQuarantined({ orgId, current, quarantined, listedAt }: Found): Quarantined[] {
  const { quarantine = [], parts = [] } = current.manifest ?? {};
  const isThere = (key: string) =>
    key.startsWith(partsPrefix(orgId))
      ? parts.some(({ name }) => partKey(orgId, name) === key)
      : quarantined.includes(key);
  return quarantine.filter(({ key, since }) => isThere(key) || since >= listedAt);
}

/**
 * References to lists that nobody has finished collecting, with the commit time that is now known. A listing shows that
 * only of lists whose commit is older than itself: it was asked for beside the manifest, and may have been answered before
 * several versions that the manifest knows. To forget a list would be to keep for ever what it names.
 */
function stillWaiting({ limits }: CompactorContext, found: Found): GarbageRef[] {
  const { manifest, committedAt } = found.current;
  const waiting = new Set(found.garbage.map(({ meta }) => nameOfKey(meta.key)));
  const shown = found.garbageListedAt - limits.serverTimeResolutionMs;
  return (manifest?.garbage ?? []).flatMap((ref) => {
    const isCurrent = ref.version === manifest?.version;
    const committed_at = ref.committed_at ?? (isCurrent ? committedAt : null);
    const stays = isCurrent || waiting.has(ref.name) || (committed_at !== null && committed_at >= shown);
    return stays ? [{ ...ref, committed_at }] : [];
  });
}

function tombstonesOf(
  manifest: Manifest | null,
  deletes: readonly DeleteRecord[],
  foldedAt: number,
): Tombstone[] {
  const tombstones = new Map((manifest?.tombstones ?? []).map((tombstone) => [tombstone.run_id, tombstone]));
  for (const { run_id, revision, deleted_at } of deletes) {
    if (tombstones.get(run_id)?.revision === revision) continue;
    tombstones.set(run_id, { run_id, revision, deleted_at, folded_at: foldedAt });
  }
  return [...tombstones.values()];
}

/** A tombstone goes when late records cannot come any more and no part from before it is left. */
function isNeeded(
  { limits }: CompactorContext,
  tombstone: Tombstone,
  parts: readonly Part[],
  now: number,
): boolean {
  if (now - tombstone.deleted_at <= limits.tombstoneTtlMs) return true;
  return parts.some(({ level, written_at }) => level > 0 && written_at < tombstone.folded_at);
}

function countActive(rows: Rows): number {
  let active = 0;
  for (let i = 0; i < rows.length; i++) if (!isTerminal(rows.status(i))) active++;
  return active;
}
