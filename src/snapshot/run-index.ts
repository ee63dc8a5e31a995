import { readUuid, UUID_BYTES, UuidVector } from './uuid-vector.ts';
import type { TextVector } from './vectors.ts';

/**
 * From run id to row, as an open-addressing table of row numbers over a hash of the id: 6 bytes per row and no
 * JavaScript string, where a Map would take some 100 bytes per row.
 */
export class RunIndex {
  readonly #keys: Keys;
  /** Row + 1; 0 is free. */
  readonly #slots: Int32Array;

  constructor(ids: TextVector) {
    const keys = ids instanceof UuidVector ? new UuidKeys(ids) : new TextKeys(ids);
    this.#keys = keys;
    // Two thirds full, odd: a power of two would cost up to twice the memory.
    const size = Math.ceil(ids.length * 0.75 + 8) * 2 + 1;
    const slots = new Int32Array(size);
    this.#slots = slots;
    for (let row = 0; row < ids.length; row++) {
      let slot = slotOf(keys.hashOf(row), size);
      while (slots[slot] !== 0) slot = slot + 1 === size ? 0 : slot + 1;
      slots[slot] = row + 1;
    }
  }

  get sizeBytes(): number {
    return this.#slots.byteLength;
  }

  /** The row of that id, −1 where there is none. Of equal ids, the first. */
  find(runId: string): number {
    const length = encode(runId);
    return this.#lookup(this.#keys.seek(scratch, 0, length));
  }

  /** As `find`, for row `i` of another table's ids: no string is made. */
  findRow(ids: TextVector, i: number): number {
    return this.#lookup(this.#keys.seekRow(ids, i));
  }

  #lookup(hash: number): number {
    if (hash < 0) return -1;
    const size = this.#slots.length;
    let slot = slotOf(hash, size);
    for (let row = this.#slots[slot]! - 1; row >= 0; row = this.#slots[slot]! - 1) {
      if (this.#keys.isAt(row)) return row;
      slot = slot + 1 === size ? 0 : slot + 1;
    }
    return -1;
  }
}

/** Hashes and compares ids as they are kept. `seek` says what `isAt` compares with, and gives its hash; −1: no row has it. */
interface Keys {
  hashOf(row: number): number;
  seek(bytes: Uint8Array, start: number, end: number): number;
  seekRow(ids: TextVector, i: number): number;
  isAt(row: number): boolean;
}

class TextKeys implements Keys {
  readonly #ids: TextVector;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #end = 0;

  constructor(ids: TextVector) {
    this.#ids = ids;
  }

  hashOf(row: number): number {
    const ids = this.#ids;
    return hash(ids.bytes, ids.start(row), ids.start(row + 1));
  }

  seek(bytes: Uint8Array, start: number, end: number): number {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    return hash(bytes, start, end);
  }

  seekRow(ids: TextVector, i: number): number {
    return this.seek(ids.bytes, ids.start(i), ids.start(i + 1));
  }

  isAt(row: number): boolean {
    const ids = this.#ids;
    return equal(this.#bytes, this.#start, this.#end, ids.bytes, ids.start(row), ids.start(row + 1));
  }
}

class UuidKeys implements Keys {
  readonly #words: Uint32Array;
  readonly #sought = new Uint32Array(4);

  constructor(ids: UuidVector) {
    this.#words = ids.words;
  }

  hashOf(row: number): number {
    return hashWords(this.#words, row * 4);
  }

  seek(bytes: Uint8Array, start: number, end: number): number {
    const isUuid = end - start === UUID_BYTES && readUuid(bytes, start, this.#sought, 0);
    return isUuid ? hashWords(this.#sought, 0) : -1;
  }

  seekRow(ids: TextVector, i: number): number {
    if (!(ids instanceof UuidVector)) return this.seek(ids.bytes, ids.start(i), ids.start(i + 1));
    for (let w = 0; w < 4; w++) this.#sought[w] = ids.words[i * 4 + w]!;
    return hashWords(this.#sought, 0);
  }

  isAt(row: number): boolean {
    const words = this.#words;
    const sought = this.#sought;
    const at = row * 4;
    // The last first: ids made close in time differ there.
    return (
      words[at + 3] === sought[3] &&
      words[at + 2] === sought[2] &&
      words[at + 1] === sought[1] &&
      words[at] === sought[0]
    );
  }
}

const encoder = new TextEncoder();
let scratch = new Uint8Array(512);

function encode(text: string): number {
  if (text.length * 3 > scratch.length) scratch = new Uint8Array(text.length * 3);
  return encoder.encodeInto(text, scratch).written;
}

/** FNV-1a, then a mix: ids that share a long prefix differ in few bits. */
function hash(bytes: Uint8Array, start: number, end: number): number {
  let h = 0x811c9dc5;
  for (let i = start; i < end; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

/** As `hash`, of a UUID's four words. */
function hashWords(words: Uint32Array, at: number): number {
  let h = Math.imul(words[at]! ^ 0x811c9dc5, 0x9e3779b1);
  h = Math.imul((h ^ (h >>> 15)) + words[at + 1]!, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 13)) + words[at + 2]!, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 16)) + words[at + 3]!, 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

/** By multiplying: the remainder of a number beyond 2^31 takes ten times as long. */
function slotOf(hash: number, size: number): number {
  return Math.floor(hash * 2 ** -32 * size);
}

function equal(a: Uint8Array, startA: number, endA: number, b: Uint8Array, startB: number, endB: number) {
  if (endA - startA !== endB - startB) return false;
  // From the end: ids made close in time differ there first.
  for (let i = endA - 1, j = endB - 1; i >= startA; i--, j--) if (a[i] !== b[j]) return false;
  return true;
}
