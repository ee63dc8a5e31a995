import { openCatalog } from '../src/catalog/catalog.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { LifecycleError } from '../src/core/errors.ts';
import { expired } from '../src/runs/lifecycle.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import type { CompactorContext } from './context.ts';

export interface SweepOptions {
  /** Look at active runs whose row changed longer ago than this. Default `sweepAgeMs`. */
  ageMs?: number | undefined;
  /** Look and report, change nothing. */
  dryRun?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export interface Swept {
  org_id: string;
  active: number;
  looked: number;
  /** Runs whose record was missing from the log, and is there now. */
  repaired: string[];
  timed_out: string[];
  /** Rows that no canonical run stands behind: `runfold verify` and `repair` deal with those. */
  missing: string[];
}

/**
 * For callers that never call again: re-reads the canonical run behind each active row that is older than a bound,
 * appends what was lost, and times out what is over its limits. The canonical heartbeat decides, never the row's:
 * an index that lags times nobody out. Cost: a refresh, and one read per stale active run; O(active), never
 * O(history).
 */
export async function sweepOrg(
  context: CompactorContext,
  orgId: string,
  recorder: Recorder,
  options: SweepOptions = {},
): Promise<Swept> {
  const { runs, limits, clock, store } = context;
  const { signal, dryRun = false, ageMs = limits.sweepAgeMs } = options;
  const catalog = await openCatalog(store, { clock, limits, runs }).org(orgId).refresh({ signal });
  const now = recorder.now();
  const active = catalog.active();
  const stale = active.filter(({ updated_at }) => now - updated_at > ageMs);
  const swept: Swept = {
    org_id: orgId,
    active: active.length,
    looked: stale.length,
    repaired: [],
    timed_out: [],
    missing: [],
  };
  await mapParallel(
    stale,
    limits.parallelMax,
    async (row, stop) => {
      const readAt = recorder.now();
      const stored = await runs.read(orgId, row.run_id, stop);
      // A sweep that was stopped here knows nothing any more; the next one looks again.
      if (recorder.now() - readAt > limits.recordAgeMaxMs) return;
      if (stored === null) {
        swept.missing.push(row.run_id);
        return;
      }
      const { run } = stored;
      if (run.revision > row.revision) {
        swept.repaired.push(run.run_id);
        if (!dryRun) await recorder.repeatRecord(run, stop);
      }
      if (expired(run, recorder.now()) === null) return;
      if (dryRun || (await timeOut(recorder, orgId, run.run_id, stop))) swept.timed_out.push(run.run_id);
    },
    signal,
  );
  return swept;
}

/** False when the run showed life, or ended, before the transition reached it. */
async function timeOut(
  recorder: Recorder,
  orgId: string,
  runId: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    return (await recorder.apply(orgId, runId, { type: 'time_out' }, signal)).changed;
  } catch (error) {
    if (error instanceof LifecycleError) return false;
    throw error;
  }
}
