import type { TextVector } from './vectors.ts';

/**
 * From run id to row, as an open-addressing table of row numbers over a hash of the id's bytes: 6 bytes per row
 * and no JavaScript string, where a Map would take some 100 bytes per row.
 */
export class RunIndex {
  readonly #ids: TextVector;
  /** Row + 1; 0 is free. */
  readonly #slots: Int32Array;

  constructor(ids: TextVector) {
    this.#ids = ids;
    // Two thirds full, odd: a power of two would cost up to twice the memory.
    const size = Math.ceil(ids.length * 0.75 + 8) * 2 + 1;
    const slots = new Int32Array(size);
    this.#slots = slots;
    for (let row = 0; row < ids.length; row++) {
      let slot = slotOf(hash(ids.bytes, ids.start(row), ids.start(row + 1)), size);
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
    return this.#lookup(scratch, 0, length);
  }

  /** As `find`, for row `i` of another table's ids: no string is made. */
  findRow(ids: TextVector, i: number): number {
    return this.#lookup(ids.bytes, ids.start(i), ids.start(i + 1));
  }

  #lookup(bytes: Uint8Array, start: number, end: number): number {
    const ids = this.#ids;
    const size = this.#slots.length;
    let slot = slotOf(hash(bytes, start, end), size);
    for (let row = this.#slots[slot]! - 1; row >= 0; row = this.#slots[slot]! - 1) {
      if (equal(bytes, start, end, ids.bytes, ids.start(row), ids.start(row + 1))) return row;
      slot = slot + 1 === size ? 0 : slot + 1;
    }
    return -1;
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
