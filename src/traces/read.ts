import { mapParallel } from '../core/concurrency.ts';
import { CorruptError, RunfoldError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { isTerminal, type Run, type Trace, type TraceArchive } from '../runs/run.ts';
import { traceOf, traceOpen } from '../runs/traces.ts';
import { ArchiveReader } from './archive-read.ts';
import { listChunks } from './chunk-list.ts';
import { readChunk } from './chunk-read.ts';
import { type Chunk, type Segment, segmentsOf } from './chunks.ts';
import type { TraceContext } from './context.ts';
import { SharedTails } from './follow.ts';
import { behind, type TraceSlice, type TraceState } from './slice.ts';

/** Bytes of text that one step of a reader holds. */
const SLICE_BYTES_MAX = 4 * 1024 * 1024;

export interface TraceQuery {
  /** Default: the last that left a log. */
  attempt?: number | undefined;
  /** Bytes [from, to) of the log. */
  from?: number | undefined;
  to?: number | undefined;
  /** Look through a live log as far as it goes: `bytes` and `gap` then tell of all behind `from`. 1 LIST per 1000 chunks. */
  ahead?: boolean | undefined;
}

export interface FollowQuery extends Omit<TraceQuery, 'to' | 'ahead'> {
  /** Pause while nothing comes. */
  pollMs?: number | undefined;
  /** Bytes of one slice. */
  sliceBytes?: number | undefined;
}

/**
 * Reads logs, live or archived, alike: an offset means the same byte before and after. It stops at a gap of a live log;
 * in archives gaps are filled with text that says so.
 */
export class TraceReader {
  readonly #context: TraceContext;
  readonly #tails = new SharedTails();

  constructor(context: TraceContext) {
    this.#context = context;
  }

  /**
   * At most `SLICE_BYTES_MAX` bytes from `from` on. Live: 1 GET (run), 1 LIST per 1000 chunks in the range, 1 GET per
   * chunk; and 1 GET (run) where it came short. Archived: 1 GET, and those of ArchiveReader. Throws RUN_NOT_FOUND,
   * TRACE_NOT_FOUND, TRACE_EXPIRED and CorruptError.
   */
  read(orgId: string, runId: string, query: TraceQuery = {}, signal?: AbortSignal): Promise<TraceSlice> {
    return this.#slice(orgId, runId, query, new Readers(this.#context, orgId), signal);
  }

  /**
   * All of [from, to), slice after slice. A live log ends where it ends now; the first slice tells of its first gap already,
   * unless `to` says where to stop. As `read`, with one seek table.
   */
  async *stream(
    orgId: string,
    runId: string,
    query: TraceQuery = {},
    signal?: AbortSignal,
  ): AsyncGenerator<TraceSlice, void, void> {
    const { to = Number.POSITIVE_INFINITY } = query;
    let { from = 0, attempt } = query;
    const readers = new Readers(this.#context, orgId);
    for (let ahead = to === Number.POSITIVE_INFINITY; ; ahead = false) {
      const slice = await this.#slice(orgId, runId, { attempt, from, to, ahead }, readers, signal);
      yield slice;
      attempt = slice.state.attempt;
      from += slice.body.length;
      if (slice.body.length === 0 || from >= Math.min(to, slice.state.bytes)) return;
    }
  }

  /**
   * What there is, and then what comes, until the log has ended. A slice without bytes says that nothing came for
   * `pollMs`; the last one says `ended`. Before a gap it waits: for what is missing, or for the archive that fills it.
   * Archiving meanwhile makes no difference. What there is each follower reads for itself, as `read`; waiting for more
   * costs one `read` per pause for all followers of the log in this process. Slices are shared: leave their bytes alone.
   */
  async *follow(
    orgId: string,
    runId: string,
    query: FollowQuery = {},
    signal?: AbortSignal,
  ): AsyncGenerator<TraceSlice, void, void> {
    let { from = 0, attempt } = query;
    const { pollMs = 1_000, sliceBytes = SLICE_BYTES_MAX } = query;
    const reading = () => {
      const readers = new Readers(this.#context, orgId);
      return (at: number, stop: AbortSignal | undefined) =>
        this.#slice(orgId, runId, { attempt, from: at, to: at + sliceBytes }, readers, stop);
    };
    const read = reading();
    let place: ReturnType<SharedTails['join']> | null = null;
    try {
      for (;;) {
        const shared = (await place?.next()) ?? null;
        if (shared === null) place?.leave();
        if (shared === null) place = null;
        const slice = shared === null ? await read(from, signal) : behind(shared, from);
        // What others had to read first.
        if (slice === null) continue;
        attempt = slice.state.attempt;
        from += slice.body.length;
        yield slice;
        if (slice.state.ended && (slice.body.length === 0 || from >= slice.state.bytes)) return;
        if (place !== null || slice.body.length > 0) continue;
        const name = JSON.stringify([orgId, runId, attempt, pollMs, sliceBytes]);
        const { clock } = this.#context;
        place = this.#tails.join(name, slice, { clock, pollMs, read: reading() }, signal);
      }
    } finally {
      place?.leave();
    }
  }

  async #slice(
    orgId: string,
    runId: string,
    { attempt, from = 0, to = Number.POSITIVE_INFINITY, ahead = false }: TraceQuery,
    readers: Readers,
    signal: AbortSignal | undefined,
  ): Promise<TraceSlice> {
    const end = Math.min(to, from + SLICE_BYTES_MAX);
    let found = await this.#find(orgId, runId, attempt, signal);
    for (let round = 0; round < this.#context.limits.refreshAttemptsMax; round++) {
      const { archive, status } = found.trace;
      if (archive !== null) {
        const body = await readers.of(archive).read(from, end, signal);
        const about = { run_id: runId, attempt: found.attempt, status, bytes: archive.bytes };
        return { offset: from, body, state: { ...about, ended: true, gap: null, gaps: archive.gaps } };
      }
      const slice = await this.#live(orgId, found, { from, end, ahead }, signal);
      if (slice !== null && from + slice.body.length >= end) return slice;
      // It came short: because there is no more yet, or because it was archived meanwhile and the chunks went.
      const again = await this.#find(orgId, runId, found.attempt, signal);
      if (slice !== null && again.trace.status === 'live') return slice;
      found = again;
    }
    throw new RunfoldError('SNAPSHOT_EXPIRED', `The log of run ${runId} changed while it was read.`, {
      hint: 'Read it again.',
    });
  }

  async #find(
    orgId: string,
    runId: string,
    attempt: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Found> {
    checkId('org id', orgId);
    checkId('run id', runId);
    const run = (await this.#context.runs.read(orgId, runId, signal))?.run ?? null;
    if (run === null || run.deleted_at !== null) {
      throw new RunfoldError('RUN_NOT_FOUND', 'There is no such run in this org.', {
        hint: 'Check the org and the run id.',
      });
    }
    const attempts = Object.keys(run.traces ?? {}).map(Number);
    const wanted = attempt ?? Math.max(...attempts, 0);
    const trace = traceOf(run, wanted);
    if (trace === null) {
      const which = attempt === undefined ? `Run ${runId}` : `Attempt ${attempt} of run ${runId}`;
      throw new RunfoldError('TRACE_NOT_FOUND', `${which} has left no log.`, {
        hint:
          attempts.length === 0 ? 'Wait for its first output.' : `Attempts with one: ${attempts.join(', ')}.`,
      });
    }
    return { run, attempt: wanted, trace };
  }

  /** Null: a chunk went while it was read. */
  async #live(
    orgId: string,
    { run, attempt }: Found,
    { from, end, ahead }: { from: number; end: number; ahead: boolean },
    signal: AbortSignal | undefined,
  ): Promise<TraceSlice | null> {
    const { store, recorder, limits } = this.#context;
    const { traceChunkBytesMax: chunkBytesMax } = limits;
    const range = { from, to: ahead ? undefined : end + 1, chunkBytesMax };
    const chunks = await listChunks(store, orgId, run.run_id, attempt, range, signal);
    const segments = segmentsOf(chunks, from);
    const gapAt = segments.findIndex(({ chunk }) => chunk === null);
    const readable = segments.slice(0, gapAt < 0 ? undefined : gapAt);
    const wanted = readable.filter(({ offset }) => offset < end);
    const bodies = await mapParallel(
      wanted,
      8,
      (segment, stop) =>
        this.#piece(segment as Believed, stop).catch((error: unknown) => {
          if (error instanceof CorruptError) return error;
          throw error;
        }),
      signal,
    );
    if (bodies.includes(null)) return null;
    // What is healthy before a broken chunk is served; who goes on there is told.
    const brokenAt = bodies.findIndex((piece) => piece instanceof CorruptError);
    if (brokenAt === 0) throw bodies[0];
    const whole = (brokenAt < 0 ? bodies : bodies.slice(0, brokenAt)) as Uint8Array[];
    const body = Buffer.concat(whole).subarray(0, Math.max(0, end - from));
    const last = readable.at(-1);
    let known: readonly Chunk[] = chunks;
    let isBehindGap = false;
    let bytes = last === undefined ? from : last.offset + last.bytes;
    const gap = gapAt < 0 || (!ahead && from + body.length < bytes) ? null : segments[gapAt]!;
    if (from > 0 && !chunks.some((chunk) => chunk.offset + chunk.bytes >= from)) {
      // Nothing reaches so far, or comes behind it: the log may have ended before.
      known = await listChunks(store, orgId, run.run_id, attempt, { chunkBytesMax }, signal);
      const all = segmentsOf(known);
      const first = all.findIndex(({ chunk }) => chunk === null);
      const end = (first < 0 ? all : all.slice(0, first)).at(-1);
      bytes = end === undefined ? 0 : end.offset + end.bytes;
      isBehindGap = first >= 0;
    }
    const declared =
      gap === null &&
      !isBehindGap &&
      known.some((chunk) => chunk.isEnd && chunk.offset + chunk.bytes === bytes);
    // A later attempt ends one as the end of the run does.
    const isOver = isTerminal(run.status) || attempt < run.attempt;
    const closed = isOver && traceOpen(run, attempt, recorder.now()).outcome === 'refused';
    const state: TraceState = {
      run_id: run.run_id,
      attempt,
      status: 'live',
      bytes,
      ended: declared || (closed && gap === null && !isBehindGap),
      gap: gap && { offset: gap.offset, bytes: gap.bytes },
      gaps: [],
    };
    return { offset: from, body, state };
  }

  async #piece({ chunk, offset, bytes }: Believed, signal: AbortSignal): Promise<Uint8Array | null> {
    const body = await readChunk(this.#context, chunk, signal);
    if (body === null) return null;
    const at = offset - chunk.offset;
    return body.subarray(at, at + bytes);
  }
}

/** The reader of the archive that was asked for last: it knows the seek table. */
class Readers {
  readonly #context: TraceContext;
  readonly #orgId: string;
  #last: { uri: string | null; reader: ArchiveReader } | null = null;

  constructor(context: TraceContext, orgId: string) {
    this.#context = context;
    this.#orgId = orgId;
  }

  of(archive: TraceArchive): ArchiveReader {
    if (this.#last?.uri !== archive.uri || this.#last === null) {
      this.#last = { uri: archive.uri, reader: new ArchiveReader(this.#context, this.#orgId, archive) };
    }
    return this.#last.reader;
  }
}

interface Found {
  run: Run;
  attempt: number;
  trace: Trace;
}

type Believed = Segment & { chunk: Chunk };
