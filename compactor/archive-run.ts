import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError, isRunfoldError, RunfoldError } from '../src/core/errors.ts';
import { isTerminal, type Run, type TraceArchive } from '../src/runs/run.ts';
import { traceEnd } from '../src/runs/traces.ts';
import { archiveKey } from '../src/store/keys.ts';
import { ArchiveReader } from '../src/traces/archive-read.ts';
import { listChunks } from '../src/traces/chunk-list.ts';
import { readChunk } from '../src/traces/chunk-read.ts';
import { type Chunk, chunkOrder } from '../src/traces/chunks.ts';
import type { TraceContext } from '../src/traces/context.ts';
import { removeTraces } from '../src/traces/remove.ts';
import type { WorkEntry } from '../src/traces/work.ts';
import { batchesOf } from './archive-assemble.ts';
import { isLastResort } from './archive-entries.ts';
import { removeOrphans } from './archive-orphans.ts';
import type { Archived } from './archive-report.ts';
import { archiveTrace, deleteChunks, MismatchError } from './archive-trace.ts';

/** A claimed run. */
export interface RunWork {
  orgId: string;
  run: Run | null;
  /** As it is with this claim. */
  entry: WorkEntry;
  /** A name for each attempt whose trace is live. */
  names: ReadonlyMap<number, string>;
  /** Monotonic ms after which nothing may be put any more. */
  putBefore: number;
  report: Archived;
  /** Told how many chunks a log has that is about to be read. */
  onListed: (chunks: number) => void;
}

/** What becomes of it, written down as it happens: an abort leaves what was done until then. */
export interface RunDone {
  /** Names that need no looking after any more. */
  forget: Set<string>;
  /** Something must wait until then, by the server's clock; null: all is done. */
  laterAt: number | null;
  problem: unknown;
}

/**
 * All that a run's logs need: what earlier tries left is removed, then each attempt that ended long enough ago is
 * archived. One that fails does not hold up the others.
 */
export async function archiveRun(
  context: TraceContext,
  work: RunWork,
  done: RunDone,
  signal: AbortSignal,
): Promise<void> {
  const { run, entry, names, report } = work;
  const uris = new Set(archivedOf(run).map(([, { archive }]) => archive.uri));
  const [committed, orphans] = partition(entry.names, (name) => uris.has(archiveKey(work.orgId, name)));
  const mine = new Set(names.values());
  const others = { orgId: work.orgId, run, names: orphans.filter((name) => !mine.has(name)) };
  report.orphans_deleted += await removeOrphans(context, others, done.forget, signal);
  if (run === null) return;
  if (run.deleted_at !== null) {
    report.chunks_deleted += await removeTraces(context, run, signal);
    for (const name of committed) done.forget.add(name);
    return;
  }
  // Only what was tried before can have left chunks beside an archive.
  if (entry.attempts > 1 || entry.names.length > names.size) {
    for (const [attempt, { archive }] of archivedOf(run)) {
      const left = await removeContained(context, run, attempt, archive, signal).catch((error) =>
        keep(done, error, signal),
      );
      report.chunks_deleted += left?.deleted ?? 0;
      if ((left?.unconfirmed ?? 0) > 0) done.problem ??= unconfirmed(left!.unconfirmed);
    }
  }
  // Until its chunks are gone the name keeps the entry, and the entry says that somebody has to look.
  if (done.problem === null) for (const name of committed) done.forget.add(name);
  for (const attempt of liveAttempts(run)) {
    const at = archivableAt(context, run, attempt, entry);
    if (at === null) continue;
    if (at > context.recorder.now()) done.laterAt = Math.min(done.laterAt ?? at, at);
    else
      await archiveAttempt(context, work, attempt, done, signal).catch((error) => keep(done, error, signal));
  }
  // What this try ruled out.
  const left = others.names.filter((name) => !done.forget.has(name));
  if (left.length === 0 || liveAttempts(run).length === 0) return;
  const stored = await context.runs.read(work.orgId, run.run_id, signal);
  const after = { ...others, run: stored?.run ?? null, names: left };
  report.orphans_deleted += await removeOrphans(context, after, done.forget, signal);
}

export function liveAttempts(run: Run | null): number[] {
  return Object.entries(run?.traces ?? {}).flatMap(([attempt, { status }]) =>
    status === 'live' ? [Number(attempt)] : [],
  );
}

/** When the attempt may be archived, ms; null: it has not ended. Without an entry an end that no clock here saw is unknown. */
export function archivableAt(
  { limits }: Pick<TraceContext, 'limits'>,
  run: Run,
  attempt: number,
  entry: WorkEntry | null,
): number | null {
  const end = traceEnd(run, attempt);
  if (end === null) return null;
  if (end !== 'unknown') return end + limits.traceSettleMs;
  return isTerminal(run.status) || attempt < run.attempt
    ? (entry?.since ?? Number.POSITIVE_INFINITY) + limits.traceSettleMs
    : null;
}

async function archiveAttempt(
  context: TraceContext,
  { run, entry, names, putBefore, report, onListed }: RunWork,
  attempt: number,
  done: RunDone,
  signal: AbortSignal,
): Promise<void> {
  const name = names.get(attempt)!;
  const lenient = isLastResort(
    { ...entry, attempts: entry.attempts - 1 },
    context.recorder.now(),
    context.limits,
  );
  const archived = await archiveTrace(
    context,
    // From the moment it is put, the name is looked after until the run has it or it is gone.
    { run: run!, attempt, name, lenient, putBefore, onPut: () => done.forget.delete(name), onListed },
    signal,
  );
  report.conflicts += archived.conflicts;
  report.chunks_deleted += archived.chunks_deleted;
  if (archived.outcome === 'gone') {
    // The winner may have died before its chunks were deleted: looked at once more.
    done.laterAt = context.recorder.now();
    return;
  }
  done.forget.add(name);
  report[archived.outcome]++;
  if (archived.outcome === 'lost') report.given_up.push(run!.run_id);
  report.bytes += archived.bytes;
  report.stored_bytes += archived.stored_bytes;
  if (archived.chunks_left > 0) throw unconfirmed(archived.chunks_left);
}

function unconfirmed(chunks: number): RunfoldError {
  return new RunfoldError('OUTCOME_UNKNOWN', `${chunks} archived chunks may not be deleted yet.`);
}

function archivedOf(run: Run | null) {
  return Object.entries(run?.traces ?? {}).flatMap(([attempt, { archive }]) =>
    archive === null ? [] : [[Number(attempt), { archive }] as const],
  );
}

function partition<T>(values: readonly T[], test: (value: T) => boolean): [T[], T[]] {
  return [values.filter(test), values.filter((value) => !test(value))];
}

/** The first problem counts; an abort ends everything. */
function keep(done: RunDone, error: unknown, signal: AbortSignal): null {
  if (signal.aborted) throw error;
  done.problem ??= error;
  return null;
}

export interface Contained {
  deleted: number;
  /** Contained, but the store did not confirm that they are gone. */
  unconfirmed: number;
  /** Chunks that say something else than the archive, or cannot be read; all, where the policy let the archive go. */
  others: Chunk[];
}

/**
 * Deletes the chunks of which the archive has every byte, batch by batch: whoever is cut short has done something. 1 LIST
 * per 1000 chunks, 1 GET and 1 DELETE each, and a range of the archive per batch.
 */
export async function removeContained(
  context: TraceContext,
  run: Run,
  attempt: number,
  archive: TraceArchive,
  signal: AbortSignal | undefined,
): Promise<Contained> {
  const { store, limits } = context;
  const range = { chunkBytesMax: limits.traceChunkBytesMax };
  const chunks = await listChunks(store, run.org_id, run.run_id, attempt, range, signal);
  const reader = new ArchiveReader(context, run.org_id, archive);
  const all: Contained = { deleted: 0, unconfirmed: 0, others: [] };
  for (const batch of batchesOf(chunks.toSorted(chunkOrder), limits)) {
    const from = batch[0]!.offset;
    const to = batch.reduce((end, { offset, bytes }) => Math.max(end, offset + bytes), from);
    const text = await reader.read(from, to, signal).catch(nullIfExpired);
    const read = (chunk: Chunk, stop: AbortSignal) =>
      text && readChunk(context, chunk, stop).catch(nullIfCorrupt);
    const bodies = await mapParallel(
      batch,
      limits.parallelMax,
      async (chunk, stop) => read(chunk, stop),
      signal,
    );
    const contained = batch.filter(({ offset, bytes }, i) => {
      const body = bodies[i]!;
      return (
        body !== null && Buffer.compare(body, text!.subarray(offset - from, offset - from + bytes)) === 0
      );
    });
    const deleted = await deleteChunks(context, contained, signal);
    all.deleted += deleted;
    all.unconfirmed += contained.length - deleted;
    all.others.push(...batch.filter((chunk) => !contained.includes(chunk)));
  }
  return all;
}

/** What is not there any more contains nothing. */
function nullIfExpired(error: unknown): null {
  if (isRunfoldError(error) && error.code === 'TRACE_EXPIRED') return null;
  throw error;
}

function nullIfCorrupt(error: unknown): null {
  if (error instanceof CorruptError) return null;
  throw error;
}

export function isMismatch(error: unknown): boolean {
  return error instanceof MismatchError;
}
