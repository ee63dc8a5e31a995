import type { RowGroup, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { ParquetWriter } from 'hyparquet-writer/src/parquet-writer.js';
import { crc32c } from '../core/crc32c.ts';
import { InputError } from '../core/errors.ts';
import { defaultLimits } from '../core/limits.ts';
import { StateHash } from '../manifest/state-hash.ts';
import { BOUND_BYTES_MAX, schemaElement, writeChunk } from './chunks-write.ts';
import { COLUMNS, type StoredColumn } from './columns.ts';
import { encodeDirectory, GROUP_MAGIC, HISTORY_FORMAT, HISTORY_FORMAT_KEY } from './history-directory.ts';
import { describeGroup, type HistoryGroup } from './history-index.ts';
import {
  compareTables,
  compareTexts,
  compareUtf8,
  HISTORY_COLUMNS,
  type HistoryRows,
  HistoryRowsBuilder,
} from './history-rows.ts';
import { partMetadata } from './part-format.ts';
import type { NumberVector, TextVector } from './vectors.ts';

export interface HistoryOptions {
  /** Rows per row group; `limits.historyGroupRows` unless told. */
  groupRows?: number | undefined;
  /** Bytes to expect: room is taken at once instead of doubled again and again. Untouched room costs nothing. */
  sizeHintBytes?: number | undefined;
}

export interface EncodedHistory {
  /** The object. May be a view of a larger buffer. */
  bytes: Uint8Array;
  groups: HistoryGroup[];
  /** As stored: one per run and table. */
  rows: number;
  /** Primary rows. A run of which two revisions stand under different keys counts twice. */
  runs: number;
  /** Over (run_id, revision) of the primary rows. */
  stateHash: StateHash;
  created_at_min: number | null;
  /** Over `first_created_at` where there is one, as in the groups. */
  created_at_max: number | null;
  updated_at_max: number | null;
  /** Null while a run in it has not finished. */
  finished_at_max: number | null;
}

/** Tables of rows kept until the group in the making is full. */
const SOURCES_MAX = 24;

/**
 * Writes a history part a row group at a time, from rows pushed in its order, each key once. Holds one group of
 * rows, up to 24 tables that it comes from, and the compressed output. Use it for one `finish`.
 */
export class HistoryWriter {
  readonly #orgId: string;
  readonly #groupRows: number;
  readonly #out: ByteWriter;
  readonly #file: ParquetWriter;
  readonly #groups: HistoryGroup[] = [];
  readonly #state = StateHash.empty();
  #rows = 0;
  #runs = 0;
  #finishedAtMax = Number.NEGATIVE_INFINITY;
  #last: HistoryRows | null = null;

  /** The group in the making: for each row its table among `#sources` and its number there. */
  readonly #sourceOf: Uint32Array;
  readonly #indexes: Uint32Array;
  #sources: HistoryRows[] = [];
  #pending = 0;

  constructor(orgId: string, options: HistoryOptions = {}) {
    this.#orgId = orgId;
    this.#groupRows = Math.max(1, options.groupRows ?? defaultLimits.historyGroupRows);
    this.#sourceOf = new Uint32Array(this.#groupRows);
    this.#indexes = new Uint32Array(this.#groupRows);
    this.#out = new ByteWriter(options.sizeHintBytes ?? 64 * 1024);
    this.#file = new ParquetWriter({
      writer: this.#out,
      schema: SCHEMA,
      codec: 'ZSTD',
      statisticsTruncateLength: BOUND_BYTES_MAX,
      kvMetadata: [...partMetadata(orgId), [HISTORY_FORMAT_KEY, String(HISTORY_FORMAT)] as const].map(
        ([key, value]) => ({ key, value }),
      ),
      createdBy: 'runfold',
    });
  }

  /** Adds rows `start` to `end`. Throws InputError, at the latest in `finish`, where rows are out of order. */
  push(source: HistoryRows, start = 0, end = source.length): void {
    if (source.rows.orgId !== this.#orgId) {
      throw new InputError(`Rows of org ${source.rows.orgId} cannot join a part of org ${this.#orgId}.`);
    }
    for (let i = start; i < end; ) {
      const at = this.#sourceNumber(source);
      const stop = Math.min(end, i + this.#groupRows - this.#pending);
      while (i < stop) {
        this.#sourceOf[this.#pending] = at;
        this.#indexes[this.#pending++] = i++;
      }
      if (this.#pending === this.#groupRows) this.#flush();
    }
  }

  finish(): EncodedHistory {
    this.#flush();
    this.#file.finish();
    const max = (times: number[]) =>
      times.reduce<number | null>((a, b) => (a === null || b > a ? b : a), null);
    return {
      bytes: this.#out.getBytes(),
      groups: this.#groups,
      rows: this.#rows,
      runs: this.#runs,
      stateHash: this.#state,
      created_at_min: this.#groups.reduce<number | null>(
        (a, { created_at_min: b }) => (a === null || b < a ? b : a),
        null,
      ),
      created_at_max: max(this.#groups.map((group) => group.created_at_max)),
      updated_at_max: max(this.#groups.map((group) => group.updated_at_max)),
      finished_at_max: Number.isFinite(this.#finishedAtMax) ? this.#finishedAtMax : null,
    };
  }

  #flush(): void {
    if (this.#pending === 0) return;
    const history = this.#gather();
    this.#sources = [];
    this.#pending = 0;
    checkOrder(this.#last, history);
    this.#last = history;
    this.#write(history);
    this.#count(history);
  }

  #sourceNumber(source: HistoryRows): number {
    const known = this.#sources.lastIndexOf(source);
    if (known >= 0) return known;
    if (this.#sources.length === SOURCES_MAX) this.#collapse();
    return this.#sources.push(source) - 1;
  }

  /** So that no source is kept for the sake of a few rows: a merge that drops most of them goes through many. */
  #collapse(): void {
    this.#sources = [this.#gather()];
    this.#sourceOf.fill(0, 0, this.#pending);
    for (let k = 0; k < this.#pending; k++) this.#indexes[k] = k;
  }

  /**
   * First the rows of each source, then all in their order: to switch between sources at every row would translate
   * their dictionaries at every row.
   */
  #gather(): HistoryRows {
    const count = this.#pending;
    const [first] = this.#sources;
    const indexes = this.#indexes.subarray(0, count);
    if (this.#sources.length === 1 && first!.length === count && indexes.every((index, k) => index === k)) {
      return first!;
    }
    if (this.#sources.length === 1) return gathered(this.#orgId, first!, indexes);
    const counts = new Uint32Array(this.#sources.length);
    for (let k = 0; k < count; k++) counts[this.#sourceOf[k]!]!++;
    const builder = new HistoryRowsBuilder(this.#orgId, count);
    const nextOf = new Uint32Array(counts.length);
    for (let s = 0, base = 0; s < counts.length; base += counts[s++]!) {
      const own = new Uint32Array(counts[s]!);
      for (let k = 0, n = 0; k < count; k++) if (this.#sourceOf[k] === s) own[n++] = indexes[k]!;
      builder.gather(this.#sources[s]!, own);
      nextOf[s] = base;
    }
    const order = new Uint32Array(count);
    for (let k = 0; k < count; k++) order[k] = nextOf[this.#sourceOf[k]!]!++;
    return gathered(this.#orgId, builder.build(), order);
  }

  #write(history: HistoryRows): void {
    const out = this.#out;
    const rows = history.length;
    const offset = out.offset;
    out.appendBytes(GROUP_MAGIC);
    const range = { start: 0, end: rows, pageRows: rows, index: false };
    const columns: Record<string, [number, number]> = {};
    const chunksStart = out.offset;
    const chunks = DEFINITIONS.map((definition) => {
      const start = out.offset;
      const { chunk } = writeChunk(out, definition, columnOf(history, definition.name), range);
      columns[definition.name] = [start - offset, out.offset - start];
      return chunk;
    });
    const compressed = out.offset - chunksStart;
    out.appendBytes(encodeDirectory({ format: HISTORY_FORMAT, org_id: this.#orgId, rows, columns }));
    const bytes = out.getBytes().subarray(offset);
    this.#groups.push({ offset, size: bytes.length, rows, crc32c: crc32c(bytes), ...describeGroup(history) });
    this.#file.num_rows += BigInt(rows);
    const group: RowGroup = {
      columns: chunks,
      total_byte_size: chunks.reduce((sum, { meta_data }) => sum + meta_data!.total_uncompressed_size, 0n),
      num_rows: BigInt(rows),
      total_compressed_size: BigInt(compressed),
      sorting_columns: SORTING,
    };
    this.#file.row_groups.push(group);
  }

  #count(history: HistoryRows): void {
    const { rows } = history;
    this.#rows += rows.length;
    for (let i = 0; i < rows.length; i++) {
      if (!history.isPrimary(i)) continue;
      this.#runs++;
      this.#state.add(rows.runId(i), rows.revision(i));
    }
    const finished = rows.vector('finished_at') as NumberVector;
    const max = finished.nullCount > 0 ? Number.POSITIVE_INFINITY : finished.max;
    if (max > this.#finishedAtMax) this.#finishedAtMax = max;
  }
}

const DEFINITIONS = [...COLUMNS, ...HISTORY_COLUMNS];
const SCHEMA: SchemaElement[] = [
  { name: 'runfold_history', num_children: DEFINITIONS.length },
  ...DEFINITIONS.map(schemaElement),
];
const SORTING = ['table_namespace', 'table_name', 'created_at', 'run_id'].map((sorted) => ({
  column_idx: DEFINITIONS.findIndex(({ name }) => name === sorted),
  descending: false,
  nulls_first: true,
}));

function columnOf(history: HistoryRows, name: (typeof DEFINITIONS)[number]['name']) {
  if (name === 'org_id') return history.rows.orgId;
  const isTable = name === 'table_namespace' || name === 'table_name' || name === 'table_primary';
  return isTable ? history.vector(name) : history.rows.vector(name satisfies StoredColumn);
}

function gathered(orgId: string, from: HistoryRows, indexes: Uint32Array): HistoryRows {
  const builder = new HistoryRowsBuilder(orgId, indexes.length);
  builder.gather(from, indexes);
  return builder.build();
}

/** Order is what readers find tables by: a part without it would lose rows in silence. */
function checkOrder(before: HistoryRows | null, history: HistoryRows): void {
  const { rows } = history;
  const created = rows.vector('created_at') as NumberVector;
  const ids = rows.vector('run_id') as TextVector;
  if (before !== null && !(compareAcross(before, before.length - 1, history, 0) < 0))
    throw outOfOrder(rows.runId(0));
  for (let start = 0; start < rows.length; ) {
    const end = history.tableEnd(start);
    for (let i = start + 1; i < end; i++) {
      const byTime = created.raw(i) - created.raw(i - 1);
      if (byTime < 0 || (byTime === 0 && compareTexts(ids, i, ids, i - 1) <= 0))
        throw outOfOrder(rows.runId(i));
    }
    if (end < rows.length && compareTables(history.table(end - 1), history.table(end)) >= 0)
      throw outOfOrder(rows.runId(end));
    start = end;
  }
}

function compareAcross(a: HistoryRows, i: number, b: HistoryRows, j: number): number {
  return (
    compareTables(a.table(i), b.table(j)) ||
    a.rows.time('created_at', i)! - b.rows.time('created_at', j)! ||
    compareUtf8(a.rows.runId(i), b.rows.runId(j))
  );
}

function outOfOrder(runId: string): InputError {
  return new InputError(`Run ${runId} is not in the order of a history part.`);
}
