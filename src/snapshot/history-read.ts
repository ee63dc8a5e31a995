import type { FileMetaData } from 'hyparquet';
import { parquetMetadata } from 'hyparquet/src/metadata.js';
import { crc32c } from '../core/crc32c.ts';
import { CorruptError, errorMessage, isRunfoldError } from '../core/errors.ts';
import type { DecodeOptions } from './codec.ts';
import { COLUMNS, type ColumnDefinition, markOf, STORED_COLUMNS, type StoredColumn } from './columns.ts';
import { decodeDirectory, GROUP_MAGIC, type GroupDirectory } from './history-directory.ts';
import { describeGroup, type HistoryGroup } from './history-index.ts';
import { compareTables, HISTORY_COLUMNS, HistoryRows } from './history-rows.ts';
import { fail } from './pages-read.ts';
import { checkGroup, decodeColumn } from './part-decode.ts';
import { Rows, type Vectors } from './rows.ts';
import type { DictionaryVector, NumberVector, Vector } from './vectors.ts';

/**
 * One row group from the bytes of its range, checked against the index first. `key` is for messages only. With
 * `columns`, other columns but run_id are left out.
 *
 * Throws CorruptError; FormatError where a newer runfold wrote the part.
 */
export function decodeHistoryGroup(
  key: string,
  orgId: string,
  bytes: Uint8Array,
  group: HistoryGroup,
  options: DecodeOptions = {},
): HistoryRows {
  const end = group.offset + group.size;
  return orCorrupt(key, `row group ${group.offset} to ${end}`, () => {
    if (bytes.length !== group.size) fail(`${bytes.length} bytes were read`);
    if (crc32c(bytes) !== group.crc32c) fail('its checksum does not match the index');
    const history = decodeGroup(key, orgId, bytes, options);
    if (
      history.length !== group.rows ||
      compareTables(history.table(0), group.first) !== 0 ||
      compareTables(history.table(history.length - 1), group.last) !== 0
    ) {
      fail('it is not the one that the index describes');
    }
    return history;
  });
}

/**
 * Every row group of a whole history part, without its index, with the index entry that it should have: to verify an
 * object, or to make its index anew. One group is decoded at a time. Throws as decodeHistoryGroup does.
 */
export function* decodeHistory(
  key: string,
  orgId: string,
  bytes: Uint8Array,
): Generator<{ group: HistoryGroup; history: HistoryRows }, void, undefined> {
  const { starts, rows, end } = orCorrupt(key, 'its footer', () => boundaries(bytes));
  for (const [i, offset] of starts.entries()) {
    const range = bytes.subarray(offset, starts[i + 1] ?? end);
    const history = orCorrupt(key, `row group ${i}`, () => {
      const decoded = decodeGroup(key, orgId, range, {});
      if (decoded.length !== rows[i]) fail(`it has ${decoded.length} rows; the footer says ${rows[i]}`);
      return decoded;
    });
    const group = {
      offset,
      size: range.length,
      rows: history.length,
      crc32c: crc32c(range),
      ...describeGroup(history),
    };
    yield { group, history };
  }
}

function boundaries(bytes: Uint8Array) {
  const { row_groups, metadata_length } = parquetMetadata(bytes, { geoparquet: false });
  const starts = row_groups.map(({ columns }) => {
    const meta = columns[0]?.meta_data ?? fail('a row group has no columns');
    return Number(meta.dictionary_page_offset ?? meta.data_page_offset) - GROUP_MAGIC.length;
  });
  const end = bytes.length - metadata_length - 8;
  starts.forEach((start, i) => {
    if (!(start >= 4 && start < (starts[i + 1] ?? end))) fail('its row groups are not in order');
  });
  return { starts, rows: row_groups.map(({ num_rows }) => Number(num_rows)), end };
}

function decodeGroup(key: string, orgId: string, bytes: Uint8Array, options: DecodeOptions): HistoryRows {
  const directory = decodeDirectory(key, bytes);
  if (directory.org_id !== orgId) fail(`it belongs to org ${directory.org_id}`);
  const metadata = asMetadata(directory);
  const column = (definition: ColumnDefinition): Vector => {
    try {
      return decodeColumn(bytes, metadata, definition, directory.rows);
    } catch (error) {
      throw new Error(`column ${definition.name}: ${errorMessage(error)}`, { cause: error });
    }
  };
  const vectors: Vectors = {};
  const wanted = options.columns && new Set<StoredColumn>([...options.columns, 'run_id']);
  for (const definition of STORED_COLUMNS) {
    if (wanted === undefined || wanted.has(definition.name)) vectors[definition.name] = column(definition);
  }
  for (const definition of STORED_COLUMNS) {
    const vector = vectors[definition.name];
    const mark = markOf(definition);
    const marks = mark === null ? undefined : vectors[mark.name];
    if (vector !== undefined && marks !== undefined) checkGroup(definition, vector, mark!, marks);
  }
  const [namespaces, names, primaries] = HISTORY_COLUMNS.map(column) as [
    DictionaryVector,
    DictionaryVector,
    NumberVector,
  ];
  for (let i = 0; i < directory.rows; i++) {
    if (namespaces.isNull(i) !== names.isNull(i)) fail(`row ${i} has half a table`);
  }
  return new HistoryRows(new Rows(orgId, directory.rows, vectors), namespaces, names, primaries);
}

/** The directory in the form in which the footer would say it: as much as decodeColumn asks for. */
function asMetadata({ rows, columns }: GroupDirectory): FileMetaData {
  const chunks = [...COLUMNS, ...HISTORY_COLUMNS].flatMap(({ name }) => {
    const place = columns[name];
    if (place === undefined) return [];
    const [offset, size] = place;
    const meta_data = {
      path_in_schema: [name],
      codec: 'ZSTD',
      num_values: BigInt(rows),
      total_compressed_size: BigInt(size),
      data_page_offset: BigInt(offset),
    };
    return [{ meta_data }];
  });
  return { row_groups: [{ columns: chunks, num_rows: BigInt(rows) }] } as unknown as FileMetaData;
}

function orCorrupt<T>(key: string, what: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (isRunfoldError(error)) throw error;
    // RangeError, TypeError and zlib errors are how the libraries say that the bytes make no sense.
    throw new CorruptError(key, `${what}: ${errorMessage(error)}`, { cause: error });
  }
}
