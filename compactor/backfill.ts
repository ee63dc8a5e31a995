import { mapParallel } from '../src/core/concurrency.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import type { Run } from '../src/runs/run.ts';
import { Foretold } from './backfill-foretold.ts';
import {
  addCounts,
  type Counts,
  createJob,
  findJob,
  isLasting,
  type Job,
  jobScope,
  noCounts,
  planJob,
  readDone,
  removeJob,
  reportDone,
} from './backfill-job.ts';
import { type Index, readIndex } from './backfill-known.ts';
import { bringInLegacy, type Legacy, type LegacyMode } from './backfill-legacy.ts';
import { type BackfillProgress, Pace } from './backfill-pace.ts';
import { type RunSource, runSource, type Stretch } from './backfill-source.ts';
import { compare, Worker } from './backfill-worker.ts';
import type { CompactorContext } from './context.ts';

export interface BackfillOptions {
  /** Only these orgs. Default: every org that has canonical runs. */
  orgs?: readonly string[] | undefined;
  /** This process's share of the work; `index` counts from 0. */
  shard?: { index: number; count: number } | undefined;
  /** Look and report what this call would do if it were made now, and alone; change nothing. */
  dryRun?: boolean | undefined;
  /** Canonical runs read per second, at most. */
  ratePerSecond?: number | undefined;
  /** Runs per unit: what is read, folded and committed in one go, and done again after a kill. */
  unitRuns?: number | undefined;
  /** Units at a time. */
  parallel?: number | undefined;
  legacy?: LegacyMode | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: BackfillProgress) => void) | undefined;
}

export interface Backfilled extends Counts {
  legacy: Legacy;
  /** Of this shard; `units_done_before` by earlier, interrupted attempts, whose counts are included. */
  units: number;
  units_done_before: number;
  /** Whether every shard's share is done; in a dry run, would be. */
  complete: boolean;
}

const KIND = 'backfill';

/**
 * Builds every org's snapshot from its canonical runs, while writers and compactors go on. A unit of runs is a fold
 * whose records come from the canonical store instead of the log: it is committed by the same compare-and-swap, so
 * that what it says twice, or late, or beside a writer changes nothing (law 1), and readers see it grow.
 *
 * Requests: one LIST per 1000 runs to plan; then a read per run, and per unit and org one fold. Nothing is written for
 * runs that the index shows as they are. An org whose catalog cannot be read or written is told, and stops no other. Kill it at any time and call it again: units that left their report are done.
 */
export async function backfill(
  context: CompactorContext,
  recorder: Recorder,
  options: BackfillOptions = {},
): Promise<Backfilled> {
  const { signal, orgs, dryRun = false } = options;
  const shard = options.shard ?? { index: 0, count: 1 };
  const pace = new Pace(context.clock, options.ratePerSecond);
  const before = options.ratePerSecond === undefined ? undefined : (runs: number) => pace.take(runs, signal);
  const source = runSource(context);
  const foretold = new Foretold();
  const legacy = await bringInLegacy(context, {
    mode: options.legacy ?? 'copy',
    index: (run, stop) => recorder.repeatRecord(run, stop),
    isShown: await shownBy(context, source, options),
    wouldIndex: (run, isNew) => foretold.add(run, isNew),
    orgs,
    shard,
    dryRun,
    before,
    signal,
    onProgress: ({ scanned }) => options.onProgress?.(pace.progress('legacy', scanned, null)),
  });
  const job = await openJob(context, foretold.on(source), options, recorder.now(), pace);
  const own = job.plan.units.map((_, i) => i).filter((i) => i % shard.count === shard.index);
  const counts = noCounts();
  // Told once, not by every shard.
  if (shard.index === 0) counts.failed.push(...job.plan.outside);
  const doneBefore = own.filter((i) => job.done.has(i));
  for (const i of doneBefore) {
    const report = await readDone(context.store, job.done.get(i)!.key, signal);
    if (report !== null) addCounts(counts, report);
  }
  const open = own.filter((i) => !job.done.has(i));
  const worker = new Worker(context, source, { signal, before, dryRun, foretold });
  const total = open.reduce((sum, i) => sum + runsOf(job.plan.units[i]!), 0);
  pace.restart();
  let scanned = 0;
  const finished = new Set(job.done.keys());
  await mapParallel(
    open,
    options.parallel ?? 2,
    async (i, stop) => {
      const unit = await worker.unit(job.plan.units[i]!, stop, (runs) => {
        scanned += runs;
        options.onProgress?.(pace.progress('indexing', scanned, total));
      });
      // What may go better the next time is left to it.
      if (unit.orgs_failed.every(isLasting)) {
        finished.add(i);
        if (!dryRun) await reportDone(context.store, job, i, unit);
      }
      addCounts(counts, unit);
    },
    signal,
  );
  // Units end in any order.
  counts.failed.sort((a, b) => (a.key < b.key ? -1 : 1));
  counts.orgs_failed.sort((a, b) => (a.org_id < b.org_id ? -1 : 1));
  legacy.failed.sort((a, b) => (a.key < b.key ? -1 : 1));
  return {
    ...counts,
    legacy,
    units: own.length,
    units_done_before: doneBefore.length,
    complete:
      job.plan.units.every((_, i) => (dryRun ? finished : job.done).has(i)) ||
      (!dryRun && (await isComplete(context, options))),
  };
}

/**
 * Whether a run that somebody copied earlier will be met, or is in the index. Only a job that was begun before may pass it
 * over, in a unit that is done or in work elsewhere; then the index tells, looked up once per org.
 */
async function shownBy(context: CompactorContext, source: RunSource, options: BackfillOptions) {
  const { orgs, signal } = options;
  const shard = options.shard ?? { index: 0, count: 1 };
  const latest = await findJob(context.store, KIND, jobScope(orgs), signal);
  if (latest === null || isDone(latest)) return async () => true;
  const open = new Map<string, Stretch[]>();
  for (const [i, unit] of latest.plan.units.entries()) {
    if (i % shard.count !== shard.index || latest.done.has(i)) continue;
    for (const stretch of unit) open.set(stretch.org_id, [...(open.get(stretch.org_id) ?? []), stretch]);
  }
  const indexes = new Map<string, Promise<Pick<Index, 'known' | 'horizon'>>>();
  return async (run: Run): Promise<boolean> => {
    if (open.get(run.org_id)?.some((stretch) => source.holds(stretch, run.run_id))) return true;
    let index = indexes.get(run.org_id);
    if (index === undefined) {
      index = readIndex(context, run.org_id, { signal }).then(({ known, horizon }) => ({ known, horizon }));
      indexes.set(run.org_id, index);
    }
    return compare(run, await index) !== 'indexed';
  };
}

function isDone({ plan, done }: Job): boolean {
  return done.size >= plan.units.length;
}

/** The job that was begun and not finished; else a new one. A dry run plans for itself. */
async function openJob(
  context: CompactorContext,
  source: RunSource,
  { orgs, signal, dryRun, unitRuns, onProgress }: BackfillOptions,
  now: number,
  pace: Pace,
): Promise<Job> {
  const scope = jobScope(orgs);
  const latest = await findJob(context.store, KIND, scope, signal);
  if (latest !== null && !isDone(latest)) return latest;
  const plan = await planJob(source, {
    orgs,
    unitRuns: unitRuns ?? context.limits.headRowsMax,
    now,
    signal,
    onProgress: (runs) => onProgress?.(pace.progress('planning', runs, null)),
  });
  if (dryRun) return { name: '', plan, done: new Map() };
  const job = await createJob(context.store, KIND, scope, latest, plan, signal);
  if (latest !== null) await removeJob(context.store, latest, signal);
  return job;
}

async function isComplete({ store }: CompactorContext, { orgs, signal }: BackfillOptions): Promise<boolean> {
  const job = await findJob(store, KIND, jobScope(orgs), signal);
  return job === null || isDone(job);
}

function runsOf(unit: readonly Stretch[]): number {
  return unit.reduce((sum, { runs }) => sum + runs, 0);
}
