import { InputError } from '../core/errors.ts';
import type { Projection } from '../runs/projection.ts';
import type { Dataset, RunStatus } from '../runs/run.ts';
import {
  COLUMNS,
  type ColumnDefinition,
  type ColumnName,
  type DatasetsColumn,
  type DictionaryColumn,
  GROUP_MARKS,
  type NumberColumn,
  readColumn,
  STORED_BY_NAME,
  STORED_COLUMNS,
  type StoredColumn,
  type TextColumn,
  type TimeColumn,
} from './columns.ts';
import { formatDatasets } from './datasets.ts';
import { RunIndex } from './run-index.ts';
import { UuidVector } from './uuid-vector.ts';
import { DictionaryBuilder, NumberBuilder, TextBuilder } from './vector-builders.ts';
import type { Codes, DictionaryVector, NumberVector, TextVector, Vector } from './vectors.ts';

export type Vectors = Partial<Record<StoredColumn, Vector>>;

/** Where columns come from that are not there yet. */
export interface VectorSource {
  has(column: StoredColumn): boolean;
  load(column: StoredColumn): Vector;
  /** As `load`, of the rows with these numbers, which rise; undefined where that spares nothing. */
  pick?(column: StoredColumn, rows: Uint32Array): Vector;
  /** Memory in bytes of what is not loaded yet, estimated. */
  readonly sizeBytes: number;
}

/** Some rows, and the numbers that they have there. */
export interface Picked {
  readonly rows: Rows;
  readonly at: Uint32Array;
}

/** One row in so many: from there on, decoding whole columns costs little more and serves the next as well. */
const PICK_SHARE = 8;

/**
 * Projections of one org as columns of typed arrays: an immutable table of at most 2^31 rows, without an object or
 * a string per row. Read single cells (`status(i)`, `time('created_at', i)`), scan codes (`codes`, `dictionary`), or
 * make whole projections (`get`), the dearest.
 */
export class Rows {
  readonly orgId: string;
  readonly length: number;
  readonly #vectors: Vectors;
  /** Null once every column is there. */
  #source: VectorSource | null;
  #index: RunIndex | null = null;

  /**
   * For decoders and `RowsBuilder`. A column that neither `vectors` nor `source` has was not read: touching it throws
   * InputError.
   */
  constructor(orgId: string, length: number, vectors: Vectors, source: VectorSource | null = null) {
    this.orgId = orgId;
    this.length = length;
    this.#vectors = vectors;
    this.#source = source;
  }

  static empty(orgId: string): Rows {
    return new RowsBuilder(orgId, 0).build();
  }

  /** The whole projection: keys in the order that `project` gives, datasets frozen and shared between rows. */
  get(i: number): Projection {
    if (!(i >= 0 && i < this.length)) throw new InputError(`There is no row ${i} among ${this.length}.`);
    const row: Record<string, unknown> = {};
    for (const { name, kind, group, field } of COLUMNS) {
      if (kind === 'constant') {
        row[field] = this.orgId;
      } else if (kind === 'flag') {
        row[field] = this.number(name, i) === 0 ? null : {};
      } else if (group === null) {
        row[field] = this.#value(name, i);
      } else {
        let object = row[group] as Record<string, unknown> | null | undefined;
        if (object === undefined) {
          const mark = GROUP_MARKS.get(group);
          object = mark !== undefined && this.isNull(mark.name, i) ? null : {};
          row[group] = object;
        }
        if (object !== null) object[field] = this.#value(name, i);
      }
    }
    return row as unknown as Projection;
  }

  runId(i: number): string {
    return this.#text('run_id').at(i)!;
  }

  status(i: number): RunStatus {
    return this.#dictionary('status').at(i) as RunStatus;
  }

  revision(i: number): number {
    return this.#numbers('revision').raw(i);
  }

  /** ms since the epoch. */
  time(column: TimeColumn, i: number): number | null {
    return this.#numbers(column).at(i);
  }

  number(column: NumberColumn, i: number): number | null {
    return this.#numbers(column).at(i);
  }

  text(column: TextColumn | DictionaryColumn, i: number): string | null {
    return (this.vector(column) as TextVector | DictionaryVector).at(i);
  }

  /** The same frozen list for every row that has the same tables. */
  datasets(column: DatasetsColumn, i: number): readonly Dataset[] {
    const vector = this.#dictionary(column);
    return vector.datasets(vector.codes[i]!);
  }

  isNull(column: StoredColumn, i: number): boolean {
    return this.vector(column).isNull(i);
  }

  /** One code per row into `dictionary(column)`; 0 is null. Read only. */
  codes(column: DictionaryColumn | DatasetsColumn): Codes {
    return this.#dictionary(column).codes;
  }

  /** Distinct values by code, `null` first; some may have no row. Datasets as text: see `datasetsOf`. */
  dictionary(column: DictionaryColumn | DatasetsColumn): readonly (string | null)[] {
    return this.#dictionary(column).dictionary;
  }

  datasetsOf(column: DatasetsColumn, code: number): readonly Dataset[] {
    return this.#dictionary(column).datasets(code);
  }

  /** The row of that run, −1 if absent. The first call builds an index of 6 bytes per row. */
  indexOf(runId: string): number {
    this.#index ??= new RunIndex(this.#text('run_id'));
    return this.#index.find(runId);
  }

  /** As `indexOf(other.runId(i))`, without making the string. */
  indexOfRow(other: Rows, i: number): number {
    this.#index ??= new RunIndex(this.#text('run_id'));
    return this.#index.findRow(other.vector('run_id') as TextVector, i);
  }

  /**
   * The rows with these numbers, which rise, as rows of their own. Of a column that is not decoded yet only they are, so
   * that few whole rows do not cost all the columns of all rows. Where little is left to be spared, these rows themselves.
   */
  pick(indexes: Uint32Array): Picked {
    const source = this.#source;
    if (source?.pick === undefined || indexes.length * PICK_SHARE > this.length)
      return { rows: this, at: indexes };
    const load = (column: StoredColumn): Vector => {
      const vector = this.#vectors[column];
      if (vector === undefined) return source.pick!(column, indexes);
      if (vector instanceof UuidVector) return vector.pick(indexes);
      const builder = vectorBuilder(STORED_BY_NAME.get(column)!, indexes.length);
      builder.gather(vector as never, indexes);
      return builder.build();
    };
    const has = (column: StoredColumn) => this.has(column);
    const rows = new Rows(this.orgId, indexes.length, {}, { has, load, sizeBytes: 0 });
    return { rows, at: Uint32Array.from(indexes.keys()) };
  }

  /** Whether the column was read, or will be when it is asked for. */
  has(column: ColumnName): boolean {
    if (column === 'org_id' || this.#vectors[column] !== undefined) return true;
    return this.#source?.has(column) === true;
  }

  /** The column's storage, for codecs and builders. */
  vector(column: StoredColumn): Vector {
    return this.#vectors[column] ?? this.#load(column);
  }

  /** Memory in bytes: typed arrays as they are, dictionary strings and columns that are not decoded yet estimated. */
  get sizeBytes(): number {
    const vectors = Object.values(this.#vectors);
    const others = (this.#index?.sizeBytes ?? 0) + (this.#source?.sizeBytes ?? 0);
    return vectors.reduce((sum, vector) => sum + vector.sizeBytes, others);
  }

  #load(column: StoredColumn): Vector {
    if (this.#source === null || !this.#source.has(column))
      throw new InputError(`Column ${column} was left out when these rows were read.`);
    const vector = this.#source.load(column);
    this.#vectors[column] = vector;
    if (STORED_COLUMNS.every(({ name }) => this.#vectors[name] !== undefined)) this.#source = null;
    return vector;
  }

  #value(column: StoredColumn, i: number): unknown {
    const vector = this.vector(column);
    return column === 'inputs' || column === 'outputs' ? this.datasets(column, i) : vector.at(i);
  }

  #text(column: TextColumn): TextVector {
    return this.vector(column) as TextVector;
  }

  #dictionary(column: DictionaryColumn | DatasetsColumn): DictionaryVector {
    return this.vector(column) as DictionaryVector;
  }

  #numbers(column: NumberColumn): NumberVector {
    return this.vector(column) as NumberVector;
  }
}

type VectorBuilder = NumberBuilder | DictionaryBuilder | TextBuilder;

/**
 * Makes `Rows` from projections (`add`) and from rows of other tables (`copy`, `gather`), in the order of the calls.
 * It does not look for equal run ids. Half surrogate pairs in texts become U+FFFD. Use it for one `build`.
 */
export class RowsBuilder {
  readonly orgId: string;
  readonly #columns: readonly { definition: ColumnDefinition<StoredColumn>; builder: VectorBuilder }[];
  #length = 0;

  constructor(orgId: string, capacityHint = 1024) {
    this.orgId = orgId;
    this.#columns = STORED_COLUMNS.map((definition) => ({
      definition,
      builder: vectorBuilder(definition, capacityHint),
    }));
  }

  get length(): number {
    return this.#length;
  }

  /** Throws InputError for a projection of another org: nothing is added. */
  add(row: Projection): void {
    if (row.org_id !== this.orgId) {
      throw new InputError(`Run ${row.run_id} belongs to org ${row.org_id}, these rows to ${this.orgId}.`);
    }
    for (const { definition, builder } of this.#columns) {
      const value = readColumn(definition, row);
      if (builder instanceof NumberBuilder) builder.push(value as number | null);
      else if (definition.kind === 'datasets') builder.push(formatDatasets(value as Dataset[]));
      else builder.push(value as string | null);
    }
    this.#length++;
  }

  /** Adds row `i` of `rows` without making its projection. Many rows of one table: `gather` is ten times quicker. */
  copy(rows: Rows, i: number): void {
    this.#checkSource(rows);
    for (const { definition, builder } of this.#columns) {
      builder.copy(rows.vector(definition.name) as never, i);
    }
    this.#length++;
  }

  /** Adds the rows with these numbers, in this order, column by column. */
  gather(rows: Rows, indexes: Uint32Array): void {
    this.#checkSource(rows);
    for (const { definition, builder } of this.#columns) {
      builder.gather(rows.vector(definition.name) as never, indexes);
    }
    this.#length += indexes.length;
  }

  build(): Rows {
    const vectors: Vectors = {};
    for (const { definition, builder } of this.#columns) vectors[definition.name] = builder.build();
    return new Rows(this.orgId, this.#length, vectors);
  }

  #checkSource(rows: Rows): void {
    if (rows.orgId === this.orgId) return;
    throw new InputError(`Rows of org ${rows.orgId} cannot join rows of org ${this.orgId}.`);
  }
}

function vectorBuilder({ kind }: ColumnDefinition, capacity: number): VectorBuilder {
  if (kind === 'text') return new TextBuilder(capacity);
  return kind === 'dictionary' || kind === 'datasets'
    ? new DictionaryBuilder(capacity)
    : new NumberBuilder(capacity);
}

/** The rows with these numbers, whole and as rows of their own; `Rows.pick` is for who wants a few columns of a few. */
export function rowsAt(rows: Rows, indexes: Uint32Array): Rows {
  const builder = new RowsBuilder(rows.orgId, indexes.length);
  builder.gather(rows, indexes);
  return builder.build();
}
