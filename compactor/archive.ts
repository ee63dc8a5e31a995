import { openCatalog } from '../src/catalog/catalog.ts';
import { checkId } from '../src/core/ids.ts';
import { unwatched } from '../src/core/telemetry.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import { archivesPrefix } from '../src/store/keys.ts';
import { changeWork, readWork } from '../src/traces/work.ts';
import { Budget } from './archive-budget.ts';
import { type Candidate, candidatesOf, workList } from './archive-candidates.ts';
import { expireArchives } from './archive-expire.ts';
import { sweepLeftovers } from './archive-leftovers.ts';
import { checkArchiveLimits } from './archive-limits.ts';
import type { ArchivePass } from './archive-pass.ts';
import { recoverNames } from './archive-recover.ts';
import { type Archived, newReport } from './archive-report.ts';
import { waitsFor } from './archive-waiting.ts';
import { workWindow } from './archive-window.ts';
import type { CompactorContext } from './context.ts';
import { rehearsal } from './rehearsal.ts';

export interface ArchiveOptions {
  /** No trace is begun after it, and what runs then is stopped: nothing is lost by it. Default `traceBudgetMs`. */
  budgetMs?: number | undefined;
  /** Look for chunks that no live trace explains, too: see sweepLeftovers. */
  leftovers?: boolean | undefined;
  /** Read and assemble, tell what would be done; change nothing. See `rehearsal`. */
  dryRun?: boolean | undefined;
  /** Called with the runs that were looked at, and how many there are. */
  onProgress?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Archives the logs of ended runs. The work list comes from the index: what has ended and is live; head and tail hold
 * it all. The pass goes in windows, from behind the run where the last one ended and around; what fails waits, and
 * holds up nobody. Any number of passes may race. Costs are in docs/adr/0009-traces.md. Throws InputError for limits
 * that no archiver can keep.
 */
export async function archiveOrg(
  context: CompactorContext,
  orgId: string,
  recorder: Recorder,
  options: ArchiveOptions = {},
): Promise<Archived> {
  checkId('org id', orgId);
  checkArchiveLimits(context.limits);
  const { telemetry = unwatched } = context;
  if (options.dryRun) {
    const dry = rehearsal(context, recorder, (key) => key.startsWith(archivesPrefix(orgId)));
    return archive(dry.context, orgId, dry.recorder, options);
  }
  return telemetry.run('archive', { org: orgId }, async (note) => {
    const done = await archive(context, orgId, recorder, options);
    const { archived, partial, lost, failed, mismatches, bytes, waiting, due, oldest_ended_at } = done;
    const oldest_age_ms = oldest_ended_at === null ? 0 : Math.max(0, recorder.now() - oldest_ended_at);
    note({ archived, partial, lost, failed: failed.length, mismatches, bytes, waiting, due, oldest_age_ms });
    return done;
  });
}

async function archive(
  context: CompactorContext,
  orgId: string,
  recorder: Recorder,
  options: ArchiveOptions,
): Promise<Archived> {
  const { signal } = options;
  const { store, runs, limits, clock } = context;
  const { state } = await openCatalog(store, { clock, limits, runs }).org(orgId).refresh({ signal });
  const candidates = candidatesOf(state);
  const { work, isCorrupt } = await readWork(store, orgId, signal);
  const report = newReport(orgId);
  report.work_renewed = isCorrupt;
  const settled = new Set<string>();
  const budget = new Budget(clock, options.budgetMs ?? limits.traceBudgetMs);
  const about = { orgId, budget, report, settled, signal, work };
  const pass: ArchivePass = { context: { ...context, recorder }, ...about };
  try {
    if (isCorrupt)
      pass.work = await changeWork(pass.context, orgId, recorder.now(), (before) => before, signal);
    await workAll(pass, workList(candidates, work), options);
    // The policy does not wait for what the sweep may meet.
    const retainMs = state.manifest?.policy.trace_retain_ms ?? null;
    if (retainMs !== null) report.expired = await expireArchives(pass, pass.work, retainMs);
    if (options.leftovers && !budget.isOver()) await sweepLeftovers(pass, candidates);
    if (options.leftovers && !budget.isOver()) await recoverNames(pass);
  } finally {
    budget.end();
  }
  const waiting = candidates.filter(({ run_id }) => !settled.has(run_id));
  report.waiting = waiting.length;
  const now = recorder.now();
  for (const candidate of waiting) report[waitsFor(pass.work, candidate, now, limits)]++;
  report.oldest_ended_at = waiting[0]?.finished_at ?? null;
  return report;
}

async function workAll(
  pass: ArchivePass,
  list: readonly Candidate[],
  { onProgress }: ArchiveOptions,
): Promise<void> {
  const { limits } = pass.context;
  const { traceWindowRuns } = limits;
  const { work } = pass;
  const now = pass.context.recorder.now();
  // What waits for its time costs nothing: the pass is for what is due.
  const due = list.filter((candidate) => waitsFor(work, candidate, now, limits) === 'due');
  onProgress?.(0, due.length);
  for (let at = 0; at < due.length; at += traceWindowRuns) {
    if (pass.budget.isOver()) {
      pass.report.complete = false;
      return;
    }
    await workWindow(pass, due.slice(at, at + traceWindowRuns));
    onProgress?.(Math.min(due.length, at + traceWindowRuns), due.length);
  }
  if (pass.budget.isOver()) pass.report.complete = false;
}
