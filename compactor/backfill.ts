import { isPast } from '../src/catalog/fold.ts';
import { KeyedMutex, mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, RunfoldError } from '../src/core/errors.ts';
import { commitManifest } from '../src/manifest/manifest-store.ts';
import { project } from '../src/runs/projection.ts';
import { type LogRecord, recordOf, runIdOf } from '../src/runs/record.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import type { Run } from '../src/runs/run.ts';
import { dirtyKey } from '../src/store/keys.ts';
import {
  addCounts,
  type Counts,
  createJob,
  findJob,
  type Job,
  jobScope,
  noCounts,
  planJob,
  readDone,
  removeJob,
  reportDone,
} from './backfill-job.ts';
import { contentOf, type Index, readIndex } from './backfill-known.ts';
import { bringInLegacy, type Legacy, type LegacyMode } from './backfill-legacy.ts';
import { Pace } from './backfill-pace.ts';
import { type ReadOptions, type RunSource, runSource, type Stretch } from './backfill-source.ts';
import type { CompactorContext } from './context.ts';
import { find, plan } from './plan.ts';
import { prepare } from './prepare.ts';
import { removeStubs } from './stubs.ts';

export interface BackfillOptions {
  /** Only these orgs. Default: every org that has canonical runs. */
  orgs?: readonly string[] | undefined;
  /** This process's share of the work; `index` counts from 0. */
  shard?: { index: number; count: number } | undefined;
  /** Look and report, change nothing. */
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

export interface BackfillProgress {
  phase: 'legacy' | 'planning' | 'indexing';
  done: number;
  /** Null while it is not known. */
  total: number | null;
  perSecond: number;
  etaMs: number | null;
}

export interface Backfilled extends Counts {
  legacy: Legacy;
  /** Of this shard; `units_done_before` by earlier, interrupted attempts, whose counts are included. */
  units: number;
  units_done_before: number;
  /** Whether every shard's share is done. */
  complete: boolean;
}

const KIND = 'backfill';
const ORGS_AT_ONCE = 8;
const PROGRESS_RUNS = 500;

/**
 * Builds every org's snapshot from its canonical runs, while writers and compactors go on. A unit of runs is a fold
 * whose records come from the canonical store instead of the log: it is committed by the same compare-and-swap, so
 * that what it says twice, or late, or beside a writer changes nothing (law 1), and readers see it grow.
 *
 * Requests: one LIST per 1000 runs to plan; then a read per run, and per unit and org one fold. Nothing is written for
 * runs that the index shows as they are. Kill it at any time and call it again: units that left their report are done.
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
  const legacy = await bringInLegacy(context, {
    mode: options.legacy ?? 'copy',
    index: (run, stop) => recorder.repeatRecord(run, stop),
    orgs,
    shard,
    dryRun,
    before,
    signal,
    onProgress: ({ scanned }) => options.onProgress?.(pace.progress('legacy', scanned, null)),
  });
  const job = await openJob(context, source, options, recorder.now(), pace);
  const own = job.plan.units.map((_, i) => i).filter((i) => i % shard.count === shard.index);
  const counts = noCounts();
  const doneBefore = own.filter((i) => job.done.has(i));
  for (const i of doneBefore) {
    const report = await readDone(context.store, job.done.get(i)!.key, signal);
    if (report !== null) addCounts(counts, report);
  }
  const open = own.filter((i) => !job.done.has(i));
  const worker = new Worker(context, source, { signal, before, dryRun });
  const total = open.reduce((sum, i) => sum + runsOf(job.plan.units[i]!), 0);
  pace.restart();
  let scanned = 0;
  await mapParallel(
    open,
    options.parallel ?? 2,
    async (i, stop) => {
      const unit = await worker.unit(job.plan.units[i]!, stop, (runs) => {
        scanned += runs;
        options.onProgress?.(pace.progress('indexing', scanned, total));
      });
      if (!dryRun) await reportDone(context.store, job, i, unit);
      addCounts(counts, unit);
    },
    signal,
  );
  return {
    ...counts,
    legacy,
    units: own.length,
    units_done_before: doneBefore.length,
    complete:
      dryRun || job.plan.units.every((_, i) => job.done.has(i)) || (await isComplete(context, options)),
  };
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
  if (latest !== null && latest.done.size < latest.plan.units.length) return latest;
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
  return job === null || job.done.size >= job.plan.units.length;
}

function runsOf(unit: readonly Stretch[]): number {
  return unit.reduce((sum, { runs }) => sum + runs, 0);
}

class Worker {
  readonly #context: CompactorContext;
  readonly #source: RunSource;
  readonly #options: ReadOptions & { dryRun: boolean };
  readonly #commits = new KeyedMutex();
  /** The index of the org whose stretches come one after another; small orgs come once. */
  #last: { orgId: string; index: Promise<Index> } | null = null;

  constructor(context: CompactorContext, source: RunSource, options: ReadOptions & { dryRun: boolean }) {
    this.#context = context;
    this.#source = source;
    this.#options = options;
  }

  async unit(
    stretches: readonly Stretch[],
    signal: AbortSignal,
    onRuns: (runs: number) => void,
  ): Promise<Counts> {
    const all = await mapParallel(
      stretches,
      ORGS_AT_ONCE,
      (stretch, stop) => this.#stretch(stretch, stop, onRuns),
      signal,
    );
    return all.reduce(addCounts, noCounts());
  }

  async #stretch(stretch: Stretch, signal: AbortSignal, onRuns: (runs: number) => void): Promise<Counts> {
    const counts = noCounts();
    const { org_id: orgId } = stretch;
    const { clock, limits, store } = this.#context;
    const index = await this.#indexOf(orgId, signal);
    let batch: Batch = { records: [], readAt: clock.monotonic() };
    let told = 0;
    for await (const one of this.#source.runs(stretch, { signal, before: this.#options.before })) {
      counts.scanned++;
      if (counts.scanned - told >= PROGRESS_RUNS) {
        onRuns(counts.scanned - told);
        told = counts.scanned;
      }
      if ('problem' in one) counts.failed.push({ key: one.key, reason: errorMessage(one.problem) });
      else {
        const what = this.#compare(one.run, index);
        counts[what]++;
        if (what === 'indexed') batch.records.push(recordOf(one.run));
      }
      if (clock.monotonic() - batch.readAt > limits.recordAgeMaxMs / 2) {
        await this.#commit(orgId, batch, signal);
        batch = { records: [], readAt: clock.monotonic() };
      }
    }
    await this.#commit(orgId, batch, signal);
    onRuns(counts.scanned - told);
    // Garbage waits for a compactor: it should come by.
    if (counts.indexed > 0 && !this.#options.dryRun)
      await store.put(dirtyKey(orgId), new Uint8Array()).catch(() => undefined);
    return counts;
  }

  async #commit(orgId: string, batch: Batch, signal: AbortSignal): Promise<void> {
    if (batch.records.length === 0 || this.#options.dryRun) return;
    await this.#commits.run(orgId, () => foldIn(this.#context, orgId, batch, signal));
  }

  #compare(run: Run, { known, state }: Index): 'indexed' | 'unchanged' | 'skipped' {
    const shown = known.get(run.run_id);
    if (run.deleted_at !== null) {
      if (shown?.deleted) return 'unchanged';
      return shown === null ? 'skipped' : 'indexed';
    }
    if (shown === null && isPast(run, state.manifest?.horizon ?? null)) return 'skipped';
    // Heartbeats need no row of their own.
    if (shown === null || shown.revision < run.indexed_revision) return 'indexed';
    // A row that is newer was written meanwhile. One that differs at the same revision is for reconcile to judge.
    return shown.revision !== run.revision || shown.content === contentOf(project(run))
      ? 'unchanged'
      : 'indexed';
  }

  #indexOf(orgId: string, signal: AbortSignal): Promise<Index> {
    if (this.#last?.orgId !== orgId) {
      const index = readIndex(this.#context, orgId, { signal });
      this.#last = { orgId, index };
      index.catch(() => {
        if (this.#last?.index === index) this.#last = null;
      });
    }
    return this.#last.index;
  }
}

/** Records of canonical runs, none of which was read before `readAt` (monotonic). */
interface Batch {
  records: LogRecord[];
  readAt: number;
}

/**
 * Commits records as if the log had held them, together with what it does hold. Like every record they must be young
 * when they meet the head: what has replaced them could be sealed otherwise, where a fold does not look.
 */
async function foldIn(
  context: CompactorContext,
  orgId: string,
  batch: Batch,
  signal: AbortSignal,
): Promise<void> {
  const { clock, limits, store } = context;
  let { records, readAt } = batch;
  for (let round = 0; round < limits.contentionRoundsMax; round++) {
    const found = await find(context, orgId, signal);
    if (clock.monotonic() - readAt > limits.recordAgeMaxMs) {
      readAt = clock.monotonic();
      records = await readAgain(context, orgId, records, signal);
      continue;
    }
    const work = await plan(context, found, signal);
    if (work === null) continue;
    work.overlay.applyAll(records);
    const next = await prepare(context, found, { ...work, records: work.records + records.length });
    const commit = await commitManifest(store, next, found.current.generation);
    // `lost` and `unknown` alike: once more, on what is there now. To fold the same records twice changes nothing.
    if (commit.outcome !== 'committed') continue;
    await removeStubs(context, found.current.manifest, next, signal);
    return;
  }
  throw new RunfoldError('REVISION_CONFLICT', `The manifest of org ${orgId} changes too often.`, {
    hint: 'Fewer shards at a time, or pause the compactors of this org.',
  });
}

async function readAgain(
  { runs, limits }: CompactorContext,
  orgId: string,
  records: readonly LogRecord[],
  signal: AbortSignal,
): Promise<LogRecord[]> {
  const stored = await mapParallel(
    records,
    limits.parallelMax,
    (record, stop) => runs.read(orgId, runIdOf(record), stop),
    signal,
  );
  return stored.flatMap((one) => (one === null ? [] : [recordOf(one.run)]));
}
