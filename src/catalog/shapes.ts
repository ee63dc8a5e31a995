import { tablesOf } from '../runs/projection.ts';
import type { Dataset } from '../runs/run.ts';
import type { DatasetsColumn } from '../snapshot/columns.ts';
import type { Rows } from '../snapshot/rows.ts';
import type { Codes } from '../snapshot/vectors.ts';
import { textOrder } from './text-order.ts';

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
  readonly #codes: readonly [inputs: Codes, outputs: Codes, namespaces: Codes, names: Codes];
  /** By shape, its four codes: what a slot is compared with. Side by side, where a row of it may lie far away. */
  #keys = new Uint32Array(1024);
  /** Shape number + 1; 0 is free. */
  #slots = new Int32Array(1024);
  /** By the code that differs most between shapes: the shape that had it last, + 1. */
  readonly #hints: Int32Array;
  readonly #hintCodes: Codes;
  /** By code. */
  readonly #outputs: (readonly NamedTable[])[] = [];
  readonly #inputs: (readonly NamedTable[])[] = [];

  constructor(rows: Rows) {
    this.#rows = rows;
    this.#codes = [
      rows.codes('inputs'),
      rows.codes('outputs'),
      rows.codes('target_namespace'),
      rows.codes('target_table'),
    ];
    const column =
      rows.dictionary('outputs').length < rows.dictionary('target_table').length ? 'target_table' : 'outputs';
    this.#hintCodes = rows.codes(column);
    this.#hints = new Int32Array(rows.dictionary(column).length);
  }

  of(i: number): Shape {
    return this.shapes[this.numberOf(i)]!;
  }

  /** The number of its shape. Mostly the hint is right, and nothing is hashed. */
  numberOf(i: number): number {
    const hint = this.#hintCodes[i]!;
    const guess = this.#hints[hint]!;
    if (guess !== 0 && this.#isOf(guess - 1, i)) return guess - 1;
    const number = this.#find(i);
    this.#hints[hint] = number + 1;
    return number;
  }

  #isOf(number: number, i: number): boolean {
    const [inputs, outputs, namespaces, names] = this.#codes;
    const keys = this.#keys;
    const key = number * 4;
    return (
      keys[key] === inputs[i] &&
      keys[key + 1] === outputs[i] &&
      keys[key + 2] === namespaces[i] &&
      keys[key + 3] === names[i]
    );
  }

  #find(i: number): number {
    const [inputs, outputs, namespaces, names] = this.#codes;
    const mask = this.#slots.length - 1;
    let slot = hashOf(inputs[i]!, outputs[i]!, namespaces[i]!, names[i]!) & mask;
    for (let found = this.#slots[slot]!; found !== 0; found = this.#slots[slot]!) {
      if (this.#isOf(found - 1, i)) return found - 1;
      slot = (slot + 1) & mask;
    }
    return this.#add(i, slot);
  }

  /** The table of that name; undefined where no row that was asked for has it. */
  find({ namespace, name }: Dataset): NamedTable | undefined {
    return this.#named.get(namespace)?.get(name);
  }

  /** Those that pass, sorted by namespace, then name. */
  sorted(passes: (number: number) => boolean): NamedTable[] {
    const sorted: NamedTable[] = [];
    for (const namespace of [...this.#named.keys()].sort()) {
      const passing: NamedTable[] = [];
      for (const named of this.#named.get(namespace)!.values()) if (passes(named.number)) passing.push(named);
      const order = textOrder(passing.map(({ table }) => table.name));
      for (let k = 0; k < order.length; k++) sorted.push(passing[order[k]!]!);
    }
    return sorted;
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

  /** Lists come again and again: the tables of each are looked up once. */
  #namesOf(known: (readonly NamedTable[])[], column: DatasetsColumn, code: number): readonly NamedTable[] {
    const before = known[code];
    if (before !== undefined) return before;
    const names = this.#namesIn(this.#rows.datasetsOf(column, code));
    known[code] = names;
    return names;
  }

  #namesIn(tables: readonly Dataset[]): NamedTable[] {
    const names = new Array<NamedTable>(tables.length);
    for (let k = 0; k < names.length; k++) names[k] = this.#name(tables[k]!);
    return names;
  }

  #add(i: number, slot: number): number {
    const rows = this.#rows;
    const [inputCodes, outputCodes] = this.#codes;
    const payload = {
      target_namespace: rows.text('target_namespace', i),
      target_table: rows.text('target_table', i),
      source_type: null,
    };
    const outputs = rows.datasets('outputs', i);
    const written = tablesOf({ payload, outputs });
    const shape: Shape = {
      number: this.shapes.length,
      tables:
        written === outputs
          ? this.#namesOf(this.#outputs, 'outputs', outputCodes[i]!)
          : this.#namesIn(written),
      inputs: this.#namesOf(this.#inputs, 'inputs', inputCodes[i]!),
    };
    this.shapes.push(shape);
    const key = shape.number * 4;
    if (key === this.#keys.length) {
      const grown = new Uint32Array(key * 2);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    for (let at = 0; at < 4; at++) this.#keys[key + at] = this.#codes[at]![i]!;
    this.#slots[slot] = this.shapes.length;
    if (this.shapes.length * 2 > this.#slots.length) this.#grow();
    return shape.number;
  }

  #grow(): void {
    this.#slots = new Int32Array(this.#slots.length * 2);
    const mask = this.#slots.length - 1;
    for (let number = 0; number < this.shapes.length; number++) {
      const key = number * 4;
      const keys = this.#keys;
      let slot = hashOf(keys[key]!, keys[key + 1]!, keys[key + 2]!, keys[key + 3]!) & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = number + 1;
    }
  }
}

function hashOf(inputs: number, outputs: number, namespaces: number, names: number): number {
  let hash = Math.imul(outputs, 0x9e3779b1);
  hash = Math.imul((hash ^ (hash >>> 15)) + names, 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 13)) + inputs, 0xc2b2ae35);
  hash = Math.imul((hash ^ (hash >>> 16)) + namespaces, 0x9e3779b1);
  return hash ^ (hash >>> 15);
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
