import { isAscii } from 'node:buffer';
import type { FileMetaData, RowGroup } from 'hyparquet';
import type { Dataset } from '../runs/run.ts';
import { type ColumnDefinition, isOptional } from './columns.ts';
import { DatasetScanner } from './datasets.ts';
import { pickRows, rowsFrom } from './pages-pick.ts';
import {
  type Chunk,
  fail,
  type Page,
  readChunk,
  readFlags,
  readIndexes,
  readNumbers,
  readTexts,
  type Texts,
  textsOf,
} from './pages-read.ts';
import { UUID_BYTES, UuidVector } from './uuid-vector.ts';
import {
  codesFor,
  DictionaryVector,
  NumberVector,
  narrowed,
  TextVector,
  type Vector,
  workCodes,
  workNumbers,
} from './vectors.ts';

/**
 * One column of all row groups as a vector, or of the rows with these numbers, which rise: then only what is said of
 * them is checked, and groups without any are not touched. Throws plain Errors for malformed bytes.
 */
export function decodeColumn(
  bytes: Uint8Array,
  metadata: FileMetaData,
  definition: ColumnDefinition,
  length: number,
  wanted: Uint32Array | null = null,
): Vector {
  const rows = wanted?.length ?? length;
  if (definition.since > 1 && !metadata.row_groups.some((group) => metaOf(group, definition)))
    return allNull(definition, rows);
  const chunks =
    wanted === null
      ? metadata.row_groups.map((group) => unpacked(chunkOf(bytes, group, definition)))
      : pickedChunks(bytes, metadata, definition, wanted);
  const kind = definition.kind;
  if (chunks.every(({ pages }) => pages.every(({ values }) => values === 0))) {
    if (isOptional(definition)) return allNull(definition, rows);
  }
  if (kind === 'text') return decodeTexts(chunks, rows);
  if (kind === 'dictionary' || kind === 'datasets' || kind === 'constant') {
    return decodeDictionary(chunks, rows, definition);
  }
  const numbers = workNumbers(rows);
  let at = 0;
  for (const page of chunks.flatMap((chunk) => chunk.pages)) {
    if (kind === 'flag') readFlags(page, numbers, at);
    else readNumbers(page, numbers, at);
    at += page.rows;
  }
  const vector = new NumberVector(numbers);
  if (vector.min < definition.min) fail(`${vector.min} is below ${definition.min}`);
  return vector;
}

function chunkOf(bytes: Uint8Array, group: RowGroup, definition: ColumnDefinition): Chunk {
  const meta = metaOf(group, definition);
  if (meta === undefined) fail('it is missing in a row group');
  return readChunk(bytes, meta, Number(group.num_rows), isOptional(definition));
}

/** Whoever reads all rows finds out what is wrong with any page, also with one that has no values. */
function unpacked(chunk: Chunk): Chunk {
  void chunk.entries;
  for (const page of chunk.pages) void page.body;
  return chunk;
}

function pickedChunks(
  bytes: Uint8Array,
  metadata: FileMetaData,
  definition: ColumnDefinition,
  wanted: Uint32Array,
): Chunk[] {
  const chunks: Chunk[] = [];
  let start = 0;
  let from = 0;
  for (const group of metadata.row_groups) {
    const end = start + Number(group.num_rows);
    let to = from;
    while (to < wanted.length && wanted[to]! < end) to++;
    if (to > from) {
      const rows = rowsFrom(wanted.subarray(from, to), start);
      chunks.push(pickRows(chunkOf(bytes, group, definition), definition.kind, rows));
    }
    start = end;
    from = to;
  }
  return chunks;
}

function metaOf(group: RowGroup, { name }: ColumnDefinition) {
  return group.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === name)?.meta_data;
}

/** A column that came after the part was written, or that no row has a value of. */
function allNull({ kind }: ColumnDefinition, rows: number): Vector {
  if (kind === 'text') return TextVector.nulls(rows);
  if (kind === 'dictionary') return new DictionaryVector(codesFor(1, rows), [null]);
  return new NumberVector(new Float64Array(rows).fill(Number.NaN));
}

function decodeTexts(chunks: readonly Chunk[], rows: number): TextVector {
  const pages = chunks.flatMap((chunk) => chunk.pages).map((page) => ({ page, texts: readTexts(page) }));
  const size = pages.reduce((sum, { texts }) => sum + texts.bytes.length, 0);
  if (size > 0x7fff_ffff) fail('its texts exceed 2 GiB');
  const bytes = new Uint8Array(size);
  let used = 0;
  for (const { texts } of pages) {
    bytes.set(texts.bytes, used);
    used += texts.bytes.length;
  }
  if (size === rows * UUID_BYTES && pages.every(({ texts }) => areOf(UUID_BYTES, texts.lengths))) {
    const uuids = UuidVector.of(bytes, rows);
    if (uuids !== null) return uuids;
  }
  const offsets = new Int32Array(rows + 1);
  let row = 0;
  used = 0;
  for (const { page, texts } of pages) {
    let value = 0;
    for (let i = 0; i < page.rows; i++) {
      if (page.levels !== null && page.levels[i] === 0) {
        offsets[row++] = ~used;
      } else {
        offsets[row++] = used;
        used += texts.lengths[value++]!;
      }
    }
  }
  offsets[rows] = used;
  return new TextVector(bytes, offsets);
}

function areOf(length: number, lengths: Int32Array): boolean {
  for (let i = 0; i < lengths.length; i++) if (lengths[i] !== length) return false;
  return true;
}

function decodeDictionary(
  chunks: readonly Chunk[],
  rows: number,
  definition: ColumnDefinition,
): DictionaryVector {
  const dictionary = new DecodedDictionary(definition);
  const all = workCodes(rows).fill(0);
  let row = 0;
  for (const { entries, pages } of chunks) {
    // The entries of one chunk are distinct, as every writer makes them. If they are not, two codes read the same.
    const isAll = chunks.length === 1 && pages.every(({ encoding }) => encoding === 'RLE_DICTIONARY');
    const known = entries && dictionary.codes(entries, isAll);
    for (const page of pages) {
      scatter(pageCodes(page, known, dictionary), page, all, row);
      row += page.rows;
    }
  }
  const { texts, datasets } = dictionary;
  const vector = new DictionaryVector(narrowed(all, texts.length), texts, datasets);
  // Parsed now, so that what is no list of tables is found here and not in the middle of a view.
  if (definition.kind === 'datasets') for (let code = 1; code < texts.length; code++) vector.datasets(code);
  return vector;
}

class DecodedDictionary {
  readonly texts: (string | null)[] = [null];
  /** Lists of tables by code, of a column of such; null: not parsed yet. */
  readonly datasets: (readonly Dataset[] | null)[] = [null];
  readonly #definition: ColumnDefinition;
  readonly #codeOf = new Map<string, number>();

  constructor(definition: ColumnDefinition) {
    this.#definition = definition;
  }

  /** `areNew`: nobody needs to look them up, before or after. */
  codes(entries: Texts, areNew: boolean): Uint32Array {
    const { lengths, bytes } = entries;
    const isDatasets = this.#definition.kind === 'datasets';
    // A slice keeps the string of all alive: not worth it for the few entries that a later chunk adds.
    const texts = textsOf(entries, isDatasets && areNew);
    const scanner = isDatasets && isAscii(bytes) ? new DatasetScanner(bytes) : null;
    const codes = new Uint32Array(texts.length);
    let start = 0;
    for (let i = 0; i < codes.length; i++) {
      const code = areNew ? this.#add(texts[i]!) : this.#intern(texts[i]!);
      const end = start + lengths[i]!;
      if (code === this.datasets.length)
        this.datasets.push(scanner === null ? null : scanner.scan(start, end));
      codes[i] = code;
      start = end;
    }
    return codes;
  }

  #intern(text: string): number {
    const known = this.#codeOf.get(text);
    if (known !== undefined) return known;
    const code = this.#add(text);
    this.#codeOf.set(text, code);
    return code;
  }

  #add(text: string): number {
    const { values } = this.#definition;
    if (values !== null && !values.includes(text)) fail(`${JSON.stringify(text)} is no value`);
    return this.texts.push(text) - 1;
  }
}

function pageCodes(page: Page, known: Uint32Array | null, dictionary: DecodedDictionary): Uint32Array {
  if (page.encoding !== 'RLE_DICTIONARY') return dictionary.codes(readTexts(page), false);
  if (known === null) fail('it has codes but no dictionary');
  const codes = readIndexes(page, known.length);
  for (let i = 0; i < codes.length; i++) codes[i] = known[codes[i]!]!;
  return codes;
}

function scatter(codes: Uint32Array, page: Page, out: Uint32Array, at: number): void {
  const { levels } = page;
  if (levels === null) {
    out.set(codes, at);
    return;
  }
  for (let i = 0, value = 0; i < page.rows; i++) if (levels[i] === 1) out[at + i] = codes[value++]!;
}

/**
 * A field of a group must be null where its group is absent, and only where the group or the field may be: nothing
 * in Parquet says so. `marks` is the column that says where the group is there.
 */
export function checkGroup(
  definition: ColumnDefinition,
  vector: Vector,
  mark: ColumnDefinition,
  marks: Vector,
): void {
  if (vector.isAllNull && marks.isAllNull) return;
  const values = vector.presence();
  const groups = mark.kind === 'flag' ? flagsOf(marks as NumberVector) : marks.presence();
  if (Buffer.compare(values, groups) === 0) return;
  for (let i = 0; i < values.length; i++) {
    const isOdd = values[i] === 0 ? groups[i] === 1 && !definition.nullable : groups[i] === 0;
    if (isOdd) fail(`row ${i} is at odds with ${mark.name}`);
  }
}

function flagsOf(vector: NumberVector): Uint8Array {
  const flags = new Uint8Array(vector.length);
  for (let i = 0; i < flags.length; i++) flags[i] = vector.raw(i);
  return flags;
}
