import { RunfoldError } from '../core/errors.ts';
import { wellFormed } from './datasets.ts';
import { DictionaryVector, NumberVector, narrowed, TextVector } from './vectors.ts';

/** Grow by doubling; `build` takes what was filled. A builder is used once. */
export class NumberBuilder {
  #numbers: Float64Array;
  #length = 0;

  constructor(capacity: number) {
    this.#numbers = new Float64Array(capacity);
  }

  push(value: number | null): void {
    if (this.#length === this.#numbers.length) this.#reserve(1);
    this.#numbers[this.#length++] = value ?? Number.NaN;
  }

  copy(from: NumberVector, i: number): void {
    if (this.#length === this.#numbers.length) this.#reserve(1);
    this.#numbers[this.#length++] = from.raw(i);
  }

  gather(from: NumberVector, indexes: Uint32Array): void {
    this.#reserve(indexes.length);
    const end = this.#length + indexes.length;
    if (from.isAllNull) this.#numbers.fill(Number.NaN, this.#length, end);
    else from.gatherTo(this.#numbers, this.#length, indexes);
    this.#length = end;
  }

  build(): NumberVector {
    return new NumberVector(this.#numbers.subarray(0, this.#length));
  }

  #reserve(more: number): void {
    const need = this.#length + more;
    if (need <= this.#numbers.length) return;
    const grown = new Float64Array(Math.max(need, this.#numbers.length * 2, 16));
    grown.set(this.#numbers.subarray(0, this.#length));
    this.#numbers = grown;
  }
}

export class DictionaryBuilder {
  #codes: Uint32Array;
  #length = 0;
  #dictionary: (string | null)[] = [null];
  /** Made when a value first has to be looked up. */
  #codeOf: Map<string, number> | null = null;
  /** Codes of the last source in ours, 0 where not yet known: copies mostly come from one source. */
  #source: DictionaryVector | null = null;
  #mapping = new Uint32Array(0);

  constructor(capacity: number) {
    this.#codes = new Uint32Array(capacity);
  }

  push(value: string | null): void {
    if (this.#length === this.#codes.length) this.#reserve(1);
    this.#codes[this.#length++] = value === null ? 0 : this.#intern(value);
  }

  copy(from: DictionaryVector, i: number): void {
    if (this.#length === this.#codes.length) this.#reserve(1);
    this.#codes[this.#length++] = this.#translate(from, from.codes[i]!);
  }

  gather(from: DictionaryVector, indexes: Uint32Array): void {
    this.#reserve(indexes.length);
    if (from.isAllNull) {
      this.#length += indexes.length;
      return;
    }
    if (this.#dictionary.length === 1 && indexes.length * 2 >= from.length) this.#adopt(from);
    this.#translate(from, 0);
    const mapping = this.#mapping;
    const { codes } = from;
    const out = this.#codes;
    let at = this.#length;
    for (let k = 0; k < indexes.length; k++) {
      const code = codes[indexes[k]!]!;
      const known = mapping[code]!;
      out[at++] = known !== 0 || code === 0 ? known : this.#translate(from, code);
    }
    this.#length = at;
  }

  build(): DictionaryVector {
    const codes = narrowed(this.#codes.subarray(0, this.#length), this.#dictionary.length);
    return new DictionaryVector(codes, this.#dictionary);
  }

  /** Takes over the dictionary of a source most of whose rows come: few of its entries will have no row. */
  #adopt(from: DictionaryVector): void {
    this.#dictionary = from.dictionary.slice();
    this.#source = from;
    this.#mapping = Uint32Array.from(from.dictionary.keys());
  }

  #translate(from: DictionaryVector, code: number): number {
    if (this.#source !== from) {
      this.#source = from;
      this.#mapping = new Uint32Array(from.dictionary.length);
    }
    if (code === 0) return 0;
    const known = this.#mapping[code]!;
    if (known !== 0) return known;
    const ours = this.#intern(from.dictionary[code]!);
    this.#mapping[code] = ours;
    return ours;
  }

  #intern(value: string): number {
    this.#codeOf ??= this.#lookup();
    const known = this.#codeOf.get(value);
    if (known !== undefined) return known;
    const text = wellFormed(value);
    if (text !== value) return this.#intern(text);
    const code = this.#dictionary.push(text) - 1;
    this.#codeOf.set(text, code);
    return code;
  }

  #lookup(): Map<string, number> {
    const codeOf = new Map<string, number>();
    for (let code = 1; code < this.#dictionary.length; code++) codeOf.set(this.#dictionary[code]!, code);
    return codeOf;
  }

  #reserve(more: number): void {
    const need = this.#length + more;
    if (need <= this.#codes.length) return;
    const grown = new Uint32Array(Math.max(need, this.#codes.length * 2, 16));
    grown.set(this.#codes.subarray(0, this.#length));
    this.#codes = grown;
  }
}

const encoder = new TextEncoder();
/** More rows may follow, and may be longer: growing copies everything. */
const TEXT_SLACK = 1.1;
/** Offsets are signed 32-bit numbers. */
const TEXT_BYTES_MAX = 0x7fff_ffff;

export class TextBuilder {
  #bytes: Uint8Array;
  #used = 0;
  #offsets: Int32Array;
  #length = 0;

  constructor(capacity: number) {
    this.#offsets = new Int32Array(capacity + 1);
    this.#bytes = new Uint8Array(0);
  }

  push(value: string | null): void {
    this.#reserveRows(1);
    this.#offsets[this.#length++] = value === null ? ~this.#used : this.#used;
    if (value === null) return;
    this.#reserveBytes(value.length * 3);
    this.#used += encoder.encodeInto(value, this.#bytes.subarray(this.#used)).written;
  }

  copy(from: TextVector, i: number): void {
    this.#reserveRows(1);
    this.#offsets[this.#length++] = from.isNull(i) ? ~this.#used : this.#used;
    this.#append(from, from.start(i), from.start(i + 1));
  }

  /** Neighbours in the source are copied in one piece. */
  gather(from: TextVector, indexes: Uint32Array): void {
    this.#reserveRows(indexes.length);
    if (this.#length === 0 && indexes.length <= from.length) {
      const expected = from.bytes.length * (indexes.length / from.length) * TEXT_SLACK;
      this.#reserveBytes(Math.min(Math.ceil(expected) || 0, TEXT_BYTES_MAX));
    }
    const { offsets } = from;
    for (let k = 0; k < indexes.length; ) {
      const first = indexes[k]!;
      let run = 1;
      while (k + run < indexes.length && indexes[k + run] === first + run) run++;
      const start = from.start(first);
      const shift = this.#used - start;
      for (let i = first; i < first + run; i++) {
        const offset = offsets[i]!;
        // ~(o + shift) is ~o − shift.
        this.#offsets[this.#length++] = offset < 0 ? offset - shift : offset + shift;
      }
      this.#append(from, start, from.start(first + run));
      k += run;
    }
  }

  build(): TextVector {
    // Empty texts take no bytes either, so the offsets have to be asked.
    if (this.#used === 0 && this.#offsets.subarray(0, this.#length).every((offset) => offset < 0))
      return TextVector.nulls(this.#length);
    const offsets = this.#offsets.slice(0, this.#length + 1);
    offsets[this.#length] = this.#used;
    return new TextVector(this.#bytes.slice(0, this.#used), offsets);
  }

  #append(from: TextVector, start: number, end: number): void {
    if (start === end) return;
    this.#reserveBytes(end - start);
    if (end - start > 64) {
      this.#bytes.set(from.bytes.subarray(start, end), this.#used);
      this.#used += end - start;
      return;
    }
    // For an id a loop is quicker than making a view.
    const bytes = this.#bytes;
    const source = from.bytes;
    let used = this.#used;
    for (let at = start; at < end; at++) bytes[used++] = source[at]!;
    this.#used = used;
  }

  #reserveRows(more: number): void {
    const need = this.#length + more + 1;
    if (need <= this.#offsets.length) return;
    const grown = new Int32Array(Math.max(need, this.#offsets.length * 2, 16));
    grown.set(this.#offsets.subarray(0, this.#length));
    this.#offsets = grown;
  }

  #reserveBytes(more: number): void {
    const need = this.#used + more;
    if (need <= this.#bytes.length) return;
    if (need > TEXT_BYTES_MAX) {
      throw new RunfoldError('LIMIT_EXCEEDED', `One text column would exceed ${TEXT_BYTES_MAX} bytes.`, {
        hint: 'Build fewer rows at a time.',
      });
    }
    const grown = new Uint8Array(Math.min(Math.max(need, this.#bytes.length * 2, 256), TEXT_BYTES_MAX));
    grown.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = grown;
  }
}
