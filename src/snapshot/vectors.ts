import type { Dataset } from '../runs/run.ts';
import { parseDatasets } from './datasets.ts';

/** How `Rows` keeps one column: typed arrays, no object per row. Vectors never change. */
export type Vector = NumberVector | DictionaryVector | TextVector;
export type Codes = Uint8Array | Uint16Array | Uint32Array;

/**
 * Integers from 0 to 2^53 − 1 or null, in the fewest bytes that hold their range: 0 is null, v is v − least + 1.
 * Beyond 32 bits a second array holds bits 32 to 39, so that times 34 years apart take 5 bytes each; beyond 40 bits
 * the numbers are kept as they are, in a Float64Array with NaN for null.
 */
export class NumberVector {
  readonly length: number;
  /** Of the values that are not null; NaN where there are none. */
  readonly min: number;
  readonly max: number;
  readonly nullCount: number;
  readonly #low: Codes | Float64Array;
  readonly #high: Uint8Array | null;
  /** What to add to a stored number; NaN: they are in a Float64Array, as they are. */
  readonly #base: number;

  /** NaN is null. The array is copied. */
  constructor(numbers: Float64Array) {
    let min = Number.POSITIVE_INFINITY;
    let max = Number.NEGATIVE_INFINITY;
    let nullCount = 0;
    for (let i = 0; i < numbers.length; i++) {
      const value = numbers[i]!;
      if (value < min) min = value;
      if (value > max) max = value;
      // NaN alone differs from itself, and the comparison is cheaper than Number.isNaN in these loops.
      if (value !== value) nullCount++;
    }
    const some = nullCount < numbers.length;
    this.length = numbers.length;
    this.min = some ? min : Number.NaN;
    this.max = some ? max : Number.NaN;
    this.nullCount = nullCount;
    const distinct = some ? max - min + 2 : 1;
    const base = some ? min - 1 : 0;
    this.#base = distinct > 2 ** 40 ? Number.NaN : base;
    this.#high = distinct > 2 ** 32 && distinct <= 2 ** 40 ? new Uint8Array(numbers.length) : null;
    if (!some) this.#low = zeros(numbers.length);
    else this.#low = distinct > 2 ** 40 ? numbers.slice() : narrow(numbers, distinct, base, this.#high);
  }

  at(i: number): number | null {
    const value = this.raw(i);
    return value !== value ? null : value;
  }

  /** As `at`, with NaN for null. */
  raw(i: number): number {
    const high = this.#high;
    const value = high === null ? this.#low[i]! : this.#low[i]! + high[i]! * 2 ** 32;
    if (this.#base !== this.#base) return value;
    return value === 0 ? Number.NaN : value + this.#base;
  }

  isNull(i: number): boolean {
    const value = this.raw(i);
    return value !== value;
  }

  /** Numbers of the rows from `start` to `end`, NaN for null, written to `out` from `at`. */
  copyTo(out: Float64Array, at: number, start = 0, end = this.length): void {
    const low = this.#low;
    const high = this.#high;
    const base = this.#base;
    if (base !== base) {
      out.set((low as Float64Array).subarray(start, end), at);
      return;
    }
    for (let i = start; i < end; i++) {
      const value = high === null ? low[i]! : low[i]! + high[i]! * 2 ** 32;
      out[at++] = value === 0 ? Number.NaN : value + base;
    }
  }

  /** Numbers of the rows with these indexes, NaN for null, written to `out` from `at`. */
  gatherTo(out: Float64Array, at: number, indexes: Uint32Array): void {
    const low = this.#low;
    const high = this.#high;
    const base = this.#base;
    const isWide = base !== base;
    for (let k = 0; k < indexes.length; k++) {
      const i = indexes[k]!;
      const value = high === null ? low[i]! : low[i]! + high[i]! * 2 ** 32;
      out[at++] = isWide ? value : value === 0 ? Number.NaN : value + base;
    }
  }

  get isAllNull(): boolean {
    return this.nullCount === this.length;
  }

  /** 1 for a value, 0 for null, of the rows from `start` to `end`. */
  presence(start = 0, end = this.length): Uint8Array {
    const present = new Uint8Array(end - start);
    if (this.isAllNull) return present;
    if (this.nullCount === 0) return present.fill(1);
    const low = this.#low;
    const high = this.#high;
    const isWide = this.#base !== this.#base;
    for (let i = start; i < end; i++) {
      const value = low[i]!;
      const isNull = isWide ? value !== value : value === 0 && (high === null || high[i] === 0);
      if (!isNull) present[i - start] = 1;
    }
    return present;
  }

  get sizeBytes(): number {
    const low = this.#low.buffer === allZeros.buffer ? 0 : this.#low.byteLength;
    return low + (this.#high?.byteLength ?? 0);
  }
}

/** Numbers that are all null: shared, grown by doubling, never written. */
let allZeros = new Uint8Array(0);

function zeros(length: number): Uint8Array {
  if (allZeros.length < length) allZeros = new Uint8Array(Math.max(length, allZeros.length * 2));
  return allZeros.subarray(0, length);
}

function narrow(numbers: Float64Array, distinct: number, base: number, high: Uint8Array | null): Codes {
  // One loop over one kind of array, which is then narrowed in one piece: a loop over three kinds takes twice as long.
  const wide = workCodes(numbers.length);
  for (let i = 0; i < numbers.length; i++) {
    const value = numbers[i]!;
    if (value !== value) {
      wide[i] = 0;
      continue;
    }
    // The store keeps the low 32 bits.
    wide[i] = value - base;
    if (high !== null) high[i] = (value - base) / 2 ** 32;
  }
  return narrowed(wide, distinct);
}

/** A copy in the narrowest array for codes below `distinct`. */
export function narrowed(codes: Uint32Array, distinct: number): Codes {
  if (distinct <= 0x100) return new Uint8Array(codes);
  return distinct <= 0x1_0000 ? new Uint16Array(codes) : codes.slice();
}

/** Most columns of a head fit; larger arrays are made anew. */
const WORK_LENGTH = 64 * 1024;
let numbersToWorkIn: Float64Array | null = null;
let codesToWorkIn: Uint32Array | null = null;

/**
 * An array whose contents are anything, good until the next call and never to be kept: each column of a head goes through
 * one of these, and making them anew would collect garbage at every fold.
 */
export function workNumbers(length: number): Float64Array {
  if (length > WORK_LENGTH) return new Float64Array(length);
  numbersToWorkIn ??= new Float64Array(WORK_LENGTH);
  return numbersToWorkIn.subarray(0, length);
}

/** As `workNumbers`. */
export function workCodes(length: number): Uint32Array {
  if (length > WORK_LENGTH) return new Uint32Array(length);
  codesToWorkIn ??= new Uint32Array(WORK_LENGTH);
  return codesToWorkIn.subarray(0, length);
}

/** The narrowest array of `length` zeros for codes below `distinct`. */
export function codesFor(distinct: number, length: number): Codes {
  if (distinct <= 0x100) return new Uint8Array(length);
  return distinct <= 0x1_0000 ? new Uint16Array(length) : new Uint32Array(length);
}

/** Codes into a dictionary. Code 0 is null in every dictionary, so `dictionary[0]` is null. */
export class DictionaryVector {
  readonly codes: Codes;
  readonly dictionary: readonly (string | null)[];
  readonly #datasets: (readonly Dataset[] | null)[];

  /** `datasets`: entries that are parsed already, by code. */
  constructor(
    codes: Codes,
    dictionary: readonly (string | null)[],
    datasets: (readonly Dataset[] | null)[] = [],
  ) {
    this.codes = codes;
    this.dictionary = dictionary;
    this.#datasets = datasets;
  }

  get length(): number {
    return this.codes.length;
  }

  at(i: number): string | null {
    return this.dictionary[this.codes[i]!]!;
  }

  isNull(i: number): boolean {
    return this.codes[i] === 0;
  }

  /** Whether no row has a value, as far as can be told without looking at each. */
  get isAllNull(): boolean {
    return this.dictionary.length === 1;
  }

  /** As that of `NumberVector`. */
  presence(start = 0, end = this.length): Uint8Array {
    const present = new Uint8Array(end - start);
    if (this.isAllNull) return present;
    const { codes } = this;
    for (let i = start; i < end; i++) if (codes[i] !== 0) present[i - start] = 1;
    return present;
  }

  /** The entry as a list of tables: parsed once, frozen, shared by all rows that have it. */
  datasets(code: number): readonly Dataset[] {
    const known = this.#datasets[code];
    if (known !== undefined && known !== null) return known;
    const text = this.dictionary[code];
    const parsed = text === null || text === undefined ? [] : parseDatasets(text);
    this.#datasets[code] = parsed;
    return parsed;
  }

  get sizeBytes(): number {
    // 16 bytes of header per string and 8 of pointer: V8's own figures, one byte per Latin-1 character.
    return this.dictionary.reduce((sum, text) => sum + 24 + (text?.length ?? 0), this.codes.byteLength);
  }
}

const NO_BYTES = new Uint8Array(0);
/** Offsets of texts that are all null: shared, grown by doubling, never written again. */
let allNull = new Int32Array(0);

/**
 * Texts as UTF-8, end to end. `offsets[i]` is where row i starts; for null it is the bitwise complement of that
 * (negative), which costs no bitmap and keeps the end of row i − 1 readable.
 */
export class TextVector {
  readonly #bytes: Uint8Array;
  readonly #offsets: Int32Array;
  readonly #buffer: Buffer;

  /** As that of `DictionaryVector`; where true the offsets are shared. */
  readonly isAllNull: boolean;

  constructor(bytes: Uint8Array = NO_BYTES, offsets: Int32Array = new Int32Array(1), isAllNull = false) {
    this.isAllNull = isAllNull;
    this.#bytes = bytes;
    this.#offsets = offsets;
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.#offsets.length - 1;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get offsets(): Int32Array {
    return this.#offsets;
  }

  /** A column without a value: it takes no memory of its own, however long. */
  static nulls(length: number): TextVector {
    if (allNull.length < length + 1)
      allNull = new Int32Array(Math.max(length + 1, allNull.length * 2)).fill(~0);
    return new TextVector(NO_BYTES, allNull.subarray(0, length + 1), true);
  }

  start(i: number): number {
    const offset = this.#offsets[i]!;
    return offset < 0 ? ~offset : offset;
  }

  at(i: number): string | null {
    const offset = this.#offsets[i]!;
    return offset < 0 ? null : this.#buffer.toString('utf8', offset, this.start(i + 1));
  }

  isNull(i: number): boolean {
    return this.#offsets[i]! < 0;
  }

  /** As that of `NumberVector`. */
  presence(start = 0, end = this.length): Uint8Array {
    const present = new Uint8Array(end - start);
    if (this.isAllNull) return present;
    const offsets = this.#offsets;
    for (let i = start; i < end; i++) if (offsets[i]! >= 0) present[i - start] = 1;
    return present;
  }

  get sizeBytes(): number {
    return this.#bytes.byteLength + (this.isAllNull ? 0 : this.#offsets.byteLength);
  }
}
