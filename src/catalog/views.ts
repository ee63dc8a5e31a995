import type { Projection } from '../runs/projection.ts';
import type { Dataset, RunStatus } from '../runs/run.ts';
import type { Rows } from '../snapshot/rows.ts';
import { activeRows } from './row-index.ts';
import { newestFirst, type RowRef, ShapeCache } from './shapes.ts';
import type { CatalogState, Segment } from './state.ts';

export { compareDatasets, datasetId, newestFirst, type RowRef, ShapeCache } from './shapes.ts';
export { type RunBrief, type TableView, tablesView } from './table-views.ts';

export interface RunFilter {
  /** Runs that write this table; a missing namespace or name matches any. */
  table?: { namespace?: string | undefined; name?: string | undefined } | undefined;
  status?: RunStatus | readonly RunStatus[] | undefined;
  kind?: string | undefined;
  reference_id?: string | undefined;
  queue?: string | undefined;
  /** Bounds of `created_at`, ms: inclusive, exclusive. */
  since?: number | undefined;
  until?: number | undefined;
  limit?: number | undefined;
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
export function matchesRow(rows: Rows, i: number, filter: RunFilter): boolean {
  const { status, kind, reference_id, queue, since, until } = filter;
  if (status !== undefined && !(typeof status === 'string' ? [status] : status).includes(rows.status(i)))
    return false;
  if (kind !== undefined && rows.text('kind', i) !== kind) return false;
  if (reference_id !== undefined && rows.text('reference_id', i) !== reference_id) return false;
  if (queue !== undefined && rows.text('queue', i) !== queue) return false;
  const createdAt = rows.time('created_at', i)!;
  return (since === undefined || createdAt >= since) && (until === undefined || createdAt < until);
}

/** Runs that have not ended, newest first. */
export function activeView(
  state: CatalogState,
  { queue }: { queue?: string | undefined } = {},
): Projection[] {
  const found: RowRef[] = [];
  for (const { rows, replaced } of state.segments) {
    const { numbers, picked } = activeRows(rows);
    for (let k = 0; k < numbers.length; k++) {
      if (replaced !== null && replaced[numbers[k]!] === 1) continue;
      const i = picked.at[k]!;
      if (queue === undefined || picked.rows.text('queue', i) === queue) found.push({ rows: picked.rows, i });
    }
  }
  return found.sort(newestFirst).map(({ rows, i }) => rows.get(i));
}

export function matchesTable(table: Dataset, wanted: NonNullable<RunFilter['table']>): boolean {
  return (
    (wanted.namespace === undefined || table.namespace === wanted.namespace) &&
    (wanted.name === undefined || table.name === wanted.name)
  );
}

export function forEachRow({ rows, replaced }: Segment, visit: (i: number) => void): void {
  for (let i = 0; i < rows.length; i++) if (replaced === null || replaced[i] === 0) visit(i);
}
