import { isPast } from '../src/catalog/fold.ts';
import { KeyedMutex, mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, isRunfoldError, RunfoldError, StoreError } from '../src/core/errors.ts';
import { checkWritable } from '../src/manifest/manifest.ts';
import { commitManifest } from '../src/manifest/manifest-store.ts';
import { project } from '../src/runs/projection.ts';
import { type LogRecord, recordOf, runIdOf } from '../src/runs/record.ts';
import type { Run } from '../src/runs/run.ts';
import { dirtyKey, manifestKey } from '../src/store/keys.ts';
import type { Brought, Foretold } from './backfill-foretold.ts';
import { addCounts, type Counts, failureOf, noCounts } from './backfill-job.ts';
import { contentOf, type Index, readIndex } from './backfill-known.ts';
import type { ReadOptions, RunSource, Stretch } from './backfill-source.ts';
import type { CompactorContext } from './context.ts';
import { find, plan } from './plan.ts';
import { prepare } from './prepare.ts';
import { removeStubs } from './stubs.ts';

const ORGS_AT_ONCE = 8;
const PROGRESS_RUNS = 500;

interface WorkerOptions extends ReadOptions {
  dryRun: boolean;
  /** Of a dry run: what it would have brought in before. */
  foretold: Foretold;
}

/** Does one unit after another; a unit is a fold whose records come from the canonical store. */
export class Worker {
  readonly #context: CompactorContext;
  readonly #source: RunSource;
  readonly #options: WorkerOptions;
  readonly #commits = new KeyedMutex();
  /** The index of the org whose stretches come one after another; small orgs come once. */
  #last: { orgId: string; index: Promise<Index> } | null = null;

  constructor(context: CompactorContext, source: RunSource, options: WorkerOptions) {
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

  #stretch(stretch: Stretch, signal: AbortSignal, onRuns: (runs: number) => void): Promise<Counts> {
    return ofOrg(stretch.org_id, signal, () => this.#runsOf(stretch, signal, onRuns));
  }

  async #runsOf(stretch: Stretch, signal: AbortSignal, onRuns: (runs: number) => void): Promise<Counts> {
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
        const { run } = one;
        const brought = this.#options.foretold.get(orgId, run.run_id);
        const what = brought === undefined ? compare(run, index) : shownOf(brought, index);
        counts[what]++;
        if (what === 'indexed') batch.records.push(recordOf(run));
      }
      if (clock.monotonic() - batch.readAt > limits.recordAgeMaxMs / 2) {
        await this.#commit(index, batch, signal);
        batch = { records: [], readAt: clock.monotonic() };
      }
    }
    for (const brought of this.#options.foretold.newIn(this.#source, stretch)) {
      counts.scanned++;
      counts[shownOf(brought, index)]++;
    }
    await this.#commit(index, batch, signal);
    onRuns(counts.scanned - told);
    // Garbage waits for a compactor: it should come by.
    if (counts.indexed > 0 && !this.#options.dryRun)
      await store.put(dirtyKey(orgId), new Uint8Array()).catch(() => undefined);
    return counts;
  }

  async #commit({ state: { orgId } }: Index, batch: Batch, signal: AbortSignal): Promise<void> {
    if (batch.records.length === 0) return;
    const { dryRun } = this.#options;
    await this.#commits.run(orgId, () => foldIn(this.#context, orgId, batch, dryRun, signal));
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

/** What one org has that cannot be read or written is told of it, and stops no other. */
async function ofOrg(orgId: string, signal: AbortSignal, work: () => Promise<Counts>): Promise<Counts> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted || error instanceof StoreError || !isRunfoldError(error)) throw error;
    return { ...noCounts(), orgs_failed: [failureOf(orgId, error)] };
  }
}

/** What is to be done with a canonical run, by what the index shows of it. `skipped`: it has no row by rule. */
export function compare(
  run: Run,
  { known, horizon }: Pick<Index, 'known' | 'horizon'>,
): 'indexed' | 'unchanged' | 'skipped' {
  const shown = known.get(run.run_id);
  if (run.deleted_at !== null) {
    if (shown?.deleted) return 'unchanged';
    return shown === null ? 'skipped' : 'indexed';
  }
  if (shown === null && isPast(run, horizon)) return 'skipped';
  // Heartbeats need no row of their own.
  if (shown === null || shown.revision < run.indexed_revision) return 'indexed';
  // A row that is newer was written meanwhile. One that differs at the same revision is for reconcile to judge.
  return shown.revision !== run.revision || shown.content === contentOf(project(run))
    ? 'unchanged'
    : 'indexed';
}

/** Its record would have shown it, but where the org has forgotten what ended so long ago. */
function shownOf(run: Brought, { horizon }: Index): 'unchanged' | 'skipped' {
  const isForgotten = run.deleted_at === null && isPast(run, horizon);
  return isForgotten ? 'skipped' : 'unchanged';
}

/** Records of canonical runs, none of which was read before `readAt` (monotonic). */
interface Batch {
  records: LogRecord[];
  readAt: number;
}

/**
 * Commits records as if the log had held them, together with what it does hold. Like every record they must be young
 * when they meet the head: what has replaced them could be sealed otherwise, where a fold does not look.
 * A dry run goes as far as the first PUT, so that what stops the real one stops it as well.
 */
async function foldIn(
  context: CompactorContext,
  orgId: string,
  batch: Batch,
  dryRun: boolean,
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
    if (dryRun) {
      if (found.current.manifest !== null) checkWritable(manifestKey(orgId), found.current.manifest);
      return;
    }
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
