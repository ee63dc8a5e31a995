import { LRUCache } from 'lru-cache';
import { InputError, OutcomeUnknownError, RunfoldError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { lifecycleError } from '../runs/lifecycle.ts';
import { traceOf, traceOpen } from '../runs/traces.ts';
import { chunksPrefix } from '../store/keys.ts';
import { ABSENT } from '../store/object-store.ts';
import { chunkName } from './chunks.ts';
import type { TraceContext } from './context.ts';
import { StoredChunks } from './stored.ts';

export interface NewChunk {
  /** The attempt that wrote it. */
  attempt: number;
  /** Where in its log it belongs, bytes. */
  offset: number;
  body: Uint8Array;
  /** Nothing follows it: what is missing before it is then known to be. */
  end?: boolean | undefined;
}

export interface Appended {
  /** Where the chunk ends: the offset of the next. */
  next: number;
  /** It was there already. */
  repeated: boolean;
}

const TRACES_MAX = 10_000;

/**
 * Adds to the logs of attempts. Every call may be repeated, chunks may come in any order and overlap; they must agree
 * about every byte. Requests: 1 PUT; the first of an attempt in this process is preceded by the run's mark (1 GET, at
 * most 2 PUT), and 1 GET per trace and `traceCheckMs`; of a log that takes up much, see StoredChunks.
 */
export class TraceWriter {
  readonly #context: TraceContext;
  /** Monotonic ms at which a trace was last seen to be open. */
  readonly #openAt = new LRUCache<string, number>({ max: TRACES_MAX });
  /** Where a log ends, by the chunk that declared it here. */
  readonly #ends = new LRUCache<string, number>({ max: TRACES_MAX });
  readonly #stored: StoredChunks;

  constructor(context: TraceContext) {
    this.#context = context;
    this.#stored = new StoredChunks(context);
  }

  /**
   * Resolves when the chunk is durable and sure to be archived. Throws InputError and LIMIT_EXCEEDED for what can
   * never be taken; ATTEMPT_STALE, TRACE_CLOSED and TRACE_ARCHIVED where the attempt's time is over;
   * OutcomeUnknownError where a repeat must tell.
   */
  async append(orgId: string, runId: string, chunk: NewChunk, signal?: AbortSignal): Promise<Appended> {
    const { store, clock, limits } = this.#context;
    this.#check(orgId, runId, chunk);
    const { attempt, offset, body, end = false } = chunk;
    const openAt = await this.#open(orgId, runId, attempt, signal);
    const name = keyOf(orgId, runId, attempt);
    const key = `${chunksPrefix(orgId, runId, attempt)}${chunkName(offset, body, end)}`;
    if (offset + body.length > (this.#ends.get(name) ?? Number.POSITIVE_INFINITY)) {
      if ((await store.head(key, { signal })) !== null) return { next: offset + body.length, repeated: true };
      throw pastEndError(attempt, this.#ends.get(name)!);
    }
    const place = { orgId, runId, attempt, key, bytes: body.length };
    const takeBack = await this.#stored.admit(place, signal);
    const put = await store.put(key, body, {
      ifGeneration: ABSENT,
      contentType: 'application/octet-stream',
      signal,
    });
    // A repeat takes no room.
    if (put.outcome === 'conflict') takeBack();
    if (put.outcome === 'unknown') {
      throw new OutcomeUnknownError(`The store did not confirm a chunk of run ${runId}.`, {
        cause: put.cause,
      });
    }
    // What took longer may have come after the archiver listed: then only the run can tell.
    if (clock.monotonic() - openAt > limits.traceCheckMs + limits.operationDeadlineMs) {
      this.#openAt.delete(keyOf(orgId, runId, attempt));
      await this.#look(orgId, runId, attempt, signal);
    }
    if (end) this.#ends.set(name, offset + body.length);
    return { next: offset + body.length, repeated: put.outcome === 'conflict' };
  }

  #check(orgId: string, runId: string, { attempt, offset, body, end }: NewChunk): void {
    const { traceChunkBytesMax, traceBytesMax } = this.#context.limits;
    checkId('org id', orgId);
    checkId('run id', runId);
    if (!Number.isSafeInteger(attempt) || attempt < 1) {
      throw new InputError(`${attempt} is not an attempt.`, { hint: 'Attempts count from 1.' });
    }
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new InputError(`${offset} is not an offset.`, {
        hint: 'Say where in the log the chunk begins, in bytes.',
      });
    }
    if (body.length === 0 && end !== true) {
      throw new InputError('The chunk is empty.', { hint: 'Only a chunk that ends the log may be.' });
    }
    if (body.length > traceChunkBytesMax) {
      throw limitError(`The chunk has ${body.length} bytes; the limit is ${traceChunkBytesMax}.`, {
        hint: 'Send smaller chunks.',
        limit_bytes: traceChunkBytesMax,
      });
    }
    if (offset + body.length > traceBytesMax) {
      throw limitError(`The log would reach byte ${offset + body.length}; the limit is ${traceBytesMax}.`, {
        hint: 'Write less; what was acknowledged stays.',
        limit_bytes: traceBytesMax,
      });
    }
  }

  /** When the trace was last known to be open, monotonic ms; throws where it is not. */
  async #open(
    orgId: string,
    runId: string,
    attempt: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { recorder, clock, limits } = this.#context;
    const key = keyOf(orgId, runId, attempt);
    const known = this.#openAt.get(key);
    const began = clock.monotonic();
    if (known !== undefined && began - known <= limits.traceCheckMs) return known;
    // Once per process the mark is made, or its record repeated; from then on looking is enough.
    if (known === undefined) {
      await recorder.apply(orgId, runId, { type: 'trace', attempt }, signal);
      // The mark and its record may have taken long; the run is as fresh as it was when it was read.
      if (clock.monotonic() - began > limits.traceCheckMs) return this.#look(orgId, runId, attempt, signal);
      this.#openAt.set(key, began);
      return began;
    }
    return this.#look(orgId, runId, attempt, signal);
  }

  async #look(
    orgId: string,
    runId: string,
    attempt: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { runs, recorder, clock } = this.#context;
    const key = keyOf(orgId, runId, attempt);
    const began = clock.monotonic();
    const run = (await runs.read(orgId, runId, signal))?.run ?? null;
    if (run === null || run.deleted_at !== null || traceOf(run, attempt) === null) {
      this.#openAt.delete(key);
      throw new RunfoldError('RUN_NOT_FOUND', `Run ${runId} is gone.`, { hint: 'Stop working on it.' });
    }
    const open = traceOpen(run, attempt, recorder.now());
    if (open.outcome === 'refused') {
      this.#openAt.delete(key);
      throw lifecycleError(open, orgId, runId, run);
    }
    this.#openAt.set(key, began);
    return began;
  }
}

function keyOf(orgId: string, runId: string, attempt: number): string {
  return JSON.stringify([orgId, runId, attempt]);
}

/** Only in the process that took the end: to know it everywhere, each chunk would cost a LIST. */
function pastEndError(attempt: number, end: number): RunfoldError {
  return new RunfoldError(
    'TRACE_CLOSED',
    `The log of attempt ${attempt} was declared to end at byte ${end}.`,
    {
      hint: 'Say end=true with the last chunk only; what was acknowledged stays.',
      details: { end },
    },
  );
}

function limitError(
  message: string,
  { hint, ...details }: { hint: string; limit_bytes: number },
): RunfoldError {
  return new RunfoldError('LIMIT_EXCEEDED', message, { hint, details });
}
