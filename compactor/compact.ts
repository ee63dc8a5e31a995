import { type Folded, fold, stateHashOf } from '../src/catalog/fold.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { CorruptError, OutcomeUnknownError } from '../src/core/errors.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import { encodeGarbage, GARBAGE_FORMAT, type GarbageList } from '../src/manifest/garbage.ts';
import {
  checkWritable,
  type GarbageRef,
  MANIFEST_FORMAT,
  type Manifest,
  type Part,
} from '../src/manifest/manifest.ts';
import { type CommitOutcome, commitManifest, copyManifest } from '../src/manifest/manifest-store.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { isTerminal } from '../src/runs/run.ts';
import type { Rows } from '../src/snapshot/rows.ts';
import { garbageKey, manifestKey, nameOfKey, partKey } from '../src/store/keys.ts';
import { ABSENT } from '../src/store/object-store.ts';
import { type Collected, collect } from './collect.ts';
import type { CompactorContext } from './context.ts';
import { type Found, find, type Plan, plan } from './plan.ts';

export interface Compacted {
  org_id: string;
  /** `clean`: nothing to fold. `lost`: other compactors were quicker every time. */
  outcome: 'committed' | 'clean' | 'lost';
  version: number | null;
  entries: number;
  records: number;
  rows: number;
  quarantined: number;
  /** Entries that stay in the log because of an unconfirmed intent. */
  waiting: number;
  collected: Collected;
  /** Nothing is left to do for this org: no tail, no garbage. */
  settled: boolean;
}

/** Rounds of one call before it leaves the org to whoever keeps winning. */
const ROUNDS_MAX = 4;

/**
 * Folds one org's log and collects what is due. Any number of compactors may race: only the compare-and-swap of
 * the manifest commits, and who loses it has written nothing but orphans.
 */
export async function compactOrg(
  context: CompactorContext,
  orgId: string,
  signal?: AbortSignal,
): Promise<Compacted> {
  let found: Found;
  for (let round = 1; ; round++) {
    found = await find(context, orgId, signal);
    const work = await plan(context, found, signal);
    const { manifest } = found.current;
    if (work !== null && isNothing(work, manifest)) {
      return finish(
        context,
        found,
        work,
        { outcome: 'clean', version: manifest?.version ?? null, rows: manifest?.rows ?? 0 },
        signal,
      );
    }
    if (work !== null) {
      const next = await prepare(context, found, work);
      const commit = await commitManifest(context.store, next, found.current.generation);
      if (commit.outcome === 'committed') {
        return finish(
          context,
          found,
          work,
          { outcome: 'committed', version: next.version, rows: next.rows },
          signal,
        );
      }
      throwIfUnknown(commit, orgId);
    }
    if (round === ROUNDS_MAX) {
      const empty = { consumed: [], records: 0, quarantined: [], oldestKept: null };
      return finish(
        context,
        found,
        empty,
        { outcome: 'lost', version: manifest?.version ?? null, rows: manifest?.rows ?? 0 },
        signal,
      );
    }
  }
}

function isNothing(work: Plan, manifest: Manifest | null): boolean {
  return work.consumed.length === 0 && work.quarantined.length === 0 && sameIntents(work, manifest);
}

function sameIntents({ intents }: Plan, manifest: Manifest | null): boolean {
  const name = ({ run_id, revision }: { run_id: string; revision: number }) => `${run_id} ${revision}`;
  const known = new Set(manifest?.intents.map(name));
  return intents.length === known.size && intents.every((intent) => known.has(name(intent)));
}

async function finish(
  context: CompactorContext,
  found: Found,
  work: Pick<Plan, 'consumed' | 'records' | 'quarantined' | 'oldestKept'>,
  done: Pick<Compacted, 'outcome' | 'version' | 'rows'>,
  signal: AbortSignal | undefined,
): Promise<Compacted> {
  const collected = await collect(context, found, signal);
  const waiting = found.unfolded.length - work.consumed.length - work.quarantined.length;
  return {
    org_id: found.orgId,
    ...done,
    entries: work.consumed.length,
    records: work.records,
    quarantined: work.quarantined.length,
    waiting,
    collected,
    settled: done.outcome === 'clean' && waiting === 0 && collected.listsWaiting === 0,
  };
}

/** Writes everything that the next version names, and gives that version. Nothing of it counts before the commit. */
async function prepare(context: CompactorContext, found: Found, work: Plan): Promise<Manifest> {
  const { orgId, listedAt, current } = found;
  const { manifest } = current;
  if (manifest !== null) checkWritable(manifestKey(orgId), manifest);
  const folded = fold(work.base, work.overlay);
  const stateHash = checkedStateHash(orgId, manifest, folded);
  const version = (manifest?.version ?? 0) + 1;
  const writeId = uuidv7(listedAt, context.random);
  const head = manifest?.parts.find((part) => part.level === 0);
  const newHead =
    folded.changed || head === undefined ? await writeHead(context, found, folded.rows, stateHash) : head;
  const lists = garbageOf(context, found, work, {
    version,
    writeId,
    oldHead: newHead === head ? undefined : head,
  });
  await Promise.all([
    ...lists.map(({ name, list }) =>
      putNew(context, garbageKey(orgId, name), encodeGarbage(list), 'application/json'),
    ),
    manifest === null ? undefined : copyManifest(context.store, manifest),
  ]);
  const totals = manifest?.totals ?? { entries: 0, records: 0, ties: 0, rows_written: 0 };
  return {
    ...manifest,
    format: MANIFEST_FORMAT,
    org_id: orgId,
    version,
    write_id: writeId,
    reader_features: manifest?.reader_features ?? [],
    writer_features: manifest?.writer_features ?? [],
    created_at: listedAt,
    covers_until: Math.max(
      0,
      Math.min(listedAt - context.limits.entryLagMaxMs, work.oldestKept ?? Number.POSITIVE_INFINITY),
    ),
    parts: [newHead, ...(manifest?.parts.filter((part) => part.level > 0) ?? [])],
    rows: folded.rows.length,
    active: countActive(folded.rows),
    state_hash: stateHash.hex(),
    fold: {
      entries: work.consumed.length,
      records: work.records,
      ties: work.overlay.ties,
      added_hash: folded.added.hex(),
      removed_hash: folded.removed.hex(),
    },
    totals: {
      entries: totals.entries + work.consumed.length,
      records: totals.records + work.records,
      ties: totals.ties + work.overlay.ties,
      rows_written: totals.rows_written + (newHead === head ? 0 : folded.rows.length),
    },
    intents: work.intents,
    tombstones: tombstonesOf(context, manifest, folded, listedAt),
    quarantine: [...(manifest?.quarantine ?? []), ...work.quarantined],
    garbage: [...stillWaiting(found), ...lists.map(({ ref }) => ref)],
  };
}

/** Law 5: the new state is the old one plus what was folded minus what was dropped, worked out both ways. */
function checkedStateHash(orgId: string, manifest: Manifest | null, folded: Folded): StateHash {
  const before = manifest === null ? StateHash.empty() : StateHash.parse(manifest.state_hash);
  const expected = before.plus(folded.added).minus(folded.removed);
  const actual = stateHashOf(folded.rows);
  if (actual.hex() === expected.hex()) return actual;
  throw new CorruptError(manifestKey(orgId), `its state hash does not fit its rows; nothing was committed`);
}

async function writeHead(
  context: CompactorContext,
  { orgId, listedAt }: Found,
  rows: Rows,
  stateHash: StateHash,
): Promise<Part> {
  const bytes = await context.codec.encode(rows, { rowGroupRows: context.limits.rowGroupRows });
  const name = uuidv7(listedAt, context.random);
  const inline = bytes.length <= context.limits.inlineHeadBytesMax;
  const generation = inline
    ? null
    : await putNew(context, partKey(orgId, name), bytes, 'application/vnd.apache.parquet');
  return {
    name,
    level: 0,
    rows: rows.length,
    size_bytes: bytes.length,
    crc32c: crc32c(bytes),
    generation,
    state_hash: stateHash.hex(),
    ...createdRange(rows),
    inline: inline ? Buffer.from(bytes).toString('base64') : null,
  };
}

function createdRange(rows: Rows): Pick<Part, 'created_at_min' | 'created_at_max'> {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < rows.length; i++) {
    const at = rows.time('created_at', i)!;
    if (at < min) min = at;
    if (at > max) max = at;
  }
  return rows.length === 0
    ? { created_at_min: null, created_at_max: null }
    : { created_at_min: min, created_at_max: max };
}

interface NewGarbage {
  name: string;
  list: GarbageList;
  ref: GarbageRef;
}

function garbageOf(
  { random }: CompactorContext,
  { orgId, listedAt }: Found,
  work: Plan,
  { version, writeId, oldHead }: { version: number; writeId: string; oldHead: Part | undefined },
): NewGarbage[] {
  const make = (kind: GarbageList['kind'], objects: GarbageList['objects']): NewGarbage[] => {
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
  };
  const { generation, name } = oldHead ?? { generation: null, name: '' };
  return [
    ...make(
      'entries',
      work.consumed.map(({ key, generation }) => ({ key, generation })),
    ),
    ...make('parts', generation === null ? [] : [{ key: partKey(orgId, name), generation }]),
  ];
}

/** References to lists that nobody has finished collecting, with the commit time that is now known. */
function stillWaiting({ current, garbage }: Found): GarbageRef[] {
  const waiting = new Map(garbage.map(({ meta, committedAt }) => [nameOfKey(meta.key), committedAt]));
  return (current.manifest?.garbage ?? []).flatMap((ref) => {
    const committed_at = waiting.get(ref.name);
    return committed_at === undefined ? [] : [{ ...ref, committed_at }];
  });
}

function tombstonesOf(
  { limits }: CompactorContext,
  manifest: Manifest | null,
  { deletes }: Folded,
  now: number,
): Manifest['tombstones'] {
  const tombstones = new Map((manifest?.tombstones ?? []).map((tombstone) => [tombstone.run_id, tombstone]));
  for (const { run_id, revision, deleted_at } of deletes)
    tombstones.set(run_id, { run_id, revision, deleted_at });
  return [...tombstones.values()].filter(({ deleted_at }) => now - deleted_at <= limits.tombstoneTtlMs);
}

function countActive(rows: Rows): number {
  let active = 0;
  for (let i = 0; i < rows.length; i++) if (!isTerminal(rows.status(i))) active++;
  return active;
}

/** Creates an object under a unique name and gives its generation. */
async function putNew(
  { store }: CompactorContext,
  key: string,
  body: Uint8Array,
  contentType: string,
): Promise<string> {
  const put = await store.put(key, body, { ifGeneration: ABSENT, contentType });
  if (put.outcome === 'written') return put.meta.generation;
  throw new OutcomeUnknownError(`The store did not confirm ${key}.`, {
    cause: put.outcome === 'unknown' ? put.cause : undefined,
  });
}

function throwIfUnknown(commit: CommitOutcome, orgId: string): void {
  if (commit.outcome !== 'unknown') return;
  throw new OutcomeUnknownError(`The store did not confirm the manifest of org ${orgId}.`, {
    cause: commit.cause,
    hint: 'Run the compactor again. Whatever was written for this attempt is left alone.',
  });
}
