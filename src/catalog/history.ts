import { throwIfAborted } from '../core/clock.ts';
import { mapParallel } from '../core/concurrency.ts';
import type { Limits } from '../core/limits.ts';
import type { Part } from '../manifest/manifest.ts';
import type { Projection } from '../runs/projection.ts';
import { decodeGroups } from '../snapshot/history-index.ts';
import { decodeHistoryGroup } from '../snapshot/history-read.ts';
import type { HistoryRows } from '../snapshot/history-rows.ts';
import { coalesce, groupBytes, type HistoryRange, selectGroups } from '../snapshot/history-select.ts';
import { readGroups } from '../snapshot/parts.ts';
import { partKey } from '../store/keys.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { isPast } from './fold.ts';
import type { CatalogState } from './state.ts';
import { findRuns, matchesRow, matchesTable, newestFirst, type RowRef, type RunFilter } from './views.ts';

export interface HistoryContext {
  store: ObjectStore;
  limits: Limits;
}

/** One request's worth of a history part. */
interface Unit {
  part: Part;
  range: HistoryRange;
  /** No row in it changed later. */
  updatedAtMax: number;
}

/** Rows in order, newest first, of which some have been taken. */
interface Source {
  refs: readonly RowRef[];
  next: number;
}

/**
 * Matching runs of head, tail and history, newest first. History is read in waves of ranged requests, side by side:
 * those that may hold the next row, up to `historyWaveBytesMax`; nothing is read before a row of it can be next, so a
 * caller that stops early pays for what it saw. Parts and row groups are pruned by what never changes only (their
 * tables, which only grow, and creation, first and present); everything else is decided once the newest revision
 * of a run is known.
 */
export async function* runsWithHistory(
  context: HistoryContext,
  state: CatalogState,
  filter: RunFilter,
  signal?: AbortSignal,
): AsyncGenerator<Projection, void, void> {
  const { limit = Number.POSITIVE_INFINITY } = filter;
  const hot: Source = { refs: findRuns(state, { ...filter, limit: undefined }), next: 0 };
  let unread = unitsOf(context, state, filter);
  const sources: Source[] = [hot];
  const seen = new Set<string>();
  for (let yielded = 0; yielded < limit; ) {
    throwIfAborted(signal);
    const best = newestOf(sources);
    const wave = nextWave(
      context,
      unread,
      best === null ? null : head(best).rows.time('updated_at', head(best).i)!,
    );
    if (wave.length > 0) {
      unread = unread.filter((unit) => !wave.includes(unit));
      sources.push(
        ...(await mapParallel(
          wave,
          context.limits.parallelMax,
          (unit, stop) => open(context, state, filter, unit, stop),
          signal,
        )),
      );
      continue;
    }
    if (best === null) return;
    const { rows, i } = head(best);
    best.next++;
    if (best !== hot) {
      const runId = rows.runId(i);
      // Sources come newest first, so the first row of a run is its newest revision: the others are stale.
      if (seen.has(runId)) continue;
      seen.add(runId);
      if (!matchesRow(rows, i, filter)) continue;
    }
    yield rows.get(i);
    yielded++;
  }
}

function unitsOf({ limits }: HistoryContext, state: CatalogState, filter: RunFilter): Unit[] {
  const units: Unit[] = [];
  for (const part of state.manifest?.parts ?? []) {
    if (part.groups === null) continue;
    const groups = selectGroups(decodeGroups(partKey(state.orgId, part.name), part.groups), filter);
    for (const range of coalesce(groups, limits)) {
      units.push({
        part,
        range,
        updatedAtMax: Math.max(...range.groups.map((group) => group.updated_at_max)),
      });
    }
  }
  return units.sort((a, b) => b.updatedAtMax - a.updatedAtMax);
}

/** Units that may hold a row at least as new as `updatedAt` (null: anything), newest first, bounded in bytes. */
function nextWave({ limits }: HistoryContext, unread: readonly Unit[], updatedAt: number | null): Unit[] {
  const wave: Unit[] = [];
  let bytes = 0;
  for (const unit of unread) {
    if (updatedAt !== null && unit.updatedAtMax < updatedAt) break;
    bytes += unit.range.size;
    if (wave.length > 0 && bytes > limits.historyWaveBytesMax) break;
    wave.push(unit);
  }
  return wave;
}

async function open(
  { store }: HistoryContext,
  state: CatalogState,
  filter: RunFilter,
  { part, range }: Unit,
  signal: AbortSignal,
): Promise<Source> {
  const { orgId } = state;
  const bytes = await readGroups(store, orgId, part, range, { signal });
  const refs: RowRef[] = [];
  for (const group of range.groups) {
    const history = decodeHistoryGroup(
      partKey(orgId, part.name),
      orgId,
      groupBytes(range, bytes, group),
      group,
    );
    collectRefs(state, filter, history, refs);
  }
  return { refs: refs.sort(newestFirst), next: 0 };
}

/** One row per run of what the filter's tables cover, without runs that head, tail or horizon know better about. */
function collectRefs(state: CatalogState, { table }: RunFilter, history: HistoryRows, refs: RowRef[]): void {
  const { rows } = history;
  const horizon = state.manifest?.horizon ?? null;
  for (let i = 0; i < rows.length; i++) {
    const at = history.table(i);
    const wanted = table === undefined ? history.isPrimary(i) : at !== null && matchesTable(at, table);
    if (!wanted || isPast({ status: rows.status(i), finished_at: rows.time('finished_at', i) }, horizon))
      continue;
    if (!state.knows(rows, i)) refs.push({ rows, i });
  }
}

function newestOf(sources: readonly Source[]): Source | null {
  let best: Source | null = null;
  for (const source of sources) {
    if (source.next === source.refs.length) continue;
    if (best === null || newestFirst(head(source), head(best)) < 0) best = source;
  }
  return best;
}

function head({ refs, next }: Source): RowRef {
  return refs[next]!;
}
