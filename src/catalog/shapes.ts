import { tablesOf } from '../runs/projection.ts';
import type { Dataset } from '../runs/run.ts';
import type { Rows } from '../snapshot/rows.ts';
import type { Codes } from '../snapshot/vectors.ts';

/** One object per table and `ShapeCache`. */
export class NamedTable {
  /** Dense, in the order of first appearance. */
  readonly number: number;
  readonly table: Dataset;
  #id: string | null = null;

  constructor(number: number, table: Dataset) {
    this.number = number;
    this.table = table;
  }

  /** Made when first asked for: the reader's views do without. */
  get id(): string {
    this.#id ??= datasetId(this.table);
    return this.#id;
  }
}

/** The tables that rows with the same codes write and read, worked out once. */
export interface Shape {
  /** Dense, in the order of first appearance. */
  readonly number: number;
  readonly tables: readonly NamedTable[];
  readonly inputs: readonly NamedTable[];
}

/** Shapes by the four codes that make one: a hash table of numbers, because a string per row costs ten times as much. */
export class ShapeCache {
  readonly shapes: Shape[] = [];
  /** Tables by number. */
  readonly tables: NamedTable[] = [];
  /** By namespace, then name. */
  readonly #named = new Map<string, Map<string, NamedTable>>();
  readonly #rows: Rows;
  readonly #codes: readonly Codes[];
  /** By shape, its first row: what a slot is compared with. */
  readonly #firstRow: number[] = [];
  /** Shape number + 1; 0 is free. */
  #slots = new Int32Array(1024);

  constructor(rows: Rows) {
    this.#rows = rows;
    this.#codes = [
      rows.codes('inputs'),
      rows.codes('outputs'),
      rows.codes('target_namespace'),
      rows.codes('target_table'),
    ];
  }

  of(i: number): Shape {
    const [inputs, outputs, namespaces, names] = this.#codes as [Codes, Codes, Codes, Codes];
    const mask = this.#slots.length - 1;
    let slot = this.#hash(i) & mask;
    for (let found = this.#slots[slot]!; found !== 0; found = this.#slots[slot]!) {
      const first = this.#firstRow[found - 1]!;
      if (
        inputs[first] === inputs[i] &&
        outputs[first] === outputs[i] &&
        namespaces[first] === namespaces[i] &&
        names[first] === names[i]
      ) {
        return this.shapes[found - 1]!;
      }
      slot = (slot + 1) & mask;
    }
    return this.#add(i, slot);
  }

  /** The table of that name; undefined where no row that was asked for has it. */
  find({ namespace, name }: Dataset): NamedTable | undefined {
    return this.#named.get(namespace)?.get(name);
  }

  #name(table: Dataset): NamedTable {
    const { namespace, name } = table;
    let names = this.#named.get(namespace);
    if (names === undefined) {
      names = new Map();
      this.#named.set(namespace, names);
    }
    let named = names.get(name);
    if (named === undefined) {
      named = new NamedTable(this.tables.length, table);
      names.set(name, named);
      this.tables.push(named);
    }
    return named;
  }

  #hash(i: number): number {
    let hash = 0;
    for (const codes of this.#codes) {
      hash = Math.imul(hash ^ codes[i]!, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash;
  }

  #add(i: number, slot: number): Shape {
    const rows = this.#rows;
    const payload = {
      target_namespace: rows.text('target_namespace', i),
      target_table: rows.text('target_table', i),
      source_type: null,
    };
    const shape: Shape = {
      number: this.shapes.length,
      tables: tablesOf({ payload, outputs: [...rows.datasets('outputs', i)] }).map((table) =>
        this.#name(table),
      ),
      inputs: rows.datasets('inputs', i).map((table) => this.#name(table)),
    };
    this.shapes.push(shape);
    this.#firstRow.push(i);
    this.#slots[slot] = this.shapes.length;
    if (this.shapes.length * 2 > this.#slots.length) this.#grow();
    return shape;
  }

  #grow(): void {
    this.#slots = new Int32Array(this.#slots.length * 2);
    const mask = this.#slots.length - 1;
    for (const [number, first] of this.#firstRow.entries()) {
      let slot = this.#hash(first) & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = number + 1;
    }
  }
}

export function datasetId({ namespace, name }: Dataset): string {
  return JSON.stringify([namespace, name]);
}

export function compareDatasets(a: Dataset, b: Dataset): number {
  return compareText(a.namespace, b.namespace) || compareText(a.name, b.name);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** One row of one segment. */
export interface RowRef {
  readonly rows: Rows;
  readonly i: number;
}

/**
 * Newest first: by the last change, then creation, then id, then revision. Creation counts as it was first recorded,
 * which no later event moves: so revisions of one run that changed at the same time stand together, the newest in
 * front. Negative when `a` comes first.
 */
export function newestFirst(a: RowRef, b: RowRef): number {
  const byUpdate = b.rows.time('updated_at', b.i)! - a.rows.time('updated_at', a.i)!;
  if (byUpdate !== 0) return byUpdate;
  const byCreation = firstCreated(b) - firstCreated(a);
  if (byCreation !== 0) return byCreation;
  const [idA, idB] = [a.rows.runId(a.i), b.rows.runId(b.i)];
  if (idA !== idB) return idA < idB ? 1 : -1;
  return b.rows.revision(b.i) - a.rows.revision(a.i);
}

function firstCreated({ rows, i }: RowRef): number {
  return rows.time('first_created_at', i) ?? rows.time('created_at', i)!;
}
