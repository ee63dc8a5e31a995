import { throwIfAborted } from '../src/core/clock.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError, RunfoldError } from '../src/core/errors.ts';
import type { Limits } from '../src/core/limits.ts';
import type { TraceGap } from '../src/runs/run.ts';
import { readChunk } from '../src/traces/chunk-read.ts';
import { type Chunk, chunkOrder, gapFiller } from '../src/traces/chunks.ts';
import type { TraceContext } from '../src/traces/context.ts';
import { FrameWriter } from '../src/traces/zstd.ts';

export interface Assembled {
  /** Compressed, with its seek table. */
  body: Uint8Array;
  bytes: number;
  lines: number;
  sha256: string;
  gaps: TraceGap[];
  conflicts: number;
  /** Chunks every byte of which is in it. */
  used: Chunk[];
  /** There is more in it than gaps. */
  isReadable: boolean;
}

/**
 * Chunks of one trace as the text they make, compressed. Every chunk is read and held against its name and against
 * what others say about the same bytes. Strict: the first gap or chunk that cannot be read is thrown. Lenient: it
 * becomes a gap, where no other chunk has the bytes. In memory: the archive, and `traceReadAheadBytesMax` of chunks.
 */
export async function assemble(
  context: Pick<TraceContext, 'store' | 'limits'>,
  chunks: readonly Chunk[],
  { lenient, signal }: { lenient: boolean; signal?: AbortSignal | undefined },
): Promise<Assembled> {
  const { limits } = context;
  const text = new Text(new FrameWriter(limits.traceFrameBytes), lenient);
  const ordered = chunks.toSorted(chunkOrder);
  for (const batch of batchesOf(ordered, limits)) {
    throwIfAborted(signal);
    const bodies = await mapParallel(
      batch,
      limits.parallelMax,
      (chunk, stop) => bodyOf(context, chunk, lenient, stop),
      signal,
    );
    for (const [i, chunk] of batch.entries()) await text.add(chunk, bodies[i]!);
  }
  // A name tells how far the log went, even where its bytes are gone.
  await text.gapTo(ordered.reduce((end, { offset, bytes }) => Math.max(end, offset + bytes), 0));
  return text.end();
}

async function bodyOf(
  context: Pick<TraceContext, 'store'>,
  chunk: Chunk,
  lenient: boolean,
  signal: AbortSignal,
): Promise<Uint8Array | null> {
  try {
    const body = await readChunk(context, chunk, signal);
    if (body !== null || lenient) return body;
  } catch (error) {
    if (!lenient || !(error instanceof CorruptError)) throw error;
    return null;
  }
  throw new RunfoldError('CORRUPT', `The chunk at offset ${chunk.offset} is gone.`);
}

/** What was put together so far, and the last of it, to compare with chunks that say it again. */
class Text {
  readonly #writer: FrameWriter;
  readonly #lenient: boolean;
  #recent: { offset: number; body: Uint8Array }[] = [];
  readonly #gaps: TraceGap[] = [];
  readonly #used: Chunk[] = [];
  #conflicts = 0;

  constructor(writer: FrameWriter, lenient: boolean) {
    this.#writer = writer;
    this.#lenient = lenient;
  }

  async add(chunk: Chunk, body: Uint8Array | null): Promise<void> {
    if (body === null) return;
    const { offset } = chunk;
    await this.gapTo(offset);
    this.#recent = this.#recent.filter((piece) => piece.offset + piece.body.length > offset);
    const at = this.#writer.bytes;
    if (this.#agrees(offset, body.subarray(0, at - offset))) this.#used.push(chunk);
    else this.#conflicts++;
    if (offset + body.length <= at) return;
    const fresh = body.subarray(at - offset);
    this.#recent.push({ offset: at, body: fresh });
    await this.#writer.add(fresh);
  }

  /** Fills up to `offset`. */
  async gapTo(offset: number): Promise<void> {
    const at = this.#writer.bytes;
    if (offset <= at) return;
    const gap = { offset: at, bytes: offset - at };
    if (!this.#lenient) {
      throw new RunfoldError('CORRUPT', `${gap.bytes} bytes are missing at offset ${gap.offset}.`);
    }
    this.#gaps.push(gap);
    for (let from = at; from < offset; from += FILL_BYTES)
      await this.#writer.add(gapFiller(gap, from, Math.min(offset, from + FILL_BYTES)));
  }

  async end(): Promise<Assembled> {
    const { bytes, lines } = this.#writer;
    const { body, sha256 } = await this.#writer.end();
    return {
      body,
      sha256,
      bytes,
      lines,
      gaps: this.#gaps,
      conflicts: this.#conflicts,
      used: this.#used,
      isReadable: this.#used.length > 0,
    };
  }

  #agrees(offset: number, known: Uint8Array): boolean {
    return this.#recent.every((piece) => {
      const from = Math.max(offset, piece.offset);
      const to = Math.min(offset + known.length, piece.offset + piece.body.length);
      if (from >= to) return true;
      const mine = known.subarray(from - offset, to - offset);
      return Buffer.compare(mine, piece.body.subarray(from - piece.offset, to - piece.offset)) === 0;
    });
  }
}

const FILL_BYTES = 1024 * 1024;

/**
 * Chunks in `chunkOrder`, as many at once as are read side by side. Neither their bytes nor the stretch of the log
 * that they cover is longer than `traceReadAheadBytesMax`, unless a single chunk is.
 */
export function* batchesOf(
  chunks: readonly Chunk[],
  { traceReadAheadBytesMax: bytesMax, parallelMax }: Pick<Limits, 'traceReadAheadBytesMax' | 'parallelMax'>,
): Generator<Chunk[]> {
  let batch: Chunk[] = [];
  let size = 0;
  for (const chunk of chunks) {
    const span = chunk.offset + chunk.bytes - (batch[0]?.offset ?? chunk.offset);
    const isFull = Math.max(size + chunk.bytes, span) > bytesMax || batch.length >= 4 * parallelMax;
    if (batch.length > 0 && isFull) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(chunk);
    size += chunk.bytes;
  }
  if (batch.length > 0) yield batch;
}
