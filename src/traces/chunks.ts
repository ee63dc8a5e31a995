import { createHash } from 'node:crypto';
import type { TraceGap } from '../runs/run.ts';
import { chunksPrefix } from '../store/keys.ts';
import type { ObjectMeta } from '../store/object-store.ts';

/** One immutable piece of a trace, as its name tells it. */
export interface Chunk {
  readonly key: string;
  readonly offset: number;
  readonly bytes: number;
  /** Start of the SHA-256 of its bytes, hex. */
  readonly hash: string;
  /** Nothing follows it. */
  readonly isEnd: boolean;
  readonly generation: string;
  /** Server time, ms. */
  readonly createdAt: number;
}

const OFFSET_DIGITS = 12;
const HASH_DIGITS = 16;
const NAME = /^(\d{12})-(\d+)-([0-9a-f]{16})(\.end)?$/;

/** The same bytes at the same offset have the same name: a repeat meets its own object. */
export function chunkName(offset: number, body: Uint8Array, isEnd = false): string {
  return `${offsetText(offset)}-${body.length}-${hashOf(body)}${isEnd ? '.end' : ''}`;
}

/** Inclusive lower bound of the keys of chunks that begin at `offset` or later. */
export function chunkKeyFloor(orgId: string, runId: string, attempt: number, offset: number): string {
  return `${chunksPrefix(orgId, runId, attempt)}${offsetText(Math.max(0, offset))}`;
}

/** Null for an object that is no chunk. */
export function chunkOf(meta: ObjectMeta): Chunk | null {
  const match = NAME.exec(meta.key.slice(meta.key.lastIndexOf('/') + 1));
  if (match === null) return null;
  const { key, generation, createdAt } = meta;
  return {
    key,
    offset: Number(match[1]),
    bytes: Number(match[2]),
    hash: match[3]!,
    isEnd: match[4] !== undefined,
    generation,
    createdAt,
  };
}

export function isWhole(chunk: Chunk, body: Uint8Array): boolean {
  return body.length === chunk.bytes && hashOf(body) === chunk.hash;
}

/** A piece of the log and the chunk that is believed about it; `null`: a gap. */
export interface Segment {
  readonly offset: number;
  readonly bytes: number;
  readonly chunk: Chunk | null;
}

/** Of two chunks that begin together the longer is first, so that the fewest are needed. */
export function chunkOrder(a: Chunk, b: Chunk): number {
  return a.offset - b.offset || b.bytes - a.bytes || (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0);
}

/**
 * Which chunk is believed about which bytes, from `from` to the end: each byte comes from the first chunk, in
 * `chunkOrder`, that has it. An empty chunk that declares the end makes what is missing before it a gap. Pure;
 * `chunks` in any order, and at least those that may have bytes behind `from`.
 */
export function segmentsOf(chunks: readonly Chunk[], from = 0): Segment[] {
  const segments: Segment[] = [];
  let at = from;
  for (const chunk of chunks.toSorted(chunkOrder)) {
    const end = chunk.offset + chunk.bytes;
    if (chunk.offset > at) {
      segments.push({ offset: at, bytes: chunk.offset - at, chunk: null });
      at = chunk.offset;
    }
    if (end <= at) continue;
    segments.push({ offset: at, bytes: end - at, chunk });
    at = end;
  }
  return segments;
}

/**
 * Bytes [from, to) of what stands in an archive for a gap: as long as the gap, so that no offset moves. A line that
 * says what is missing, then spaces; question marks where there is no room for it.
 */
export function gapFiller({ offset, bytes }: TraceGap, from: number, to: number): Uint8Array {
  const text = `\n[runfold: ${bytes} bytes missing at offset ${offset}]`;
  if (bytes <= text.length) return new Uint8Array(to - from).fill(0x3f);
  const filler = new Uint8Array(to - from).fill(0x20);
  filler.set(new TextEncoder().encode(text.slice(from - offset, to - offset)));
  if (to === offset + bytes && to > from) filler[to - from - 1] = 0x0a;
  return filler;
}

function hashOf(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex').slice(0, HASH_DIGITS);
}

function offsetText(offset: number): string {
  return String(offset).padStart(OFFSET_DIGITS, '0');
}
