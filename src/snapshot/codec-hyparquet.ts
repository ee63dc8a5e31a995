import type { KeyValue, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { ParquetWriter } from 'hyparquet-writer/src/parquet-writer.js';
import { defaultLimits } from '../core/limits.ts';
import { BOUND_BYTES_MAX, type ChunkRange, schemaElement, writeChunk } from './chunks-write.ts';
import { COLUMNS, type ColumnDefinition, type StoredColumn } from './columns.ts';
import type { EncodeOptions, PartCodec } from './part-codec.ts';
import { partMetadata } from './part-format.ts';
import type { Rows } from './rows.ts';

/** Rows per page where pages are indexed: the unit of a ranged read. */
const INDEXED_PAGE_ROWS = 2_000;

/**
 * Parquet with zstd pages. Footer, page index and thrift are hyparquet-writer's; the pages are ours
 * (chunks-write.ts, pages-write.ts). The same rows in the same order give the same bytes with one zstd version.
 */
export const hyparquetCodec: PartCodec = {
  name: 'hyparquet',
  encode: async (rows, options = {}) => encode(rows, options),
};

function encode(rows: Rows, options: EncodeOptions): Uint8Array {
  const file = new ParquetFile(rows.orgId, { ...options, sizeHintBytes: 64 * 1024 + rows.length * 80 });
  file.push(rows);
  return file.finish();
}

/**
 * A file that is made row group by row group. Whoever sends it on takes what there is after each `push`; memory then
 * holds one group, and some hundred bytes of footer per column and group.
 */
export class ParquetFile {
  readonly #out: ByteWriter;
  readonly #file: ParquetWriter;
  readonly #options: EncodeOptions;

  constructor(orgId: string, options: EncodeOptions & { sizeHintBytes?: number } = {}) {
    this.#options = options;
    this.#out = new ByteWriter(options.sizeHintBytes ?? 64 * 1024);
    this.#file = new ParquetWriter({
      writer: this.#out,
      schema: SCHEMA,
      codec: 'ZSTD',
      statisticsTruncateLength: BOUND_BYTES_MAX,
      kvMetadata: partMetadata(orgId).map(([key, value]): KeyValue => ({ key, value })),
      createdBy: 'runfold',
    });
  }

  /** All columns must have been read. */
  push(rows: Rows): void {
    const { rowGroupRows, pageIndex = false } = this.#options;
    const groupRows = Math.max(1, rowGroupRows ?? defaultLimits.rowGroupRows);
    const pageRows = pageIndex ? INDEXED_PAGE_ROWS : defaultLimits.rowGroupRows;
    for (let start = 0; start < rows.length; start += groupRows) {
      const end = Math.min(start + groupRows, rows.length);
      this.#pushGroup(rows, { start, end, pageRows, index: pageIndex });
    }
  }

  #pushGroup(rows: Rows, range: ChunkRange): void {
    const [out, file] = [this.#out, this.#file];
    const groupStart = out.offset;
    const chunks = COLUMNS.map((definition: ColumnDefinition) => {
      const { kind, name } = definition;
      const column = kind === 'constant' ? rows.orgId : rows.vector(name as StoredColumn);
      return writeChunk(out, definition, column, range);
    });
    const count = BigInt(range.end - range.start);
    file.pendingIndexes.push(...chunks);
    file.num_rows += count;
    file.row_groups.push({
      columns: chunks.map(({ chunk }) => chunk),
      total_byte_size: chunks.reduce((sum, { chunk }) => sum + chunk.meta_data!.total_uncompressed_size, 0n),
      num_rows: count,
      total_compressed_size: BigInt(out.offset - groupStart),
    });
  }

  /** The bytes since the last call. */
  take(): Uint8Array {
    const bytes = this.#out.getBytes().slice();
    this.#out.index = 0;
    return bytes;
  }

  /** The rest, with the footer. */
  finish(): Uint8Array {
    this.#file.finish();
    return this.take();
  }
}

const SCHEMA: SchemaElement[] = [
  { name: 'runfold_part', num_children: COLUMNS.length },
  ...COLUMNS.map(schemaElement),
];
