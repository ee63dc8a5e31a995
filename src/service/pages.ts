import { z } from 'zod';
import { type HistoryContext, runsWithHistory } from '../catalog/history.ts';
import type { CatalogState } from '../catalog/state.ts';
import { compareDatasets, findRuns, type RowRef, type RunFilter, type TableView } from '../catalog/views.ts';
import type { Projection } from '../runs/projection.ts';
import type { OrgSnapshot } from './org-cache.ts';
import { Problem } from './problem.ts';

/** Where a page of runs ended: the order of the catalog, newest first. */
type RunKey = readonly [updatedAt: number, firstCreatedAt: number, runId: string];

const runKey = z.tuple([z.number(), z.number(), z.string()]);
const tableKey = z.tuple([z.string(), z.string()]);

export interface Page<T> {
  readonly items: T[];
  readonly next: string | null;
}

/**
 * Matching runs after the cursor. A run that changes between two pages moves to the front and is not met again:
 * pages show every run that stayed as it was, each once.
 */
export async function pageOfRuns(
  context: HistoryContext,
  { state }: OrgSnapshot,
  filter: RunFilter,
  limit: number,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<Page<Projection>> {
  const after = cursor === undefined ? null : decodeCursor(cursor, runKey);
  const rows = hasHistory(state)
    ? await takeWithHistory(context, state, filter, after, limit + 1, signal)
    : takeHot(state, filter, after, limit + 1);
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? encodeCursor(keyOf(items.at(-1)!)) : null };
}

/** Only the rows of the page are made into objects. */
function takeHot(state: CatalogState, filter: RunFilter, after: RunKey | null, count: number): Projection[] {
  const refs = findRuns(state, filter);
  const from = after === null ? 0 : firstAfter(refs, after);
  return refs.slice(from, from + count).map(({ rows, i }) => rows.get(i));
}

function firstAfter(refs: readonly RowRef[], after: RunKey): number {
  let [low, high] = [0, refs.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareKeys(keyOfRef(refs[middle]!), after) > 0) high = middle;
    else low = middle + 1;
  }
  return low;
}

async function takeWithHistory(
  context: HistoryContext,
  state: CatalogState,
  filter: RunFilter,
  after: RunKey | null,
  count: number,
  signal: AbortSignal,
): Promise<Projection[]> {
  const taken: Projection[] = [];
  // What changed before the cursor was also created before it: parts of later runs need not be read again.
  const until =
    after === null ? filter.until : Math.min(filter.until ?? Number.MAX_SAFE_INTEGER, after[0] + 1);
  for await (const row of runsWithHistory(context, state, { ...filter, until }, signal)) {
    if (after !== null && compareKeys(keyOf(row), after) <= 0) continue;
    taken.push(row);
    if (taken.length === count) break;
  }
  return taken;
}

export function pageOfTables(
  tables: readonly TableView[],
  limit: number,
  cursor: string | undefined,
): Page<TableView> {
  const after = cursor === undefined ? null : decodeCursor(cursor, tableKey);
  const from =
    after === null
      ? 0
      : tables.findIndex((table) => compareDatasets(table, { namespace: after[0], name: after[1] }) > 0);
  const items = from < 0 ? [] : tables.slice(from, from + limit);
  const last = items.at(-1);
  const more = last !== undefined && last !== tables.at(-1);
  return { items, next: more ? encodeCursor([last.namespace, last.name]) : null };
}

/** Cursors hold positions, no secrets: whatever one says, it only moves within what the caller may see. */
export function encodeCursor(key: readonly unknown[]): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

export function decodeCursor<S extends z.ZodType>(cursor: string, schema: S): z.infer<S> {
  try {
    const bytes = Buffer.from(cursor, 'base64url');
    // Buffer stops at what is no base64, and takes `+` and `/` too: only what was given counts.
    if (bytes.toString('base64url') !== cursor) throw new Error('it is not base64url through and through');
    return schema.parse(JSON.parse(bytes.toString()));
  } catch (cause) {
    throw new Problem('INVALID_INPUT', 'The cursor is none of this list.', {
      hint: 'Send `next` of the page before, as it came.',
      cause,
    });
  }
}

function hasHistory(state: CatalogState): boolean {
  return (state.manifest?.parts ?? []).some(({ groups }) => groups !== null);
}

function keyOf({ updated_at, first_created_at, created_at, run_id }: Projection): RunKey {
  return [updated_at, first_created_at ?? created_at, run_id];
}

function keyOfRef({ rows, i }: RowRef): RunKey {
  const created = rows.time('first_created_at', i) ?? rows.time('created_at', i)!;
  return [rows.time('updated_at', i)!, created, rows.runId(i)];
}

/** The order of catalog/views.ts `newestFirst`: negative when `a` comes first. */
function compareKeys(a: RunKey, b: RunKey): number {
  if (a[0] !== b[0]) return b[0] - a[0];
  if (a[1] !== b[1]) return b[1] - a[1];
  return a[2] === b[2] ? 0 : a[2] < b[2] ? 1 : -1;
}
