import { throwIfAborted } from '../src/core/clock.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { CorruptError, LifecycleError, RunfoldError } from '../src/core/errors.ts';
import type { RunEvent } from '../src/runs/events.ts';
import type { Run, TraceArchive } from '../src/runs/run.ts';
import { archiveKey } from '../src/store/keys.ts';
import { ABSENT } from '../src/store/object-store.ts';
import { listChunks } from '../src/traces/chunk-list.ts';
import type { Chunk } from '../src/traces/chunks.ts';
import type { TraceContext } from '../src/traces/context.ts';
import { type Assembled, assemble } from './archive-assemble.ts';

export interface TraceJob {
  run: Run;
  attempt: number;
  /** Of this try alone: it is in the work list before anything is written. */
  name: string;
  /** What survives, with gaps, instead of all or nothing. */
  lenient: boolean;
  /** Monotonic ms after which nothing may be put or committed any more. */
  putBefore: number;
  /** Called before the archive is put. */
  onPut: () => void;
  /** Called with the number of its chunks before they are read. */
  onListed?: ((chunks: number) => void) | undefined;
}

export interface TraceDone {
  /** `gone`: another archive was first, or the run was deleted meanwhile. */
  outcome: TraceArchive['status'] | 'gone';
  bytes: number;
  stored_bytes: number;
  gaps: number;
  conflicts: number;
  chunks_deleted: number;
  /** Chunks that the archive contains and whose deletion was not confirmed. */
  chunks_left: number;
}

/**
 * One try at one attempt's trace: assemble, put, read back what the store holds, commit, and only then delete.
 * Whatever it throws, the chunks are all there. 2 GET, 1 LIST per 1000 chunks, 1 GET per chunk, 3 PUT, 2 HEAD, 1
 * DELETE per chunk.
 */
export async function archiveTrace(
  context: TraceContext,
  job: TraceJob,
  signal: AbortSignal | undefined,
): Promise<TraceDone> {
  const { store, recorder, limits } = context;
  const { run, attempt, lenient } = job;
  const { org_id, run_id } = run;
  const chunks = await listChunks(
    store,
    org_id,
    run_id,
    attempt,
    { chunkBytesMax: limits.traceChunkBytesMax },
    signal,
  );
  job.onListed?.(chunks.length);
  // No chunk at all is what a lost one looks like, too: only the last try believes it.
  if (chunks.length === 0 && !lenient) {
    throw new RunfoldError('CORRUPT', 'There is no chunk of it, though the run says that there would be.');
  }
  const assembled = await assemble(context, chunks, { lenient, signal });
  const oldest = recorder.now() - limits.traceChunkLifetimeMs;
  // As long as chunks live, a store may yet find its bytes again.
  if (!assembled.isReadable && chunks.some(({ createdAt }) => createdAt > oldest)) {
    throw new RunfoldError('CORRUPT', `None of its ${chunks.length} chunks can be read.`);
  }
  const archive = await putArchive(context, job, assembled, signal);
  try {
    await commitArchive(context, job, { type: 'trace_archived', attempt, archive }, signal);
  } catch (error) {
    if (error instanceof LifecycleError) return { ...doneOf('gone', assembled, archive), chunks_left: 0 };
    throw error;
  }
  const deleted = await deleteChunks(context, assembled.used, signal);
  return {
    ...doneOf(archive.status, assembled, archive),
    chunks_deleted: deleted,
    chunks_left: assembled.used.length - deleted,
  };
}

/**
 * The commit point: from here on the archive is the log, and the chunks are copies of it. Gives only once the store was
 * seen to hold the archive behind the commit, so that nobody deletes a chunk for one that is not there. Throws
 * LifecycleError where another was first, CorruptError where it is gone.
 */
export async function commitArchive(
  context: Pick<TraceContext, 'store' | 'recorder' | 'clock'>,
  job: Pick<TraceJob, 'run' | 'putBefore'>,
  event: Extract<RunEvent, { type: 'trace_archived' }>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { uri, stored_bytes, crc32c: sum } = event.archive;
  const { org_id, run_id } = job.run;
  // It saves work; what keeps bytes safe is that no archive is deleted that a run may come to name.
  throwIfLate(context, job);
  await context.recorder.apply(org_id, run_id, event, signal);
  if (uri === null) return;
  const meta = await context.store.head(uri, { signal });
  if (meta?.sizeBytes === stored_bytes && meta.crc32c === sum) return;
  throw new CorruptError(uri, 'it was not there behind its commit; the chunks of the log were kept', {
    hint: 'Find out who deletes objects of this store. The chunks still have every byte.',
  });
}

function doneOf(
  outcome: TraceDone['outcome'],
  { gaps, conflicts }: Assembled,
  archive: TraceArchive,
): TraceDone {
  const { bytes, stored_bytes } = archive;
  return { outcome, bytes, stored_bytes, gaps: gaps.length, conflicts, chunks_deleted: 0, chunks_left: 0 };
}

/** Puts the archive and asks the store what it holds now: an answer that was lost is settled by that as well. */
export async function putArchive(
  context: Pick<TraceContext, 'store' | 'recorder' | 'clock' | 'limits'>,
  job: Pick<TraceJob, 'run' | 'attempt' | 'name' | 'putBefore' | 'onPut'>,
  { body, bytes, lines, sha256, gaps, conflicts, isReadable }: Assembled,
  signal: AbortSignal | undefined,
): Promise<TraceArchive> {
  const { store, recorder, limits } = context;
  const { run, attempt, name, onPut } = job;
  const gapBytes = gaps.reduce((sum, gap) => sum + gap.bytes, 0);
  const archive: TraceArchive = {
    status: !isReadable ? 'lost' : gaps.length > 0 ? 'partial' : 'archived',
    uri: null,
    archived_at: recorder.now(),
    stored_bytes: 0,
    crc32c: null,
    sha256,
    bytes,
    lines,
    gap_count: gaps.length,
    gap_bytes: gapBytes,
    gaps: gaps.slice(0, limits.traceGapsMax),
    conflicts,
    frame_bytes: limits.traceFrameBytes,
  };
  // Of an archive of nothing but gaps nobody would learn more than the run says.
  if (!isReadable) return { ...archive, bytes: 0, lines: 0, sha256: null, frame_bytes: null };
  if (bytes === 0) return archive;
  const key = archiveKey(run.org_id, name);
  throwIfAborted(signal);
  throwIfLate(context, job);
  const sum = crc32c(body);
  onPut();
  // What it says of its run finds it where the work list that named it is lost.
  const metadata = { run: run.run_id, attempt: String(attempt) };
  await store.put(key, body, { ifGeneration: ABSENT, contentType: 'application/zstd', metadata, signal });
  const meta = await store.head(key, { signal });
  if (meta === null) throw new RunfoldError('OUTCOME_UNKNOWN', 'The store did not confirm the archive.');
  if (meta.sizeBytes !== body.length || meta.crc32c !== sum) throw new MismatchError(key);
  return { ...archive, uri: key, stored_bytes: body.length, crc32c: sum };
}

/** What is written later may be in no work list any more. Throws DEADLINE_EXCEEDED. */
export function throwIfLate(
  { clock }: Pick<TraceContext, 'clock'>,
  { putBefore }: Pick<TraceJob, 'putBefore'>,
): void {
  if (clock.monotonic() <= putBefore) return;
  throw new RunfoldError('DEADLINE_EXCEEDED', 'It took longer than its claim lasts.');
}

/** The store holds other bytes than were sent. */
export class MismatchError extends RunfoldError {
  constructor(key: string) {
    super('CORRUPT', `The store holds other bytes of ${key} than were sent.`, { details: { key } });
  }
}

/** How many are surely gone. */
export async function deleteChunks(
  { store, limits }: Pick<TraceContext, 'store' | 'limits'>,
  chunks: readonly Chunk[],
  signal: AbortSignal | undefined,
): Promise<number> {
  const answers = await mapParallel(
    chunks,
    limits.parallelMax,
    ({ key, generation }, stop) =>
      store
        .delete(key, { ifGeneration: generation, signal: stop })
        .catch(() => ({ outcome: 'unknown' }) as const),
    signal,
  );
  return answers.filter(({ outcome }) => outcome === 'deleted' || outcome === 'absent').length;
}
