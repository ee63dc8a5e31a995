import type { Rows } from './rows.ts';

export interface EncodeOptions {
  /** Rows per row group; `limits.rowGroupRows` unless told. */
  rowGroupRows?: number;
  /** Pages of 2 000 rows with Parquet's page index, for ranged reads of history. Default false. */
  pageIndex?: boolean;
}

/** Writes parts. Every codec's parts are read by the one `decodePart`. */
export interface PartCodec {
  readonly name: PartCodecName;
  /** All columns must have been read. CPU only; the promise is for loading the codec's library. */
  encode(rows: Rows, options?: EncodeOptions): Promise<Uint8Array>;
}

export const PART_CODECS = ['hyparquet', 'parquetjs'] as const;
export type PartCodecName = (typeof PART_CODECS)[number];
