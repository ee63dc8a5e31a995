import { defaultLimits } from '../core/limits.ts';
import { tablesOf } from '../runs/projection.ts';
import type { Dataset } from '../runs/run.ts';
import { compareTables, compareTexts, HistoryRows } from './history-rows.ts';
import { type EncodedHistory, type HistoryOptions, HistoryWriter } from './history-write.ts';
import { type Rows, RowsBuilder } from './rows.ts';
import { DictionaryVector, NumberVector, type TextVector } from './vectors.ts';

/** A history part of these rows, each under every table it writes. Run ids must be distinct. CPU only. */
export async function sealHistory(rows: Rows, options: HistoryOptions = {}): Promise<EncodedHistory> {
  const groupRows = Math.max(1, options.groupRows ?? defaultLimits.historyGroupRows);
  const writer = new HistoryWriter(rows.orgId, { sizeHintBytes: rows.length * 96, ...options });
  const { tables, entries, rankOf } = arrange(rows);
  const namespaces = new Coder(tables.map((table) => table?.namespace ?? null));
  const names = new Coder(tables.map((table) => table?.name ?? null));
  for (let start = 0; start < entries.length; start += groupRows) {
    const chunk = entries.subarray(start, start + groupRows);
    const builder = new RowsBuilder(rows.orgId, chunk.length);
    builder.gather(
      rows,
      chunk.map((entry) => entry >>> 1),
    );
    const ranks = rankOf.subarray(start, start + chunk.length);
    const primaries = new NumberVector(Float64Array.from(chunk, (entry) => entry & 1));
    writer.push(new HistoryRows(builder.build(), namespaces.vector(ranks), names.vector(ranks), primaries));
  }
  return writer.finish();
}

interface Arranged {
  /** In their order; the first stands for none. */
  tables: readonly (Dataset | null)[];
  /** In the order of the part: twice the row, plus one where it is the primary one of its run. */
  entries: Uint32Array;
  /** For each entry the place of its table in `tables`. */
  rankOf: Uint32Array;
}

function arrange(rows: Rows): Arranged {
  const shapes = new Shapes(rows);
  const shapeOf = new Uint32Array(rows.length);
  for (let i = 0; i < rows.length; i++) shapeOf[i] = shapes.of(i);
  const order = Uint32Array.from(shapes.tables.keys()).sort((a, b) =>
    compareTables(shapes.tables[a]!, shapes.tables[b]!),
  );
  const rank = new Uint32Array(order.length);
  for (const [at, table] of order.entries()) rank[table] = at;
  const ranks = shapes.shapes.map((tables) => tables.map((table) => rank[table]!));

  // Counting sort by table, then each table's rows among themselves.
  const starts = new Uint32Array(order.length + 1);
  for (let i = 0; i < rows.length; i++) for (const r of ranks[shapeOf[i]!]!) starts[r + 1]!++;
  for (let r = 0; r < order.length; r++) starts[r + 1]! += starts[r]!;
  const entries = new Uint32Array(starts[order.length]!);
  const rankOf = new Uint32Array(entries.length);
  const next = starts.slice();
  for (let i = 0; i < rows.length; i++) {
    const tables = ranks[shapeOf[i]!]!;
    for (let k = 0; k < tables.length; k++) entries[next[tables[k]!]!++] = 2 * i + (k === 0 ? 1 : 0);
  }
  const compare = byCreation(rows);
  for (let r = 0; r < order.length; r++) {
    rankOf.fill(r, starts[r]!, starts[r + 1]!);
    entries.subarray(starts[r]!, starts[r + 1]!).sort(compare);
  }
  return { tables: Array.from(order, (table) => shapes.tables[table]!), entries, rankOf };
}

function byCreation(rows: Rows): (a: number, b: number) => number {
  const created = new Float64Array(rows.length);
  (rows.vector('created_at') as NumberVector).copyTo(created, 0);
  const ids = rows.vector('run_id') as TextVector;
  return (a, b) => created[a >>> 1]! - created[b >>> 1]! || compareTexts(ids, a >>> 1, ids, b >>> 1);
}

/** Rows with the same codes write the same tables: worked out once for each such set. */
class Shapes {
  /** Distinct tables by number; 0 stands for none. */
  readonly tables: (Dataset | null)[] = [null];
  /** Distinct sets of tables by number, each in the order of `tablesOf` and without repeats. */
  readonly shapes: number[][] = [];
  readonly #rows: Rows;
  readonly #numberOf = new Map<string, number>();
  readonly #shapeOf = new Map<string, number>();

  constructor(rows: Rows) {
    this.#rows = rows;
  }

  of(i: number): number {
    const rows = this.#rows;
    const codes = `${rows.codes('outputs')[i]},${rows.codes('target_namespace')[i]},${rows.codes('target_table')[i]}`;
    const known = this.#shapeOf.get(codes);
    if (known !== undefined) return known;
    const payload = {
      target_namespace: rows.text('target_namespace', i),
      target_table: rows.text('target_table', i),
      source_type: null,
    };
    const tables = tablesOf({ payload, outputs: [...rows.datasets('outputs', i)] });
    const numbers = tables.length === 0 ? [0] : [...new Set(tables.map((table) => this.#number(table)))];
    const shape = this.shapes.push(numbers) - 1;
    this.#shapeOf.set(codes, shape);
    return shape;
  }

  #number(table: Dataset): number {
    const key = JSON.stringify([table.namespace, table.name]);
    const known = this.#numberOf.get(key);
    if (known !== undefined) return known;
    const number = this.tables.push(table) - 1;
    this.#numberOf.set(key, number);
    return number;
  }
}

/** One text of every table as a dictionary, and vectors of it. */
class Coder {
  readonly #dictionary: (string | null)[] = [null];
  readonly #codeOf: Uint32Array;

  constructor(texts: readonly (string | null)[]) {
    const codes = new Map<string | null, number>([[null, 0]]);
    this.#codeOf = Uint32Array.from(texts, (text) => {
      const known = codes.get(text);
      if (known !== undefined) return known;
      codes.set(text, this.#dictionary.length);
      return this.#dictionary.push(text) - 1;
    });
  }

  vector(ranks: Uint32Array): DictionaryVector {
    return new DictionaryVector(
      ranks.map((rank) => this.#codeOf[rank]!),
      this.#dictionary,
    );
  }
}
