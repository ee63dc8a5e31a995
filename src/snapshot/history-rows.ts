import type { Dataset } from '../runs/run.ts';
import { column } from './columns.ts';
import { type Rows, RowsBuilder } from './rows.ts';
import { DictionaryBuilder, NumberBuilder } from './vector-builders.ts';
import type { DictionaryVector, NumberVector, TextVector } from './vectors.ts';

/**
 * What a history part has beside `COLUMNS`. Its rows are sorted by (table namespace, table name, created_at, run_id),
 * texts in the order of their UTF-8 bytes, and a run has one row per table it writes (`tablesOf`), so that the
 * history of a table is one contiguous range. The first of those rows is the primary one: count runs by it. A run
 * without a table has one row, primary, before all others.
 */
export const HISTORY_COLUMNS = [
  column(
    'table_namespace',
    'dictionary',
    'Namespace of the table this row stands under; null: it has none.',
    {
      nullable: true,
      statistics: true,
    },
  ),
  column('table_name', 'dictionary', 'Name of that table.', { nullable: true, statistics: true }),
  column('table_primary', 'flag', "Whether this is the first of the run's rows: count runs by it."),
] as const;
export type HistoryColumn = (typeof HISTORY_COLUMNS)[number]['name'];

/** Rows of a history part. One run may have several, under different tables; one key is there once. */
export class HistoryRows {
  readonly rows: Rows;
  readonly namespaces: DictionaryVector;
  readonly names: DictionaryVector;
  readonly primaries: NumberVector;
  readonly #tables = new Map<number, Dataset>();

  constructor(rows: Rows, namespaces: DictionaryVector, names: DictionaryVector, primaries: NumberVector) {
    this.rows = rows;
    this.namespaces = namespaces;
    this.names = names;
    this.primaries = primaries;
  }

  get length(): number {
    return this.rows.length;
  }

  /** The table that row stands under, frozen and shared; null: the run writes none. */
  table(i: number): Dataset | null {
    const namespace = this.namespaces.codes[i]!;
    const name = this.names.codes[i]!;
    if (namespace === 0) return null;
    const code = namespace * this.names.dictionary.length + name;
    let table = this.#tables.get(code);
    if (table === undefined) {
      table = Object.freeze({
        namespace: this.namespaces.dictionary[namespace]!,
        name: this.names.dictionary[name]!,
      });
      this.#tables.set(code, table);
    }
    return table;
  }

  isPrimary(i: number): boolean {
    return this.primaries.raw(i) === 1;
  }

  /** The first row after `i` that stands under another table, or the end. */
  tableEnd(i: number): number {
    const namespaces = this.namespaces.codes;
    const names = this.names.codes;
    let end = i + 1;
    while (end < this.length && names[end] === names[i] && namespaces[end] === namespaces[i]) end++;
    return end;
  }

  vector(name: HistoryColumn): DictionaryVector | NumberVector {
    if (name === 'table_primary') return this.primaries;
    return name === 'table_name' ? this.names : this.namespaces;
  }
}

/** As RowsBuilder.gather, with the columns of history. */
export class HistoryRowsBuilder {
  readonly #rows: RowsBuilder;
  readonly #namespaces: DictionaryBuilder;
  readonly #names: DictionaryBuilder;
  readonly #primaries: NumberBuilder;

  constructor(orgId: string, capacity: number) {
    this.#rows = new RowsBuilder(orgId, capacity);
    this.#namespaces = new DictionaryBuilder(capacity);
    this.#names = new DictionaryBuilder(capacity);
    this.#primaries = new NumberBuilder(capacity);
  }

  gather(from: HistoryRows, indexes: Uint32Array): void {
    this.#rows.gather(from.rows, indexes);
    this.#namespaces.gather(from.namespaces, indexes);
    this.#names.gather(from.names, indexes);
    this.#primaries.gather(from.primaries, indexes);
  }

  build(): HistoryRows {
    return new HistoryRows(
      this.#rows.build(),
      this.#namespaces.build(),
      this.#names.build(),
      this.#primaries.build(),
    );
  }
}

/** Null, that is no table, comes first. */
export function compareTables(a: Dataset | null, b: Dataset | null): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? -1 : 1;
  return compareUtf8(a.namespace, b.namespace) || compareUtf8(a.name, b.name);
}

/** In the order of the texts' UTF-8 bytes, which is that of code points; `<` goes by UTF-16 units. */
export function compareUtf8(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points beyond U+FFFF: they go behind the units from U+E000. */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** Texts of two vectors in the order of their bytes, without making strings. */
export function compareTexts(a: TextVector, i: number, b: TextVector, j: number): number {
  const endA = a.start(i + 1);
  const endB = b.start(j + 1);
  let atA = a.start(i);
  let atB = b.start(j);
  const [bytesA, bytesB] = [a.bytes, b.bytes];
  while (atA < endA && atB < endB) {
    const difference = bytesA[atA++]! - bytesB[atB++]!;
    if (difference !== 0) return difference;
  }
  return endA - atA - (endB - atB);
}
