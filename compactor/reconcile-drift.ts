import { isPast } from '../src/catalog/fold.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { StoreError } from '../src/core/errors.ts';
import { blankRun } from '../src/runs/blank-run.ts';
import { type Projection, project } from '../src/runs/projection.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import { isTerminal, type Run } from '../src/runs/run.ts';
import type { StoredRun } from '../src/runs/run-store.ts';
import { contentOf, readIndex } from './backfill-known.ts';
import type { CompactorContext } from './context.ts';

/**
 * How index and canonical runs can part. `missing`: no row. `behind`: an older revision that should have been replaced.
 * `different`: the same revision, another content. `ahead`: a newer revision than the canonical run ever had, after a
 * restore. `stray`: a row without canonical run. `undeleted`: a row of a run that was deleted. `forgotten`: a tombstone
 * over a run that is there.
 */
export type DriftKind = 'missing' | 'behind' | 'different' | 'ahead' | 'stray' | 'undeleted' | 'forgotten';

export interface Drift {
  org_id: string;
  run_id: string;
  kind: DriftKind;
  /** Revisions; null where there is none. */
  canonical: number | null;
  index: number | null;
  /** Whether a repair is tried, or would be: not of rows that are left alone because so many are stray. */
  repairable: boolean;
  repaired: boolean;
}

export interface Suspect {
  run_id: string;
  /** The row where no canonical run was seen for it. */
  row: Projection | null;
}

export interface Judged {
  kind: DriftKind;
  drift: Drift;
  stored: StoredRun | null;
  row: Projection | null;
}

/** A writer between the canonical run and its record gets this long. */
const PAUSE_MS = 1_000;

/**
 * Drift, told from work in progress by the order of reads: canonical, index, canonical. What the first read saw must be
 * in the index read after it; what the index shows, the second read must have. Costs two reads per suspect and one
 * refresh with history.
 */
export async function judge(
  context: CompactorContext,
  orgId: string,
  suspects: ReadonlyMap<string, Suspect>,
  signal?: AbortSignal,
): Promise<Judged[]> {
  if (suspects.size === 0) return [];
  const ids = [...suspects.keys()];
  const first = await readAll(context, orgId, ids, signal);
  await context.clock.sleep(PAUSE_MS, signal);
  const { known, state } = await readIndex(context, orgId, {
    signal,
    wanted: (runId) => suspects.has(runId),
  });
  const second = await readAll(context, orgId, ids, signal);
  const horizon = state.manifest?.horizon ?? null;
  return ids.flatMap((runId, i) => {
    const [old, now] = [first[i]!, second[i]!];
    if (old === 'unreadable' || now === 'unreadable') return [];
    const shown = known.get(runId);
    const index = shown === null || shown.deleted ? null : shown.revision;
    const kind = ((): DriftKind | null => {
      if (now === null) return index !== null && old === null ? 'stray' : null;
      const { run } = now;
      if (run.deleted_at !== null) {
        if (index === null) return null;
        if (index > run.revision) return 'ahead';
        return old !== null && old.run.deleted_at !== null ? 'undeleted' : null;
      }
      if (shown?.deleted)
        return shown.revision >= run.revision ? 'forgotten' : lags(shown.revision, old) ? 'behind' : null;
      if (index === null) return old === null || isPast(run, horizon) ? null : 'missing';
      if (index > run.revision) return 'ahead';
      if (lags(index, old)) return 'behind';
      return index === run.revision && shown!.content !== contentOf(project(run)) ? 'different' : null;
    })();
    if (kind === null) return [];
    const canonical = now?.run.revision ?? null;
    const drift = {
      org_id: orgId,
      run_id: runId,
      kind,
      canonical,
      index: shown?.revision ?? null,
      repairable: true,
      repaired: false,
    };
    return [{ kind, drift, stored: now, row: suspects.get(runId)!.row }];
  });
}

function lags(index: number, old: StoredRun | null): boolean {
  return old !== null && index < old.run.indexed_revision;
}

function readAll(
  { runs, limits }: CompactorContext,
  orgId: string,
  ids: readonly string[],
  signal: AbortSignal | undefined,
): Promise<(StoredRun | null | 'unreadable')[]> {
  return mapParallel(
    ids,
    limits.parallelMax,
    async (runId, stop) => {
      try {
        return await runs.read(orgId, runId, stop);
      } catch (error) {
        if (stop.aborted || error instanceof StoreError) throw error;
        return 'unreadable' as const;
      }
    },
    signal,
  );
}

/**
 * Makes the canonical run's word hold again, by records alone. Where its revision is too low to outrank what the index
 * shows, it is written once more under a higher one; where there is no canonical run, the stub of a deleted one is put
 * in its place first, so that nobody creates the id anew under a tombstone. False: somebody else wrote it meanwhile.
 */
export async function repairDrift(
  { runs }: CompactorContext,
  recorder: Recorder,
  orgId: string,
  { kind, drift, stored, row }: Judged,
  signal?: AbortSignal,
): Promise<boolean> {
  if (kind === 'stray') {
    if (row === null) return false;
    const stub = stubOf(orgId, row, drift.index ?? row.revision, recorder.now());
    if ((await runs.create(stub, signal)).outcome !== 'written') return false;
    await recorder.repeatRecord(stub, signal);
    return true;
  }
  // Records are made of what was read just now: see recordAgeMaxMs.
  const now = await runs.read(orgId, drift.run_id, signal);
  if (stored === null || now === null || now.token !== stored.token) return false;
  let { run } = now;
  if (kind === 'different' || kind === 'ahead' || kind === 'forgotten') {
    run = raised(run, drift.index ?? 0, recorder.now());
    if ((await runs.replace(run, now.token, signal)).outcome !== 'written') return false;
  }
  await recorder.repeatRecord(run, signal);
  return true;
}

function raised(run: Run, above: number, now: number): Run {
  const revision = Math.max(run.revision, above) + 1;
  const updated_at = Math.max(now, run.updated_at);
  return { ...run, revision, updated_at, indexed_revision: revision, indexed_at: updated_at };
}

/** What `delete` leaves of a run: see lifecycle.ts. */
function stubOf(orgId: string, row: Projection, index: number, now: number): Run {
  const revision = index + 1;
  return {
    ...blankRun({ org_id: orgId, run_id: row.run_id }, row.created_at),
    kind: row.kind,
    status: isTerminal(row.status) ? row.status : 'CANCELLED',
    attempt: row.attempt,
    revision,
    updated_at: Math.max(now, row.updated_at),
    started_at: row.started_at,
    finished_at: row.finished_at ?? now,
    deleted_at: now,
    first_created_at: row.first_created_at,
    indexed_revision: revision,
    indexed_at: now,
  };
}
