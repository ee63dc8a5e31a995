import { stateHashOf } from '../src/catalog/fold.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { CorruptError, OutcomeUnknownError } from '../src/core/errors.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import type { Part, Quarantined } from '../src/manifest/manifest.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { PROJECTION_VERSION } from '../src/runs/projection.ts';
import { partStatistics } from '../src/snapshot/codec.ts';
import { decodeGroups, encodeGroups } from '../src/snapshot/history-index.ts';
import { type MergedHistory, mergeHistory } from '../src/snapshot/history-merge.ts';
import { sealHistory } from '../src/snapshot/history-seal.ts';
import type { HistoryRange } from '../src/snapshot/history-select.ts';
import type { EncodedHistory } from '../src/snapshot/history-write.ts';
import { readGroups } from '../src/snapshot/parts.ts';
import { type Rows, rowsAt } from '../src/snapshot/rows.ts';
import { partKey } from '../src/store/keys.ts';
import { ABSENT } from '../src/store/object-store.ts';
import type { CompactorContext } from './context.ts';
import { isPastPart, isPastRow } from './retention.ts';
import { sealing } from './seal.ts';
import { type StandingInput, standingHead } from './standing.ts';

/** The parts of the next version, all written, and what changed on the way there. */
export interface NextParts {
  parts: Part[];
  /** Parts of the current version that the next one no longer names. */
  dropped: Part[];
  /** Runs dropped by retention, deletes and merges, over (run id, revision). */
  removed: StateHash;
  /** Rows of history that are in the head as well, because they answer now, over (run id, revision). */
  added: StateHash;
  rowsWritten: number;
  /** History parts that a merge, or a look for lost answers, met corrupt: they stay as they are, until `repair`. */
  quarantined: Quarantined[];
}

export interface PartsInput extends StandingInput {
  /** Rewrite the head, and one history part, where an older runfold wrote them. */
  upgrade?: boolean | undefined;
}

/** Whether a part lacks columns that are written today, which read as null. */
export function isOldPart({ projection = 1 }: Part): boolean {
  return projection < PROJECTION_VERSION;
}

/**
 * Head and history of the next version: retire, seal, merge, write. Reads history only where parts merge, a tombstone
 * has to be worked in, or an answer was lost (see standingHead). Requests: one PUT per new part; of each merged part, one ranged GET per row group.
 *
 * A corrupt history part stops nobody: it is put into quarantine and left out of the merge. It is still a part of the
 * org, so its rows still count in the state hash, and whoever asks for them is told that it is corrupt.
 */
export async function nextParts(context: CompactorContext, input: PartsInput): Promise<NextParts> {
  const next: NextParts = {
    parts: [],
    dropped: [],
    removed: StateHash.empty(),
    added: StateHash.empty(),
    rowsWritten: 0,
    quarantined: [],
  };
  const { head, sealed } = await splitHead(context, input, next);
  next.parts.push(head);
  for (const part of input.current) {
    if (part.level === 0) continue;
    if (!isPastPart(part, input.horizon)) next.parts.push(part);
    else drop(next, part, StateHash.parse(part.state_hash));
  }
  if (sealed !== null) next.parts.push(sealed);
  await mergeLevels(context, input, next);
  await workInTombstones(context, input, next);
  if (input.upgrade) await upgradeOne(context, input, next);
  // A part that was written for this version and merged away again was never part of any version.
  const known = new Set(input.current.map(({ name }) => name));
  next.dropped = next.dropped.filter(({ name }) => known.has(name));
  return next;
}

function drop(next: NextParts, part: Part, removed: StateHash = StateHash.empty()): void {
  next.parts = next.parts.filter(({ name }) => name !== part.name);
  next.dropped.push(part);
  next.removed = next.removed.plus(removed);
}

/** The new head, and the part of what it no longer holds. */
async function splitHead(
  context: CompactorContext,
  input: PartsInput,
  next: NextParts,
): Promise<{ head: Part; sealed: Part | null }> {
  const whole = await standingHead(context, input);
  const { rows: standing } = whole;
  next.added = whole.added;
  next.removed = next.removed.plus(whole.removed);
  next.quarantined.push(...whole.quarantined);
  const { keep, seal } = sealing(standing, input.listedAt, context.limits);
  const old = input.current.find(({ level }) => level === 0);
  const isStale = whole.changed || (input.upgrade && old !== undefined && isOldPart(old));
  if (!isStale && seal.length === 0 && old !== undefined) return { head: old, sealed: null };
  const hot = seal.length === 0 ? standing : rowsAt(standing, keep);
  const [head, sealed] = await Promise.all([
    writeHead(context, input, hot),
    seal.length === 0
      ? null
      : sealHistory(rowsAt(standing, seal), { groupRows: context.limits.historyGroupRows }).then((encoded) =>
          writeHistory(context, input, 1, encoded),
        ),
  ]);
  next.rowsWritten += hot.length + (sealed?.runs ?? 0);
  if (old !== undefined) next.dropped.push(old);
  return { head, sealed };
}

/** `mergeFanIn` parts of one level become one of the next, until no level has as many: a row is written once per level. */
async function mergeLevels(context: CompactorContext, input: PartsInput, next: NextParts): Promise<void> {
  const { mergeFanIn, historyRowsMax } = context.limits;
  for (let level = 1; ; level++) {
    for (let merged = false; !merged; ) {
      const parts = next.parts.filter((part) => part.level === level && !isSetAside(input, next, part));
      const rows = parts.reduce((sum, part) => sum + part.rows, 0);
      if (parts.length < mergeFanIn || rows > historyRowsMax) break;
      merged = await tryRewrite(context, input, next, parts, level + 1);
    }
    if (!next.parts.some((part) => part.level > level)) return;
  }
}

function isSetAside({ orgId, quarantine }: PartsInput, { quarantined }: NextParts, { name }: Part): boolean {
  const key = partKey(orgId, name);
  return quarantine.has(key) || quarantined.some((one) => one.key === key);
}

/** One part a fold, so that a delete never makes a fold as dear as the whole history. */
async function workInTombstones(
  context: CompactorContext,
  input: PartsInput,
  next: NextParts,
): Promise<void> {
  const due = input.tombstones.filter(
    ({ deleted_at }) => input.listedAt - deleted_at > context.limits.tombstoneTtlMs,
  );
  for (let worked = false; !worked; ) {
    const stale = next.parts.find(
      (part) =>
        part.level > 0 &&
        !isSetAside(input, next, part) &&
        due.some(({ folded_at }) => part.written_at < folded_at),
    );
    if (stale === undefined) return;
    worked = await tryRewrite(context, input, next, [stale], stale.level);
  }
}

/**
 * The lowest level first, one part a fold: a fold stays as cheap as ever, and the next one goes on. Somebody asked for it,
 * so a corrupt part is an error, and not a matter for later.
 */
async function upgradeOne(context: CompactorContext, input: PartsInput, next: NextParts): Promise<void> {
  const [old] = next.parts
    .filter((part) => part.level > 0 && isOldPart(part))
    .sort((a, b) => a.level - b.level);
  if (old !== undefined) await rewrite(context, input, next, [old], old.level);
}

/** As `rewrite`; false where one of them is corrupt: it is in quarantine then, and nothing was written. */
async function tryRewrite(
  context: CompactorContext,
  input: PartsInput,
  next: NextParts,
  parts: readonly Part[],
  level: number,
): Promise<boolean> {
  try {
    await rewrite(context, input, next, parts, level);
    return true;
  } catch (error) {
    const isOneOfThem =
      error instanceof CorruptError && parts.some(({ name }) => partKey(input.orgId, name) === error.key);
    if (!isOneOfThem) throw error;
    next.quarantined.push({ key: error.key, reason: error.message, since: input.listedAt });
    return false;
  }
}

async function rewrite(
  context: CompactorContext,
  input: PartsInput,
  next: NextParts,
  parts: readonly Part[],
  level: number,
): Promise<void> {
  const merged = await mergeParts(context, input, parts);
  for (const part of parts) drop(next, part);
  next.removed = next.removed.plus(merged.dropped);
  if (merged.runs === 0) return;
  next.parts.push(await writeHistory(context, input, level, merged));
  next.rowsWritten += merged.runs;
}

/** Throws CorruptError with the key of the part that is. */
async function mergeParts(
  context: CompactorContext,
  { orgId, horizon, tombstones }: PartsInput,
  parts: readonly Part[],
): Promise<MergedHistory> {
  const deleted = new Map(tombstones.map(({ run_id, revision }) => [run_id, revision]));
  const sources = parts.map((part) => {
    const key = partKey(orgId, part.name);
    return {
      key,
      groups: decodeGroups(key, part.groups ?? ''),
      read: (range: HistoryRange) => readGroups(context.store, orgId, part, range),
    };
  });
  return mergeHistory(orgId, sources, {
    groupRows: context.limits.historyGroupRows,
    drop: (rows, i) =>
      isPastRow(rows, i, horizon) ||
      (deleted.size > 0 && (deleted.get(rows.runId(i)) ?? 0) >= rows.revision(i)),
  });
}

async function writeHead(
  context: CompactorContext,
  { orgId, listedAt }: PartsInput,
  rows: Rows,
): Promise<Part> {
  const bytes = await context.codec.encode(rows, { rowGroupRows: context.limits.rowGroupRows });
  const name = uuidv7(listedAt, context.random);
  const inline = bytes.length <= context.limits.inlineHeadBytesMax;
  const { created_at_min, created_at_max, updated_at_max, finished_at_max, unfinished } =
    partStatistics(rows);
  return {
    name,
    level: 0,
    runs: rows.length,
    rows: rows.length,
    size_bytes: bytes.length,
    crc32c: crc32c(bytes),
    generation: inline ? null : await putPart(context, orgId, name, bytes),
    state_hash: stateHashOf(rows).hex(),
    created_at_min,
    created_at_max,
    updated_at_max,
    finished_at_max: unfinished > 0 ? null : finished_at_max,
    written_at: listedAt,
    groups: null,
    inline: inline ? Buffer.from(bytes).toString('base64') : null,
    projection: PROJECTION_VERSION,
  };
}

async function writeHistory(
  context: CompactorContext,
  { orgId, listedAt }: PartsInput,
  level: number,
  encoded: EncodedHistory,
): Promise<Part> {
  const name = uuidv7(listedAt, context.random);
  const {
    bytes,
    groups,
    rows,
    runs,
    stateHash,
    created_at_min,
    created_at_max,
    updated_at_max,
    finished_at_max,
  } = encoded;
  return {
    name,
    level,
    runs,
    rows,
    size_bytes: bytes.length,
    crc32c: crc32c(bytes),
    generation: await putPart(context, orgId, name, bytes),
    state_hash: stateHash.hex(),
    created_at_min,
    created_at_max,
    updated_at_max,
    finished_at_max,
    written_at: listedAt,
    groups: encodeGroups(groups),
    inline: null,
    projection: PROJECTION_VERSION,
  };
}

async function putPart(
  { store }: CompactorContext,
  orgId: string,
  name: string,
  bytes: Uint8Array,
): Promise<string> {
  const key = partKey(orgId, name);
  const put = await store.put(key, bytes, {
    ifGeneration: ABSENT,
    contentType: 'application/vnd.apache.parquet',
  });
  if (put.outcome === 'written') return put.meta.generation;
  throw new OutcomeUnknownError(`The store did not confirm ${key}.`, {
    cause: put.outcome === 'unknown' ? put.cause : undefined,
  });
}
