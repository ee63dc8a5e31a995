import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { CorruptError } from '../core/errors.ts';

/**
 * Independent zstd frames and the seek table of the zstd seekable format (contrib/seekable_format in the zstd
 * repository) behind them, in a skippable frame: any zstd tool decompresses the whole. Each frame has its content
 * checksum.
 */
const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a5e;
const SEEKABLE_MAGIC = 0x8f92eab1;
const ENTRY_BYTES = 8;
const FOOTER_BYTES = 9;
const HEADER_BYTES = 8;

const OPTIONS = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
/** So little is done sooner than it is handed to a thread. */
const SYNC_BYTES_MAX = 64 * 1024;
const deflateElsewhere = promisify(zstdCompress);
const inflateElsewhere = promisify(zstdDecompress);

async function deflate(content: Uint8Array): Promise<Uint8Array> {
  return content.length <= SYNC_BYTES_MAX
    ? zstdCompressSync(content, OPTIONS)
    : deflateElsewhere(content, OPTIONS);
}

/** Of one frame; throws where it gives more than `bytesMax`. */
async function inflate(frame: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  const options = { maxOutputLength: Math.max(1, bytesMax) };
  return bytesMax <= SYNC_BYTES_MAX ? zstdDecompressSync(frame, options) : inflateElsewhere(frame, options);
}

/** Where a frame lies among the compressed bytes, and what of the log it holds. */
export interface Frame {
  readonly start: number;
  readonly storedBytes: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Compresses a log piece by piece: in memory are its compressed frames and one frame of it. */
export class FrameWriter {
  readonly #frameBytes: number;
  readonly #frames: Uint8Array[] = [];
  readonly #sizes: { stored: number; bytes: number }[] = [];
  #open: Uint8Array;
  #filled = 0;
  #bytes = 0;
  #newlines = 0;
  #last = 0x0a;
  readonly #hash = createHash('sha256');

  constructor(frameBytes: number) {
    this.#frameBytes = frameBytes;
    this.#open = new Uint8Array(frameBytes);
  }

  /** Of the log so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A last line without its end counts. */
  get lines(): number {
    return this.#newlines + (this.#last === 0x0a ? 0 : 1);
  }

  async add(piece: Uint8Array): Promise<void> {
    if (piece.length === 0) return;
    for (let at = piece.indexOf(0x0a); at >= 0; at = piece.indexOf(0x0a, at + 1)) this.#newlines++;
    this.#last = piece.at(-1)!;
    this.#bytes += piece.length;
    this.#hash.update(piece);
    for (let at = 0; at < piece.length; ) {
      const taken = piece.subarray(at, at + this.#frameBytes - this.#filled);
      this.#open.set(taken, this.#filled);
      this.#filled += taken.length;
      at += taken.length;
      if (this.#filled === this.#frameBytes) await this.#close();
    }
  }

  /** All frames and the seek table, and the SHA-256 of the text; the writer is done for. */
  async end(): Promise<{ body: Uint8Array; sha256: string }> {
    if (this.#filled > 0) await this.#close();
    const body = Buffer.concat([...this.#frames, seekTable(this.#sizes)]);
    return { body, sha256: this.#hash.digest('hex') };
  }

  async #close(): Promise<void> {
    const content = this.#open.subarray(0, this.#filled);
    const frame = await deflate(content);
    // The chunks go once the archive is there: what it holds is looked at before.
    if (Buffer.compare(await inflate(frame, content.length), content) !== 0)
      throw new Error('zstd gave back other bytes');
    this.#frames.push(frame);
    this.#sizes.push({ stored: frame.length, bytes: this.#filled });
    this.#filled = 0;
  }
}

function seekTable(sizes: readonly { stored: number; bytes: number }[]): Uint8Array {
  const contentBytes = sizes.length * ENTRY_BYTES + FOOTER_BYTES;
  const table = Buffer.alloc(HEADER_BYTES + contentBytes);
  table.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  table.writeUInt32LE(contentBytes, 4);
  let at = HEADER_BYTES;
  for (const { stored, bytes } of sizes) {
    table.writeUInt32LE(stored, at);
    table.writeUInt32LE(bytes, at + 4);
    at += ENTRY_BYTES;
  }
  table.writeUInt32LE(sizes.length, at);
  table.writeUInt8(0, at + 4);
  table.writeUInt32LE(SEEKABLE_MAGIC, at + 5);
  return table;
}

/** Bytes of the seek table at the end of an archive of `bytes` bytes of log. */
export function seekTableBytes(bytes: number, frameBytes: number): number {
  return HEADER_BYTES + Math.ceil(bytes / frameBytes) * ENTRY_BYTES + FOOTER_BYTES;
}

/**
 * The frames of an archive of that size, from its last `seekTableBytes`. Throws CorruptError where the table does
 * not fit: sizes must add up to both sizes, so that no entry can be wrong alone.
 */
export function parseSeekTable(
  key: string,
  table: Uint8Array,
  { storedBytes, bytes, frameBytes }: { storedBytes: number; bytes: number; frameBytes: number },
): Frame[] {
  const view = Buffer.from(table.buffer, table.byteOffset, table.byteLength);
  const count = Math.ceil(bytes / frameBytes);
  const end = HEADER_BYTES + count * ENTRY_BYTES;
  const fits =
    view.length === end + FOOTER_BYTES &&
    view.readUInt32LE(0) === SKIPPABLE_MAGIC &&
    view.readUInt32LE(4) === view.length - HEADER_BYTES &&
    view.readUInt32LE(end) === count &&
    view.readUInt8(end + 4) === 0 &&
    view.readUInt32LE(end + 5) === SEEKABLE_MAGIC;
  if (!fits) throw new CorruptError(key, 'it does not end with its seek table', TRACE_HINT);
  const frames: Frame[] = [];
  let [start, offset] = [0, 0];
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    const frame = { start, offset, storedBytes: view.readUInt32LE(at), bytes: view.readUInt32LE(at + 4) };
    frames.push(frame);
    start += frame.storedBytes;
    offset += frame.bytes;
  }
  if (start + view.length !== storedBytes || offset !== bytes) {
    throw new CorruptError(key, 'its seek table does not add up', TRACE_HINT);
  }
  return frames;
}

/** One frame's bytes of log, checked against its own checksum and the table. Throws CorruptError. */
export async function readFrame(
  key: string,
  stored: Uint8Array,
  { offset, bytes }: Frame,
): Promise<Uint8Array> {
  let content: Uint8Array | null = null;
  try {
    content = await inflate(stored, bytes);
  } catch (cause) {
    throw new CorruptError(key, `its frame at offset ${offset} cannot be read`, { ...TRACE_HINT, cause });
  }
  if (content.length === bytes) return content;
  throw new CorruptError(key, `its frame at offset ${offset} has ${content.length} bytes`, TRACE_HINT);
}

/** The whole of any zstd file, ours or not, bounded. Throws CorruptError. */
export async function inflateAll(key: string, stored: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let left = bytesMax;
  for (const frame of framesOf(key, stored)) {
    try {
      const piece = await inflate(frame, left);
      left -= piece.length;
      pieces.push(piece);
    } catch (cause) {
      throw new CorruptError(key, 'a frame of it cannot be read', { ...TRACE_HINT, cause });
    }
  }
  return Buffer.concat(pieces);
}

export const TRACE_HINT = {
  hint: 'The log cannot be read from here. `runfold trace verify` shows the extent; restore the object.',
};

/** A store that finds an object rotten knows of no logs: the remedy is another than for the catalog. */
export function ofLog(error: unknown, hint: { hint: string } = TRACE_HINT): unknown {
  if (!(error instanceof CorruptError)) return error;
  return new CorruptError(error.key, String(error.details.reason), { ...hint, cause: error });
}

/** RFC 8878: zlib reads one frame at a time, so somebody must find where each ends. */
function* framesOf(key: string, stored: Uint8Array): Generator<Uint8Array> {
  const view = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const broken = () => new CorruptError(key, 'it is not a zstd file', TRACE_HINT);
  for (let at = 0; at < view.length; ) {
    if (view.length - at < 8) throw broken();
    const magic = view.readUInt32LE(at);
    if (magic >>> 4 === SKIPPABLE_MAGIC >>> 4) {
      at += HEADER_BYTES + view.readUInt32LE(at + 4);
      if (at > view.length) throw broken();
      continue;
    }
    if (magic !== FRAME_MAGIC) throw broken();
    const end = frameEnd(view, at);
    if (end === null || end > view.length) throw broken();
    yield view.subarray(at, end);
    at = end;
  }
}

function frameEnd(view: Buffer, start: number): number | null {
  const descriptor = view.readUInt8(start + 4);
  const single = (descriptor & 0x20) !== 0;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >>> 6]!;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  let at = start + 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (;;) {
    if (at + 3 > view.length) return null;
    const header = view.readUIntLE(at, 3);
    const type = (header >>> 1) & 3;
    if (type === 3) return null;
    at += 3 + (type === 1 ? 1 : header >>> 3);
    if ((header & 1) === 1) return at + ((descriptor & 4) !== 0 ? 4 : 0);
  }
}
