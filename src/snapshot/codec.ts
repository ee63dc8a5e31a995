import type { FileMetaData } from 'hyparquet';
import { parquetMetadata } from 'hyparquet/src/metadata.js';
import { CorruptError, errorMessage, FormatError, isRunfoldError } from '../core/errors.ts';
import { COLUMNS, isOptional, STORED_COLUMNS, type StoredColumn } from './columns.ts';
import { fail } from './pages-read.ts';
import type { PartCodec, PartCodecName } from './part-codec.ts';
import { PartColumns } from './part-columns.ts';
import { FORMAT_KEY, ORG_KEY, PART_FORMAT } from './part-format.ts';
import { Rows, type Vectors } from './rows.ts';

export { type EncodeOptions, PART_CODECS, type PartCodec, type PartCodecName } from './part-codec.ts';
export { type PartStatistics, partStatistics } from './statistics.ts';

/** Loads that codec's library on the first call. */
export async function partCodec(name: PartCodecName = 'hyparquet'): Promise<PartCodec> {
  if (name === 'parquetjs') return (await import('./codec-parquetjs.ts')).parquetjsCodec();
  return (await import('./codec-hyparquet.ts')).hyparquetCodec;
}

export interface DecodeOptions {
  /** Read these columns only (and always run_id): touching another one throws InputError. */
  columns?: readonly StoredColumn[] | undefined;
  /**
   * Decode a column when it is first asked for, and keep `bytes` until all are. For bytes that were checked against the
   * checksum of the whole part: a column that makes no sense throws CorruptError when it is touched, not here.
   */
  lazy?: boolean | undefined;
}

/**
 * The rows of a part, in its order. `key` is for messages only. Check the object's own checksum first: pages of the
 * hyparquet codec carry one each, those of parquetjs do not.
 *
 * Throws FormatError for a part of a newer runfold, CorruptError for anything else that is not a part.
 */
export async function decodePart(key: string, bytes: Uint8Array, options: DecodeOptions = {}): Promise<Rows> {
  try {
    return decode(key, bytes, options);
  } catch (error) {
    if (isRunfoldError(error)) throw error;
    // RangeError, TypeError and zlib errors are how the libraries say that the bytes make no sense.
    throw new CorruptError(key, errorMessage(error), { cause: error });
  }
}

function decode(key: string, bytes: Uint8Array, options: DecodeOptions): Rows {
  const metadata = readMetadata(bytes);
  const orgId = checkFormat(key, metadata);
  const length = Number(metadata.num_rows);
  // Each row has its own run id, which takes a byte at the very least: a bound for what follows to allocate.
  if (!(length >= 0 && length <= bytes.length)) fail(`it claims ${length} rows in ${bytes.length} bytes`);
  const groupRows = metadata.row_groups.map((group) => Number(group.num_rows));
  if (groupRows.some((rows) => !(rows > 0)) || groupRows.reduce((a, b) => a + b, 0) !== length) {
    fail(`its row groups do not add up to ${length} rows`);
  }
  const wanted = options.columns ? new Set<StoredColumn>([...options.columns, 'run_id']) : null;
  const columns = new PartColumns(key, bytes, metadata, length, wanted);
  columns.checkOrg(orgId);
  if (options.lazy === true) return new Rows(orgId, length, {}, columns);
  const vectors: Vectors = {};
  for (const { name } of STORED_COLUMNS) if (columns.has(name)) vectors[name] = columns.decode(name);
  return new Rows(orgId, length, vectors);
}

function readMetadata(bytes: Uint8Array): FileMetaData {
  const magic = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || magic(0) !== 'PAR1' || magic(bytes.length - 4) !== 'PAR1')
    fail('it is not Parquet');
  return parquetMetadata(bytes, { geoparquet: false });
}

/** The org id, after the checks that tell a part from any other Parquet file. */
function checkFormat(key: string, metadata: FileMetaData): string {
  const value = (name: string) => metadata.key_value_metadata?.find((pair) => pair.key === name)?.value;
  const format = value(FORMAT_KEY);
  if (format === undefined || !/^[1-9]\d{0,8}$/.test(format)) fail(`it has no ${FORMAT_KEY}`);
  if (Number(format) > PART_FORMAT) {
    throw new FormatError(key, `the part has format ${format}; this runfold reads up to ${PART_FORMAT}`);
  }
  for (const definition of COLUMNS) {
    const element = metadata.schema.find(({ name }) => name === definition.name);
    if (element === undefined && definition.since > 1) continue;
    if (element === undefined) fail(`it has no column ${definition.name}`);
    const { kind } = definition;
    const type = kind === 'flag' ? 'BOOLEAN' : kind === 'integer' || kind === 'time' ? 'INT64' : 'BYTE_ARRAY';
    const repetition = isOptional(definition) ? 'OPTIONAL' : 'REQUIRED';
    if (element.type !== type || element.repetition_type !== repetition) {
      fail(`column ${definition.name} is ${element.repetition_type} ${element.type}`);
    }
  }
  return value(ORG_KEY) ?? fail(`it has no ${ORG_KEY}`);
}
