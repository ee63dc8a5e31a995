import type { ColumnChunk, KeyValue, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { ParquetWriter } from 'hyparquet-writer/src/parquet-writer.js';
import type { PageIndexes } from 'hyparquet-writer/src/types.js';
import { unconvertMinMax } from 'hyparquet-writer/src/unconvert.js';
import { defaultLimits } from '../core/limits.ts';
import type { EncodeOptions, PartCodec } from './codec.ts';
import { COLUMNS, type ColumnDefinition, isOptional, type StoredColumn } from './columns.ts';
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
import { partMetadata } from './part-format.ts';
import type { Rows } from './rows.ts';
import { type Bounds, dictionaryBounds, joinBounds, numberBounds, textBounds } from './statistics.ts';
import { DictionaryVector, type NumberVector, TextVector, type Vector } from './vectors.ts';

/** Bytes of a text bound in the footer: run ids and table names share long prefixes, so 16 would prune nothing. */
const BOUND_BYTES_MAX = 64;
/** Rows per page where pages are indexed: the unit of a ranged read. */
const INDEXED_PAGE_ROWS = 2_000;

/**
 * Parquet with zstd pages. Footer, page index and thrift are hyparquet-writer's; the pages are ours
 * (pages-write.ts). The same rows in the same order give the same bytes with one zstd version.
 */
export const hyparquetCodec: PartCodec = {
  name: 'hyparquet',
  encode: async (rows, options = {}) => encode(rows, options),
};

function encode(rows: Rows, options: EncodeOptions): Uint8Array {
  const out = new ByteWriter(64 * 1024 + rows.length * 24);
  const kvMetadata: KeyValue[] = partMetadata(rows.orgId).map(([key, value]) => ({ key, value }));
  const file = new ParquetWriter({
    writer: out,
    schema: SCHEMA,
    codec: 'ZSTD',
    statisticsTruncateLength: BOUND_BYTES_MAX,
    kvMetadata,
    createdBy: 'runfold',
  });
  const groupRows = Math.max(1, options.rowGroupRows ?? defaultLimits.rowGroupRows);
  const pageRows = options.pageIndex === true ? INDEXED_PAGE_ROWS : defaultLimits.rowGroupRows;
  for (let start = 0; start < rows.length; start += groupRows) {
    const end = Math.min(start + groupRows, rows.length);
    const groupStart = out.offset;
    const chunks = COLUMNS.map((definition) =>
      writeChunk(out, definition, rows, { start, end, pageRows, index: options.pageIndex === true }),
    );
    file.pendingIndexes.push(...chunks);
    file.num_rows += BigInt(end - start);
    file.row_groups.push({
      columns: chunks.map(({ chunk }) => chunk),
      total_byte_size: chunks.reduce((sum, { chunk }) => sum + chunk.meta_data!.total_uncompressed_size, 0n),
      num_rows: BigInt(end - start),
      total_compressed_size: BigInt(out.offset - groupStart),
    });
  }
  file.finish();
  return out.getBytes().slice();
}

interface Range {
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

function writeChunk(out: ByteWriter, definition: ColumnDefinition, rows: Rows, range: Range): PageIndexes {
  const element = ELEMENTS.get(definition.name)!;
  const optional = isOptional(definition);
  const source = pageSource(definition, rows, range);
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
        ...(whole.min === null ? {} : { min_value: whole.min, max_value: whole.max! }),
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

function pageSource(definition: ColumnDefinition, rows: Rows, range: Range): PageSource {
  if (definition.kind === 'constant') return constantSource(rows.orgId);
  const vector: Vector = rows.vector(definition.name as StoredColumn);
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
function dictionarySource(definition: ColumnDefinition, vector: DictionaryVector, range: Range): PageSource {
  const { codes, dictionary } = vector;
  const local = new Uint32Array(dictionary.length);
  const entries: Uint8Array[] = [];
  for (let i = range.start; i < range.end; i++) {
    const code = codes[i]!;
    if (code !== 0 && local[code] === 0) local[code] = entries.push(encoder.encode(dictionary[code]!));
  }
  return {
    entries,
    levels: (start, end) => levelsOf(vector, start, end),
    body: (start, end) => {
      const indexes = new Uint32Array(end - start);
      let values = 0;
      for (let i = start; i < end; i++) {
        const code = codes[i]!;
        if (code !== 0) indexes[values++] = local[code]! - 1;
      }
      return dictionaryBody(indexes.subarray(0, values), entries.length);
    },
    bounds: (start, end) => dictionaryBounds(codes, local, entries, start, end, definition.statistics),
  };
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

const ELEMENTS = new Map<string, SchemaElement>(
  COLUMNS.map((definition) => [definition.name, schemaElement(definition)]),
);
const SCHEMA: SchemaElement[] = [
  { name: 'runfold_part', num_children: COLUMNS.length },
  ...ELEMENTS.values(),
];

function schemaElement(definition: ColumnDefinition): SchemaElement {
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
