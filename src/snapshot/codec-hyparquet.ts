import type { KeyValue, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { ParquetWriter } from 'hyparquet-writer/src/parquet-writer.js';
import { defaultLimits } from '../core/limits.ts';
import { BOUND_BYTES_MAX, schemaElement, writeChunk } from './chunks-write.ts';
import type { EncodeOptions, PartCodec } from './codec.ts';
import { COLUMNS, type ColumnDefinition, type StoredColumn } from './columns.ts';
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
    const range = { start, end, pageRows, index: options.pageIndex === true };
    const chunks = COLUMNS.map((definition: ColumnDefinition) => {
      const { kind, name } = definition;
      const column = kind === 'constant' ? rows.orgId : rows.vector(name as StoredColumn);
      return writeChunk(out, definition, column, range);
    });
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

const SCHEMA: SchemaElement[] = [
  { name: 'runfold_part', num_children: COLUMNS.length },
  ...COLUMNS.map(schemaElement),
];
