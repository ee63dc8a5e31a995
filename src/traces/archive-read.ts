import { createHash } from 'node:crypto';
import { crc32c } from '../core/crc32c.ts';
import { CorruptError, RunfoldError } from '../core/errors.ts';
import type { TraceArchive } from '../runs/run.ts';
import { archiveTime } from '../runs/traces.ts';
import type { TraceContext } from './context.ts';
import { readWork } from './work.ts';
import {
  type Frame,
  inflateAll,
  ofLog,
  parseSeekTable,
  readFrame,
  seekTableBytes,
  TRACE_HINT,
} from './zstd.ts';

/** Compressed bytes of one request. */
const RANGE_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Reads a committed archive. Nothing is served that was not checked: the store's checksum of the object against the
 * run's, and each frame against its own. What is wrong is read once more, since the wire may be at fault.
 */
export class ArchiveReader {
  readonly #context: Pick<TraceContext, 'store' | 'limits'>;
  readonly #orgId: string;
  readonly #archive: TraceArchive;
  #frames: Frame[] | null = null;
  #whole: Uint8Array | null = null;

  constructor(context: Pick<TraceContext, 'store' | 'limits'>, orgId: string, archive: TraceArchive) {
    this.#context = context;
    this.#orgId = orgId;
    this.#archive = archive;
  }

  /** Bytes [from, to) of the text. 1 GET where the archive is small; else 2, the first of them once per reader. */
  async read(from: number, to: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { bytes, stored_bytes, frame_bytes } = this.#archive;
    const end = Math.min(to, bytes);
    if (from >= end) return new Uint8Array();
    const { traceWholeBytesMax, traceChunkBytesMax } = this.#context.limits;
    if (frame_bytes === null || (stored_bytes <= traceWholeBytesMax && bytes <= traceChunkBytesMax)) {
      this.#whole ??= await this.whole(signal);
      return this.#whole.subarray(from, end);
    }
    return twice(() => this.#readFrames(from, end, frame_bytes, signal));
  }

  /** The whole text, checked against every checksum there is. 1 GET. Throws CorruptError, TRACE_EXPIRED. */
  async whole(signal?: AbortSignal): Promise<Uint8Array> {
    const { bytes, sha256, uri } = this.#archive;
    if (uri === null) return new Uint8Array();
    return twice(async () => {
      const stored = await this.#get(uri, undefined, signal);
      if (crc32c(stored) !== this.#archive.crc32c)
        throw corrupt(uri, 'its CRC-32C is not the one it was written with');
      const text = await inflateAll(uri, stored, bytes);
      if (text.length !== bytes)
        throw corrupt(uri, `it holds ${text.length} bytes of text instead of ${bytes}`);
      if (createHash('sha256').update(text).digest('hex') !== sha256)
        throw corrupt(uri, 'the SHA-256 of its text is another');
      return text;
    });
  }

  async #readFrames(
    from: number,
    to: number,
    frameBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const uri = this.#archive.uri!;
    this.#frames ??= await this.#seekTable(frameBytes, signal);
    const wanted = this.#frames.filter(({ offset, bytes }) => offset < to && offset + bytes > from);
    const pieces: Uint8Array[] = [];
    for (const group of groupsOf(wanted)) {
      const start = group[0]!.start;
      const last = group.at(-1)!;
      const stored = await this.#get(uri, { start, end: last.start + last.storedBytes }, signal);
      for (const frame of group) {
        const at = frame.start - start;
        pieces.push(await readFrame(uri, stored.subarray(at, at + frame.storedBytes), frame));
      }
    }
    const first = wanted[0]!.offset;
    return Buffer.concat(pieces).subarray(from - first, to - first);
  }

  async #seekTable(frameBytes: number, signal: AbortSignal | undefined): Promise<Frame[]> {
    const { uri, stored_bytes: storedBytes, bytes } = this.#archive;
    const start = storedBytes - seekTableBytes(bytes, frameBytes);
    if (start < 0) throw corrupt(uri!, 'it is shorter than its seek table');
    const table = await this.#get(uri!, { start, end: storedBytes }, signal);
    return parseSeekTable(uri!, table, { storedBytes, bytes, frameBytes });
  }

  async #get(
    uri: string,
    range: { start: number; end: number } | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const { store } = this.#context;
    const got = await store.get(uri, { ...(range && { range }), signal }).catch((error: unknown) => {
      throw ofLog(error);
    });
    if (got.outcome !== 'found') throw await this.#gone(uri, signal);
    const { sizeBytes, crc32c: sum } = got.meta;
    if (sizeBytes !== this.#archive.stored_bytes || sum !== this.#archive.crc32c) {
      throw corrupt(uri, 'the store holds other bytes than were archived');
    }
    if (range !== undefined && got.body.length !== range.end - range.start)
      throw corrupt(uri, 'a range of it is short');
    return got.body;
  }

  /** What the policy let go is not lost. */
  async #gone(uri: string, signal: AbortSignal | undefined): Promise<RunfoldError> {
    const { work, isCorrupt } = await readWork(this.#context.store, this.#orgId, signal);
    const at = archiveTime(uri);
    if (at !== null && work.archives_horizon !== null && at < work.archives_horizon) {
      return new RunfoldError('TRACE_EXPIRED', 'The log was kept for as long as the policy says.', {
        hint: 'Set a longer trace retention for logs of the future.',
      });
    }
    if (!isCorrupt) return corrupt(uri, 'it is missing');
    return corrupt(
      uri,
      'it is missing, and whether the policy let it go cannot be told: the work list is corrupt',
    );
  }
}

/** Frames side by side, as few requests as their size allows. */
function groupsOf(frames: readonly Frame[]): Frame[][] {
  const groups: Frame[][] = [];
  let size = 0;
  for (const frame of frames) {
    if (groups.length === 0 || size + frame.storedBytes > RANGE_BYTES_MAX) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1)!.push(frame);
    size += frame.storedBytes;
  }
  return groups;
}

async function twice<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    return read();
  }
}

function corrupt(key: string, reason: string): CorruptError {
  return new CorruptError(key, reason, TRACE_HINT);
}
