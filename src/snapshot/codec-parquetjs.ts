import { Writable } from 'node:stream';
import parquet, { type Field } from 'parquetjs-lite';
import { defaultLimits } from '../core/limits.ts';
import { COLUMNS, type ColumnDefinition, isOptional, type StoredColumn } from './columns.ts';
import type { EncodeOptions, PartCodec } from './part-codec.ts';
import { partMetadata } from './part-format.ts';
import type { Rows } from './rows.ts';

interface ParquetjsOptions {
  compression?: 'SNAPPY' | 'GZIP';
}

/**
 * Parts as parquetjs-lite writes them, for consumers that read with it: it cannot open zstd pages, nor its own file
 * where a column is a TIMESTAMP, so times are plain INT64 here. Thirty to fifty times slower than the default codec and
 * twice the size; its pages carry no checksum, so only the whole object's tells of a flipped bit.
 */
export function parquetjsCodec({ compression = 'SNAPPY' }: ParquetjsOptions = {}): PartCodec {
  return { name: 'parquetjs', encode: (rows, options = {}) => encode(rows, options, compression) };
}

async function encode(rows: Rows, options: EncodeOptions, compression: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const sink = new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  const schema = new parquet.ParquetSchema(
    Object.fromEntries(COLUMNS.map((definition) => [definition.name, field(definition, compression)])),
  );
  const writer = await parquet.ParquetWriter.openStream(schema, sink, {
    rowGroupSize: options.rowGroupRows ?? defaultLimits.rowGroupRows,
    pageIndex: options.pageIndex ?? false,
  });
  for (const [key, value] of partMetadata(rows.orgId)) writer.setMetadata(key, value);
  for (let i = 0; i < rows.length; i++) await writer.appendRow(cells(rows, i));
  await writer.close();
  return Buffer.concat(chunks);
}

function field(definition: ColumnDefinition, compression: string): Field {
  const { kind } = definition;
  return {
    type: kind === 'flag' ? 'BOOLEAN' : kind === 'integer' || kind === 'time' ? 'INT64' : 'UTF8',
    compression,
    optional: isOptional(definition),
    // Its bounds of texts follow UTF-16 order, which is not Parquet's.
    statistics: definition.statistics && (kind === 'integer' || kind === 'time'),
  };
}

function cells(rows: Rows, i: number): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const { name, kind } of COLUMNS) {
    if (kind === 'constant') {
      row[name] = rows.orgId;
      continue;
    }
    const value = rows.vector(name as StoredColumn).at(i);
    row[name] = kind === 'flag' ? value === 1 : value;
  }
  return row;
}
