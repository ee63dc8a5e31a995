import type { ColumnKind } from './columns.ts';
import { type Chunk, fail, type Page, readIndexes, readTexts, type Texts } from './pages-read.ts';
import { dictionaryBody } from './pages-write.ts';

/**
 * A chunk of these rows only, in the same form, so that the same code reads it: `wanted` are numbers of rows within the
 * chunk, rising. Who wants a hundred rows of twenty thousand is spared the vectors of all of them.
 */
export function pickRows({ entries, pages }: Chunk, kind: ColumnKind, wanted: Uint32Array): Chunk {
  const used = entries === null ? null : new UsedEntries(entries);
  const picked: Page[] = [];
  let start = 0;
  let from = 0;
  for (const page of pages) {
    const end = start + page.rows;
    let to = from;
    while (to < wanted.length && wanted[to]! < end) to++;
    if (to > from) picked.push(pickOfPage(page, kind, rowsFrom(wanted.subarray(from, to), start), used));
    start = end;
    from = to;
  }
  return { entries: used === null ? null : used.texts(), pages: picked };
}

/** Numbers as they count from row `start`. */
export function rowsFrom(wanted: Uint32Array, start: number): Uint32Array {
  return start === 0 ? wanted : wanted.map((row) => row - start);
}

/** The entries that are used, numbered anew. */
class UsedEntries {
  readonly #all: Texts;
  readonly #numbers = new Map<number, number>();

  constructor(all: Texts) {
    this.#all = all;
  }

  get count(): number {
    return this.#all.lengths.length;
  }

  number(index: number): number {
    let number = this.#numbers.get(index);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(index, number);
    }
    return number;
  }

  texts(): Texts {
    const starts = new Map<number, number>();
    let at = 0;
    for (let index = 0; index < this.count; index++) {
      if (this.#numbers.has(index)) starts.set(index, at);
      at += this.#all.lengths[index]!;
    }
    const indexes = [...this.#numbers.keys()];
    const lengths = Int32Array.from(indexes, (index) => this.#all.lengths[index]!);
    const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
    let to = 0;
    for (const [k, index] of indexes.entries()) {
      const start = starts.get(index)!;
      bytes.set(this.#all.bytes.subarray(start, start + lengths[k]!), to);
      to += lengths[k]!;
    }
    return { lengths, bytes };
  }
}

function pickOfPage(page: Page, kind: ColumnKind, wanted: Uint32Array, used: UsedEntries | null): Page {
  const { levels, values } = placesOf(page, wanted);
  const picked = (encoding: string, body: Uint8Array): Page => {
    return { rows: wanted.length, levels, values: values.length, encoding, body };
  };
  if (page.encoding === 'RLE_DICTIONARY') {
    if (used === null) fail('it has codes but no dictionary');
    const indexes = readIndexes(page, used.count);
    const codes = values.map((value) => used.number(indexes[value]!));
    return picked(page.encoding, dictionaryBody(codes, used.count).bytes);
  }
  if (kind === 'flag') return picked(page.encoding, pickBits(page, values));
  if (kind === 'integer' || kind === 'time') return picked(page.encoding, pickNumbers(page, values));
  return picked('PLAIN', pickTexts(page, values));
}

function pickBits({ body }: Page, values: Uint32Array): Uint8Array {
  const bits = new Uint8Array(Math.ceil(values.length / 8));
  values.forEach((value, k) => {
    bits[k >> 3]! |= ((body[value >> 3]! >> (value & 7)) & 1) << (k & 7);
  });
  return bits;
}

function pickNumbers({ body, values: count }: Page, values: Uint32Array): Uint8Array {
  if (body.length !== count * 8) fail(`${count} numbers in ${body.length} bytes`);
  const numbers = new Uint8Array(values.length * 8);
  values.forEach((value, k) => {
    for (let b = 0; b < 8; b++) numbers[k * 8 + b] = body[value * 8 + b]!;
  });
  return numbers;
}

function pickTexts(page: Page, values: Uint32Array): Uint8Array {
  const { lengths, bytes } = readTexts(page);
  const size = values.reduce((sum, value) => sum + 4 + lengths[value]!, 0);
  const texts = new Uint8Array(size);
  const view = new DataView(texts.buffer);
  let value = 0;
  let from = 0;
  let at = 0;
  for (const wanted of values) {
    for (; value < wanted; value++) from += lengths[value]!;
    const length = lengths[value]!;
    view.setUint32(at, length, true);
    texts.set(bytes.subarray(from, from + length), at + 4);
    at += 4 + length;
  }
  return texts;
}

/** Which of the page's values the rows have, and where they have none. */
function placesOf(page: Page, wanted: Uint32Array): { levels: Uint8Array | null; values: Uint32Array } {
  if (page.levels === null) return { levels: null, values: wanted };
  const all = page.levels.byteOffset % 4 === 0 ? page.levels : page.levels.slice();
  const words = new Uint32Array(all.buffer, all.byteOffset, all.length >> 2);
  const levels = new Uint8Array(wanted.length);
  const values = new Uint32Array(wanted.length);
  let count = 0;
  let before = 0;
  let from = 0;
  for (let k = 0; k < wanted.length; k++) {
    const row = wanted[k]!;
    before += countOnes(all, words, from, row);
    from = row;
    levels[k] = all[row]!;
    if (levels[k] === 1) values[count++] = before;
  }
  return { levels, values: values.subarray(0, count) };
}

/** Of bytes that are 0 or 1, which `words` are too: four at a time, as most rows are passed over. */
function countOnes(levels: Uint8Array, words: Uint32Array, from: number, to: number): number {
  let ones = 0;
  let at = from;
  while (at < to && at % 4 !== 0) ones += levels[at++]!;
  for (; at + 4 <= to; at += 4) ones += Math.imul(words[at >> 2]!, 0x01010101) >>> 24;
  while (at < to) ones += levels[at++]!;
  return ones;
}
