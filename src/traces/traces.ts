import type { Run } from '../runs/run.ts';
import { type Appended, type NewChunk, TraceWriter } from './append.ts';
import type { TraceContext } from './context.ts';
import { type FollowQuery, type TraceQuery, TraceReader } from './read.ts';
import { removeTraces } from './remove.ts';
import type { TraceSlice } from './slice.ts';
import { type VerifiedTrace, verifyTraces } from './verify.ts';

/** Logs of runs: docs/adr/0009-traces.md. Each call says what it costs where it is implemented. */
export class Traces {
  readonly #context: TraceContext;
  readonly #writer: TraceWriter;
  readonly #reader: TraceReader;

  constructor(context: TraceContext) {
    this.#context = context;
    this.#writer = new TraceWriter(context);
    this.#reader = new TraceReader(context);
  }

  append(orgId: string, runId: string, chunk: NewChunk, signal?: AbortSignal): Promise<Appended> {
    return this.#writer.append(orgId, runId, chunk, signal);
  }

  /** One slice of a log, live or archived. */
  read(orgId: string, runId: string, query?: TraceQuery, signal?: AbortSignal): Promise<TraceSlice> {
    return this.#reader.read(orgId, runId, query, signal);
  }

  stream(orgId: string, runId: string, query?: TraceQuery, signal?: AbortSignal): AsyncGenerator<TraceSlice> {
    return this.#reader.stream(orgId, runId, query, signal);
  }

  follow(
    orgId: string,
    runId: string,
    query?: FollowQuery,
    signal?: AbortSignal,
  ): AsyncGenerator<TraceSlice> {
    return this.#reader.follow(orgId, runId, query, signal);
  }

  /** Every byte against every checksum. */
  verify(run: Run, signal?: AbortSignal): Promise<VerifiedTrace[]> {
    return verifyTraces(this.#context, run, signal);
  }

  /** Of a run that was deleted. */
  remove(run: Run, signal?: AbortSignal): Promise<number> {
    return removeTraces(this.#context, run, signal);
  }
}
