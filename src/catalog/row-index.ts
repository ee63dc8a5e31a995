import { isTerminal, type RunStatus } from '../runs/run.ts';
import type { Picked, Rows } from '../snapshot/rows.ts';
import { type Codes, codesFor, type NumberVector } from '../snapshot/vectors.ts';
import { newestFirst, type Shape, ShapeCache } from './shapes.ts';

/**
 * What views ask of rows, worked out once per `Rows`, which never change: a refresh that brings only a tail reuses it.
 * Tables are numbers of `cache`; columns of numbers, because an org may have many tables and few readers ask for all.
 */
export interface RowIndex {
  readonly cache: ShapeCache;
  /** By row; and by shape, how many rows have it. */
  readonly shapeOf: Codes;
  readonly rowsOfShape: Uint32Array;
  /** By table: the newest row, and the newest that succeeded; −1: none, as for tables that are only read. */
  readonly latest: Int32Array;
  readonly success: Int32Array;
  /** By table: how many feed it (it feeds) directly. */
  readonly upstream: Uint32Array;
  readonly downstream: Uint32Array;
  /** Tables that some row writes, sorted. */
  readonly written: Uint32Array;
  /** By table: where it stands in `written`; −1: nowhere. */
  readonly placeOf: Int32Array;
  readonly edges: Edges;
}

/** How many times the shapes of one index read `from` and write `to`: distinct edges, sorted, and a count for each. */
export class Edges {
  readonly keys: Float64Array;
  readonly #counts: Uint32Array;

  constructor(shapes: readonly Shape[]) {
    let count = 0;
    for (const { tables, inputs } of shapes) count += tables.length * inputs.length;
    const sorted = new Float64Array(count);
    let at = 0;
    for (const { tables, inputs } of shapes) {
      for (let t = 0; t < tables.length; t++) {
        for (let i = 0; i < inputs.length; i++) sorted[at++] = edgeKey(inputs[i]!.number, tables[t]!.number);
      }
    }
    sorted.sort();
    const keys = new Float64Array(sorted.length);
    const counts = new Uint32Array(sorted.length);
    let n = 0;
    for (let k = 0; k < sorted.length; k++) {
      const key = sorted[k]!;
      if (n === 0 || keys[n - 1] !== key) keys[n++] = key;
      counts[n - 1]!++;
    }
    this.keys = keys.slice(0, n);
    this.#counts = counts.slice(0, n);
  }

  count(from: number, to: number): number {
    const key = edgeKey(from, to);
    let [low, high] = [0, this.keys.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return this.keys[low] === key ? this.#counts[low]! : 0;
  }
}

/** Two table numbers below 2^26 in the 53 bits of one. */
const EDGE_BASE = 2 ** 26;

function edgeKey(from: number, to: number): number {
  return from * EDGE_BASE + to;
}

export function tablesOfEdge(key: number): { from: number; to: number } {
  return { from: Math.floor(key / EDGE_BASE), to: key % EDGE_BASE };
}

/** Rows that have not ended, newest first. */
export interface ActiveRows {
  /** Their numbers among all rows. */
  readonly numbers: Uint32Array;
  /** Where to read them from, side by side with `numbers`. */
  readonly picked: Picked;
}

const actives = new WeakMap<Rows, ActiveRows>();

/** Worked out once per `Rows`, apart from their index: it asks for nothing but what few rows say. */
export function activeRows(rows: Rows): ActiveRows {
  let active = actives.get(rows);
  if (active === undefined) {
    active = findActive(rows);
    actives.set(rows, active);
  }
  return active;
}

function findActive(rows: Rows): ActiveRows {
  const statuses = rows.codes('status');
  const isActive = statusFlags(rows, (status) => !isTerminal(status));
  const found: number[] = [];
  for (let i = 0; i < rows.length; i++) if (isActive[statuses[i]!] === 1) found.push(i);
  const rising = Uint32Array.from(found);
  const picked = rows.pick(rising);
  const order = ageOrder(picked.rows);
  const places = Uint32Array.from(rising.keys()).sort((a, b) => order(picked.at[a]!, picked.at[b]!));
  return {
    numbers: places.map((place) => rising[place]!),
    picked: { rows: picked.rows, at: places.map((place) => picked.at[place]!) },
  };
}

const indexes = new WeakMap<Rows, RowIndex>();

export function rowIndex(rows: Rows): RowIndex {
  let index = indexes.get(rows);
  if (index === undefined) {
    index = build(rows);
    indexes.set(rows, index);
  }
  return index;
}

/** Orders rows of one table as `newestFirst` does, mostly without looking further than their last change. */
export function ageOrder(rows: Rows): (i: number, j: number) => number {
  const updated = rows.vector('updated_at') as NumberVector;
  return (i, j) => updated.raw(j) - updated.raw(i) || newestFirst({ rows, i }, { rows, i: j });
}

/** By code: whether the status passes. */
export function statusFlags(rows: Rows, passes: (status: RunStatus) => boolean): Uint8Array {
  return Uint8Array.from(rows.dictionary('status'), (status) =>
    status !== null && passes(status as RunStatus) ? 1 : 0,
  );
}

function build(rows: Rows): RowIndex {
  const cache = new ShapeCache(rows);
  const order = ageOrder(rows);
  const statuses = rows.codes('status');
  const isSuccess = statusFlags(rows, (status) => status === 'SUCCEEDED');
  const updated = new Float64Array(rows.length);
  (rows.vector('updated_at') as NumberVector).copyTo(updated, 0);
  const numbers = new Uint32Array(rows.length);
  const latest: number[] = [];
  const success: number[] = [];
  /** When those changed: beside each other, where their rows lie far apart. */
  const latestAt: number[] = [];
  const successAt: number[] = [];
  const counts: number[] = [];
  for (let i = 0; i < rows.length; i++) {
    const number = cache.numberOf(i);
    const status = statuses[i]!;
    const at = updated[i]!;
    numbers[i] = number;
    if (number === counts.length) {
      counts.push(0);
      latest.push(-1);
      latestAt.push(-1);
      success.push(-1);
      successAt.push(-1);
    }
    counts[number]!++;
    // More than the last change is asked for only where it is the same.
    if (at > latestAt[number]! || (at === latestAt[number] && order(i, latest[number]!) < 0)) {
      latest[number] = i;
      latestAt[number] = at;
    }
    if (
      isSuccess[status] === 1 &&
      (at > successAt[number]! || (at === successAt[number] && order(i, success[number]!) < 0))
    ) {
      success[number] = i;
      successAt[number] = at;
    }
  }
  const shapeOf = codesFor(cache.shapes.length, rows.length);
  shapeOf.set(numbers);
  return {
    cache,
    shapeOf,
    rowsOfShape: Uint32Array.from(counts),
    ...tablesOfShapes(cache, latest, success, order),
  };
}

function tablesOfShapes(
  cache: ShapeCache,
  latestOfShape: readonly number[],
  successOfShape: readonly number[],
  order: (i: number, j: number) => number,
): Pick<RowIndex, 'latest' | 'success' | 'upstream' | 'downstream' | 'written' | 'placeOf' | 'edges'> {
  const { shapes, tables } = cache;
  const latest = new Int32Array(tables.length).fill(-1);
  const success = new Int32Array(tables.length).fill(-1);
  const upstream = new Uint32Array(tables.length);
  const downstream = new Uint32Array(tables.length);
  const newer = (i: number, j: number) => (i < 0 || j < 0 ? Math.max(i, j) : order(i, j) <= 0 ? i : j);
  for (let s = 0; s < shapes.length; s++) {
    const written = shapes[s]!.tables;
    for (let t = 0; t < written.length; t++) {
      const { number } = written[t]!;
      latest[number] = newer(latest[number]!, latestOfShape[s]!);
      success[number] = newer(success[number]!, successOfShape[s]!);
    }
  }
  const edges = new Edges(shapes);
  for (let k = 0; k < edges.keys.length; k++) {
    const { from, to } = tablesOfEdge(edges.keys[k]!);
    upstream[to]!++;
    downstream[from]!++;
  }
  const sorted = cache.sorted((number) => latest[number]! >= 0);
  const written = new Uint32Array(sorted.length);
  const placeOf = new Int32Array(tables.length).fill(-1);
  for (let place = 0; place < written.length; place++) {
    const { number } = sorted[place]!;
    written[place] = number;
    placeOf[number] = place;
  }
  return { latest, success, upstream, downstream, written, placeOf, edges };
}
