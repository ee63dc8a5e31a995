import type { ColumnKind } from './columns.ts';
import { type Chunk, countOnes, fail, type Page, pickIndexes, readTexts, type Texts } from './pages-read.ts';
import { dictionaryBody } from './pages-write.ts';

/**
 * A chunk of these rows only, in the same form, so that the same code reads it: `wanted` are numbers of rows within the
 * chunk, rising. Who wants a hundred rows of twenty thousand is spared the vectors of all of them, and does not even unpack
 * pages, or a dictionary, of which these rows have nothing: of a run that has not ended, half the columns.
 */
export function pickRows(chunk: Chunk, kind: ColumnKind, wanted: Uint32Array): Chunk {
  let used: UsedEntries | null = null;
  const entries = () => {
    if (chunk.entries === null) fail('it has codes but no dictionary');
    used ??= new UsedEntries(chunk.entries);
    return used;
  };
  const picked: Page[] = [];
  let start = 0;
  let from = 0;
  for (const page of chunk.pages) {
    const end = start + page.rows;
    let to = from;
    while (to < wanted.length && wanted[to]! < end) to++;
    if (to > from) picked.push(pickOfPage(page, kind, rowsFrom(wanted.subarray(from, to), start), entries));
    start = end;
    from = to;
  }
  return { entries: (used as UsedEntries | null)?.texts() ?? null, pages: picked };
}

const NOTHING = new Uint8Array(0);

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

function pickOfPage(page: Page, kind: ColumnKind, wanted: Uint32Array, entries: () => UsedEntries): Page {
  const { levels, values } = placesOf(page, wanted);
  const picked = (encoding: string, body: Uint8Array): Page => {
    return { rows: wanted.length, levels, values: values.length, encoding, body };
  };
  if (values.length === 0) return picked('PLAIN', NOTHING);
  if (page.encoding === 'RLE_DICTIONARY') {
    const used = entries();
    const codes = pickIndexes(page, used.count, values).map((index) => used.number(index));
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
  for (let k = 0, to = 0; k < values.length; k++) {
    const from = values[k]! * 8;
    for (let b = 0; b < 8; b++) numbers[to++] = body[from + b]!;
  }
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
  const all = page.levels;
  const levels = new Uint8Array(wanted.length);
  const values = new Uint32Array(wanted.length);
  let count = 0;
  let before = 0;
  let from = 0;
  for (let k = 0; k < wanted.length; k++) {
    const row = wanted[k]!;
    before += countOnes(all, from, row);
    from = row;
    levels[k] = all[row]!;
    if (levels[k] === 1) values[count++] = before;
  }
  return { levels, values: values.subarray(0, count) };
}
