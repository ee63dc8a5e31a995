import { type Projection, tablesOf } from '../runs/projection.ts';
import { type Dataset, isTerminal, RUN_STATUSES, type RunStatus } from '../runs/run.ts';
import type { Rows } from '../snapshot/rows.ts';
import type { CatalogState, Segment } from './state.ts';

/** One row of one segment. */
export interface RowRef {
  readonly rows: Rows;
  readonly i: number;
}

export interface RunBrief {
  run_id: string;
  status: RunStatus;
  updated_at: number;
}

export interface TableView extends Dataset {
  /** The run that changed last among those that write the table. */
  latest_run: RunBrief;
  latest_success: RunBrief | null;
  /** Tables that feed it (that it feeds) directly. */
  upstream: number;
  downstream: number;
}

export interface RunFilter {
  /** Runs that write this table; a missing namespace or name matches any. */
  table?: { namespace?: string | undefined; name?: string | undefined } | undefined;
  status?: RunStatus | readonly RunStatus[] | undefined;
  kind?: string | undefined;
  queue?: string | undefined;
  /** Bounds of `created_at`, ms: inclusive, exclusive. */
  since?: number | undefined;
  until?: number | undefined;
  limit?: number | undefined;
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

/** Every table that any run writes or means to write, sorted by namespace, then name. */
export function tablesView(state: CatalogState): TableView[] {
  const tables = new Map<string, { table: Dataset; latest: RowRef; success: RowRef | null }>();
  const upstream = new Map<string, Set<string>>();
  const downstream = new Map<string, Set<string>>();
  for (const segment of state.segments) {
    const shapes = new ShapeCache(segment.rows);
    forEachRow(segment, (i) => {
      const shape = shapes.of(i);
      for (const { id, table } of shape.tables) {
        const ref = { rows: segment.rows, i };
        const known = tables.get(id);
        const succeeded = segment.rows.status(i) === 'SUCCEEDED';
        if (known === undefined) tables.set(id, { table, latest: ref, success: succeeded ? ref : null });
        else {
          if (newestFirst(ref, known.latest) < 0) known.latest = ref;
          if (succeeded && (known.success === null || newestFirst(ref, known.success) < 0))
            known.success = ref;
        }
      }
      if (!shape.isNew) return;
      shape.isNew = false;
      for (const to of shape.tables) {
        for (const from of shape.inputs) {
          setOf(upstream, to.id).add(from.id);
          setOf(downstream, from.id).add(to.id);
        }
      }
    });
  }
  return [...tables.entries()]
    .map(([id, { table, latest, success }]) => ({
      namespace: table.namespace,
      name: table.name,
      latest_run: brief(latest),
      latest_success: success && brief(success),
      upstream: upstream.get(id)?.size ?? 0,
      downstream: downstream.get(id)?.size ?? 0,
    }))
    .sort(compareDatasets);
}

/** Matching runs of head and tail, newest first, as references: materialise only what you show. */
export function findRuns(state: CatalogState, filter: RunFilter): RowRef[] {
  const found: RowRef[] = [];
  const { table } = filter;
  for (const segment of state.segments) {
    const { rows } = segment;
    const shapes = table === undefined ? null : new ShapeCache(rows);
    forEachRow(segment, (i) => {
      if (!matchesRow(rows, i, filter)) return;
      if (shapes !== null && !shapes.of(i).tables.some((named) => matchesTable(named.table, table!))) return;
      found.push({ rows, i });
    });
  }
  found.sort(newestFirst);
  return filter.limit === undefined ? found : found.slice(0, filter.limit);
}

/** All of the filter but the table. */
export function matchesRow(rows: Rows, i: number, { status, kind, queue, since, until }: RunFilter): boolean {
  if (status !== undefined && !(typeof status === 'string' ? [status] : status).includes(rows.status(i)))
    return false;
  if (kind !== undefined && rows.text('kind', i) !== kind) return false;
  if (queue !== undefined && rows.text('queue', i) !== queue) return false;
  const createdAt = rows.time('created_at', i)!;
  return (since === undefined || createdAt >= since) && (until === undefined || createdAt < until);
}

const ACTIVE = RUN_STATUSES.filter((status) => !isTerminal(status));

/** Runs that have not ended, newest first. */
export function activeView(state: CatalogState, filter: { queue?: string | undefined } = {}): Projection[] {
  return findRuns(state, { ...filter, status: ACTIVE }).map(({ rows, i }) => rows.get(i));
}

export function compareDatasets(a: Dataset, b: Dataset): number {
  return compareText(a.namespace, b.namespace) || compareText(a.name, b.name);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function datasetId({ namespace, name }: Dataset): string {
  return JSON.stringify([namespace, name]);
}

export function matchesTable(table: Dataset, wanted: NonNullable<RunFilter['table']>): boolean {
  return (
    (wanted.namespace === undefined || table.namespace === wanted.namespace) &&
    (wanted.name === undefined || table.name === wanted.name)
  );
}

function brief({ rows, i }: RowRef): RunBrief {
  return { run_id: rows.runId(i), status: rows.status(i), updated_at: rows.time('updated_at', i)! };
}

export function forEachRow({ rows, replaced }: Segment, visit: (i: number) => void): void {
  for (let i = 0; i < rows.length; i++) if (replaced === null || replaced[i] === 0) visit(i);
}

function setOf(sets: Map<string, Set<string>>, id: string): Set<string> {
  let set = sets.get(id);
  if (set === undefined) {
    set = new Set();
    sets.set(id, set);
  }
  return set;
}

export interface NamedTable {
  readonly id: string;
  readonly table: Dataset;
}

/** The tables that rows with the same codes write and read, worked out once. */
export interface Shape {
  readonly tables: readonly NamedTable[];
  readonly inputs: readonly NamedTable[];
  /** For callers that want each shape once. */
  isNew: boolean;
}

export class ShapeCache {
  readonly #rows: Rows;
  readonly #shapes = new Map<string, Shape>();

  constructor(rows: Rows) {
    this.#rows = rows;
  }

  of(i: number): Shape {
    const rows = this.#rows;
    const key = `${rows.codes('inputs')[i]},${rows.codes('outputs')[i]},${rows.codes('target_namespace')[i]},${rows.codes('target_table')[i]}`;
    let shape = this.#shapes.get(key);
    if (shape === undefined) {
      const payload = {
        target_namespace: rows.text('target_namespace', i),
        target_table: rows.text('target_table', i),
        source_type: null,
      };
      const tables = tablesOf({ payload, outputs: [...rows.datasets('outputs', i)] });
      shape = { tables: tables.map(named), inputs: rows.datasets('inputs', i).map(named), isNew: true };
      this.#shapes.set(key, shape);
    }
    return shape;
  }
}

function named(table: Dataset): NamedTable {
  return { id: datasetId(table), table };
}
