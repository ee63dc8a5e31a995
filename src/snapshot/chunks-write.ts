import type { ColumnChunk, SchemaElement } from 'hyparquet';
import type { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import type { PageIndexes } from 'hyparquet-writer/src/types.js';
import { unconvertMinMax } from 'hyparquet-writer/src/unconvert.js';
import { type ColumnDefinition, isOptional } from './columns.ts';
import {
  type Body,
  dictionaryBody,
  flagBody,
  type Levels,
  levelsOf,
  numberBody,
  type PageSizes,
  textBody,
  writeDataPage,
  writeDictionaryPage,
} from './pages-write.ts';
import {
  type Bounds,
  dictionaryBounds,
  entryBounds,
  joinBounds,
  numberBounds,
  textBounds,
} from './statistics.ts';
import { DictionaryVector, type NumberVector, TextVector, type Vector, workCodes } from './vectors.ts';

/** Bytes of a text bound in the footer: run ids and table names share long prefixes, so 16 would prune nothing. */
export const BOUND_BYTES_MAX = 64;

/** Rows of one row group, and how many of them go into a page. */
export interface ChunkRange {
  start: number;
  end: number;
  pageRows: number;
  index: boolean;
}

/** Makes the pages of one column in one row group. */
interface PageSource {
  /** UTF-8, in the order of their codes; null: the column has no dictionary. */
  entries: readonly Uint8Array[] | null;
  levels(start: number, end: number): Levels;
  body(start: number, end: number): Body;
  bounds(start: number, end: number): Bounds;
}

/** Writes one column chunk: of a vector, or of one text that all rows share. */
export function writeChunk(
  out: ByteWriter,
  definition: ColumnDefinition,
  column: Vector | string,
  range: ChunkRange,
): PageIndexes {
  const element = schemaElement(definition);
  const optional = isOptional(definition);
  const source = pageSource(definition, column, range);
  const chunkStart = out.offset;
  const total: PageSizes = { compressed: 0, uncompressed: 0 };
  const add = (page: PageSizes) => {
    total.compressed += page.compressed;
    total.uncompressed += page.uncompressed;
    return page.compressed;
  };
  if (source.entries !== null) add(writeDictionaryPage(out, source.entries));
  const dataStart = out.offset;
  const pages: { offset: number; size: number; firstRow: number; rows: number; bounds: Bounds }[] = [];
  let encoding: Body['encoding'] = 'PLAIN';
  for (let start = range.start; start < range.end; start += range.pageRows) {
    const end = Math.min(start + range.pageRows, range.end);
    const offset = out.offset;
    const body = source.body(start, end);
    encoding = body.encoding;
    const levels = optional ? source.levels(start, end) : null;
    const size = add(writeDataPage(out, end - start, optional, levels, body));
    const bounds = source.bounds(start, end);
    pages.push({ offset, size, firstRow: start - range.start, rows: end - start, bounds });
  }
  const whole = joinBounds(pages.map(({ bounds }) => bounds));
  const chunk: ColumnChunk = {
    file_offset: BigInt(chunkStart),
    meta_data: {
      type: element.type!,
      encodings: source.entries === null ? [encoding] : ['PLAIN', encoding],
      path_in_schema: [definition.name],
      codec: 'ZSTD',
      num_values: BigInt(range.end - range.start),
      total_compressed_size: BigInt(total.compressed),
      total_uncompressed_size: BigInt(total.uncompressed),
      data_page_offset: BigInt(dataStart),
      ...(source.entries === null ? {} : { dictionary_page_offset: BigInt(chunkStart) }),
      statistics: {
        null_count: BigInt(whole.nullCount),
        ...(whole.min === null ? {} : { min_value: kept(whole.min), max_value: kept(whole.max!) }),
      },
    },
  };
  if (!range.index) return { chunk };
  const indexes: PageIndexes = {
    chunk,
    offsetIndex: {
      page_locations: pages.map(({ offset, size, firstRow }) => ({
        offset: BigInt(offset),
        compressed_page_size: size,
        first_row_index: BigInt(firstRow),
      })),
    },
  };
  if (!definition.statistics) return indexes;
  const bound = (value: Bounds['min'], isMax: boolean) =>
    unconvertMinMax(value ?? undefined, element, isMax, BOUND_BYTES_MAX) ?? new Uint8Array(0);
  indexes.columnIndex = {
    null_pages: pages.map((page) => page.bounds.nullCount === page.rows),
    min_values: pages.map((page) => bound(page.bounds.min, false)),
    max_values: pages.map((page) => bound(page.bounds.max, true)),
    boundary_order: 'UNORDERED',
    null_counts: pages.map((page) => BigInt(page.bounds.nullCount)),
  };
  return indexes;
}

/** Bounds of texts are views of a whole column, which the footer must not keep alive until the end of the file. */
function kept<T extends number | Uint8Array>(bound: T): T | Uint8Array {
  return typeof bound === 'number' ? bound : bound.slice();
}

function pageSource(definition: ColumnDefinition, column: Vector | string, range: ChunkRange): PageSource {
  if (typeof column === 'string') return constantSource(column);
  const vector = column;
  const levels = (start: number, end: number) => levelsOf(vector, start, end);
  if (vector instanceof DictionaryVector) return dictionarySource(definition, vector, range);
  if (vector instanceof TextVector) {
    return {
      entries: null,
      levels,
      body: (start, end) => textBody(vector, start, end),
      bounds: (start, end) => textBounds(vector, start, end, definition.statistics),
    };
  }
  const numbers: NumberVector = vector;
  const body = definition.kind === 'flag' ? flagBody : numberBody;
  return {
    entries: null,
    levels,
    body: (start, end) => body(numbers, start, end),
    bounds: (start, end) => numberBounds(numbers, start, end, definition.statistics),
  };
}

/**
 * Entries are numbered anew per row group, by first use: a group holds what it needs, and the bytes do not depend
 * on how the rows came about.
 */
function dictionarySource(
  definition: ColumnDefinition,
  vector: DictionaryVector,
  range: ChunkRange,
): PageSource {
  const { codes, dictionary } = vector;
  const local = new Uint32Array(dictionary.length);
  const texts: string[] = [];
  let nullCount = 0;
  for (let i = range.start; i < range.end; i++) {
    const code = codes[i]!;
    if (code === 0) nullCount++;
    else if (local[code] === 0) local[code] = texts.push(dictionary[code]!);
  }
  const entries = encodeAll(texts);
  return {
    entries,
    levels: (start, end) => levelsOf(vector, start, end),
    body: (start, end) => {
      const indexes = workCodes(end - start);
      let values = 0;
      for (let i = start; i < end; i++) {
        const code = codes[i]!;
        if (code !== 0) indexes[values++] = local[code]! - 1;
      }
      return dictionaryBody(indexes.subarray(0, values), entries.length);
    },
    bounds: (start, end) =>
      start === range.start && end === range.end
        ? entryBounds(entries, nullCount, definition.statistics)
        : dictionaryBounds(codes, local, entries, start, end, definition.statistics),
  };
}

/** Each as UTF-8. In one piece where all are ASCII, as they mostly are: a call for each takes five times as long. */
function encodeAll(texts: readonly string[]): Uint8Array[] {
  const joined = texts.join('');
  const bytes = encoder.encode(joined);
  if (bytes.length !== joined.length) return texts.map((text) => encoder.encode(text));
  let end = 0;
  return texts.map((text) => {
    end += text.length;
    return bytes.subarray(end - text.length, end);
  });
}

function constantSource(value: string): PageSource {
  const bytes = encoder.encode(value);
  return {
    entries: [bytes],
    levels: () => null,
    body: (start, end) => dictionaryBody(new Uint32Array(end - start), 1),
    bounds: () => ({ min: bytes, max: bytes, nullCount: 0 }),
  };
}

const encoder = new TextEncoder();

export function schemaElement(definition: ColumnDefinition): SchemaElement {
  const { name, kind } = definition;
  const repetition_type = isOptional(definition) ? 'OPTIONAL' : 'REQUIRED';
  if (kind === 'flag') return { name, repetition_type, type: 'BOOLEAN' };
  if (kind === 'integer') return { name, repetition_type, type: 'INT64' };
  if (kind === 'time') {
    // Both names, the old and the new, so that every reader sees a time.
    const logical_type = { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MILLIS' } as const;
    return { name, repetition_type, type: 'INT64', converted_type: 'TIMESTAMP_MILLIS', logical_type };
  }
  const logical_type = { type: 'STRING' } as const;
  return { name, repetition_type, type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type };
}
