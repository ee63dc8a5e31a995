import { z } from 'zod';
import { isPast } from '../src/catalog/fold.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { errorMessage, InputError, RunfoldError, StoreError } from '../src/core/errors.ts';
import { checkStored, encodeStored, parseStored } from '../src/core/stored-json.ts';
import { project } from '../src/runs/projection.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import type { Run } from '../src/runs/run.ts';
import { shardOf } from '../src/store/keys.ts';
import { ABSENT } from '../src/store/object-store.ts';
import { failureOf, JOB_FORMAT, JOBS_PREFIX, jobScope, type OrgFailure } from './backfill-job.ts';
import { contentOf, type Index, indexRows, type KnownRuns, readIndex } from './backfill-known.ts';
import { Pace } from './backfill-pace.ts';
import {
  everyOrg,
  hasRuns,
  noRunsError,
  type Outside,
  type RunSource,
  runSource,
} from './backfill-source.ts';
import type { CompactorContext } from './context.ts';
import { type Drift, judge, repairDrift, type Suspect } from './reconcile-drift.ts';

export interface ReconcileOptions {
  orgs?: readonly string[] | undefined;
  shard?: { index: number; count: number } | undefined;
  /** Share of runs to look at, chosen by hash and anew for every pass. Default 1: all. */
  sample?: number | undefined;
  /** Look and report, change nothing; not even the cursor. */
  dryRun?: boolean | undefined;
  /** Repair even when so many rows have no canonical run that the run store is more likely the wrong one. */
  force?: boolean | undefined;
  /** Begin no further window after this long: the next call goes on there. */
  budgetMs?: number | undefined;
  ratePerSecond?: number | undefined;
  /** Runs between two saves of the cursor, at least. */
  windowRuns?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: { org_id: string; scanned: number; drift: number }) => void) | undefined;
}

export interface Reconciled {
  /** Of this call. */
  scanned: number;
  orgs: number;
  windows: number;
  drift: Drift[];
  failed: { key: string; reason: string }[];
  /**
   * Orgs, or windows of them, that were left as they are. `refused`: so much would be removed that the run store is more
   * likely the wrong one; `failed`: what the org has cannot be read or written. The others went on.
   */
  orgs_failed: OrgFailure[];
  /** Passes over all runs of this shard that were ever finished, this call's included. */
  pass: number;
  /** Whether this call finished one; otherwise the next call goes on at the cursor. */
  complete: boolean;
}

const cursorSchema = z.looseObject({
  format: z.literal(JOB_FORMAT),
  /** Finished passes. */
  pass: z.number().int().nonnegative(),
  /** Everything up to this run is done in this pass; null: the pass has not begun. */
  at: z.object({ org_id: z.string(), after: z.string().nullable() }).nullable(),
  saved_at: z.number(),
});
type Cursor = z.infer<typeof cursorSchema>;

const WINDOW_RUNS = 100_000;
/** Of an org whose index is large, windows are so large that its history is read this often per pass. */
const WINDOWS_PER_ORG = 10;

/**
 * Compares canonical runs and index in both directions, window by window, and repairs what differs. Writers and
 * compactors go on: what looks wrong is read again in an order that tells drift from work in progress (`judge`).
 * Every window saves the cursor, so that a pass always ends, in however many calls. What is wrong with one org is told
 * in `orgs_failed` and stops no other; a store that does not answer is everybody's, and throws.
 */
export async function reconcile(
  context: CompactorContext,
  recorder: Recorder,
  options: ReconcileOptions = {},
): Promise<Reconciled> {
  const { dryRun = false, budgetMs = Number.POSITIVE_INFINITY } = options;
  const saved = await CursorFile.open(context, options);
  const { pass } = saved.cursor;
  const result: Reconciled = {
    scanned: 0,
    orgs: 0,
    windows: 0,
    drift: [],
    failed: [],
    orgs_failed: [],
    pass,
    complete: false,
  };
  const began = context.clock.monotonic();
  const pace = new Pace(context.clock, options.ratePerSecond);
  const walk: Walk = { context, recorder, options, pace, source: runSource(context), result, pass };
  for (const orgId of await orgsOf(walk)) {
    const { at } = saved.cursor;
    if (at !== null && orgId < at.org_id) continue;
    let after = at !== null && at.org_id === orgId ? at.after : null;
    const index = await ofOrg(walk, orgId, () => openIndex(walk, orgId));
    const windowRuns = Math.max(
      options.windowRuns ?? WINDOW_RUNS,
      Math.ceil((index?.state.manifest?.rows ?? 0) / WINDOWS_PER_ORG),
    );
    for (let more = true; more; ) {
      // What is wrong with an org is told once: it is passed over in the call that found out.
      if (index !== null && result.windows > 0 && context.clock.monotonic() - began > budgetMs) return result;
      const window =
        index && (await ofOrg(walk, orgId, () => compareWindow(walk, index, orgId, after, windowRuns)));
      after = window?.until ?? null;
      more = after !== null;
      result.windows++;
      // An org that is done is passed over by naming the one behind it: no id is greater than `org` and less than this.
      if (!dryRun) await saved.save({ org_id: more ? orgId : `${orgId}\0`, after });
    }
    result.orgs++;
  }
  result.complete = true;
  result.pass++;
  if (!dryRun) await saved.finish();
  return result;
}

interface Walk {
  context: CompactorContext;
  recorder: Recorder;
  options: ReconcileOptions;
  pace: Pace;
  source: RunSource;
  result: Reconciled;
  pass: number;
}

/** What is wrong with one org is told, and null stands for it. */
async function ofOrg<T>({ options, result }: Walk, orgId: string, work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (options.signal?.aborted || error instanceof StoreError) throw error;
    result.orgs_failed.push(failureOf(orgId, error));
    return null;
  }
}

async function openIndex({ context, options }: Walk, orgId: string): Promise<Index> {
  const { signal, force } = options;
  const index = await readIndex(context, orgId, { signal });
  // Runs first made after the index was read only help.
  if (!force && index.rows > 0 && !(await hasRuns(context, orgId, signal))) throw noRunsError(context, orgId);
  return index;
}

/** Also orgs that have only an index: rows without any canonical run are drift as well. */
async function orgsOf({ context, options, result }: Walk): Promise<string[]> {
  const { orgs, signal } = options;
  const { index, count } = options.shard ?? { index: 0, count: 1 };
  // Told once, not by every shard.
  const onOutside = index === 0 ? (one: Outside) => void result.failed.push(one) : undefined;
  const all = orgs === undefined ? await everyOrg(context, signal, onOutside) : [...new Set(orgs)].sort();
  return all.filter((orgId) => shardOf(orgId) % count === index);
}

/** One window: canonical runs against the index, then index rows against what was seen. `until` null: the org is done. */
async function compareWindow(
  walk: Walk,
  index: Index,
  orgId: string,
  after: string | null,
  windowRuns: number,
): Promise<{ until: string | null }> {
  const { context, options, result, source, pace } = walk;
  const { signal } = options;
  const select = sampling(options.sample, walk.pass);
  const before = options.ratePerSecond === undefined ? undefined : (runs: number) => pace.take(runs, signal);
  const suspects = new Map<string, Suspect>();
  const unreadable = new Set<string>();
  let until: string | null = null;
  let inWindow = 0;
  for await (const one of source.runs({ org_id: orgId, after, until: null }, { signal, select, before })) {
    result.scanned++;
    inWindow++;
    if ('problem' in one) {
      result.failed.push({ key: one.key, reason: errorMessage(one.problem) });
      unreadable.add(one.cursor);
    } else {
      const { run } = one;
      index.known.markSeen(run.run_id);
      if (differs(run, index)) suspects.set(run.run_id, { run_id: run.run_id, row: null });
    }
    if (inWindow % 1_000 === 0)
      options.onProgress?.({ org_id: orgId, scanned: result.scanned, drift: result.drift.length });
    if (inWindow < windowRuns) continue;
    until = one.cursor;
    break;
  }
  const bounds = { after, until };
  let rows = 0;
  for await (const { rows: table, i } of indexRows(context, index.state, signal)) {
    const runId = table.runId(i);
    if (!source.holds(bounds, runId) || (select !== undefined && !select(runId))) continue;
    rows++;
    if (index.known.isSeen(runId) || suspects.has(runId)) continue;
    suspects.set(runId, { run_id: runId, row: table.get(i) });
  }
  const drift = await judge(context, orgId, suspects, signal);
  const strays = drift.filter(({ kind }) => kind === 'stray').length;
  const isDoubtful = strays > Math.max(100, rows / 20) && !options.force;
  for (const one of drift) one.drift.repairable = !(one.kind === 'stray' && isDoubtful);
  await mapParallel(
    options.dryRun ? [] : drift.filter((one) => one.drift.repairable),
    context.limits.parallelMax,
    async (one, stop) => {
      one.drift.repaired = await repairDrift(context, walk.recorder, orgId, one, stop);
    },
    signal,
  );
  for (const one of drift) result.drift.push(one.drift);
  if (isDoubtful) {
    result.orgs_failed.push(
      failureOf(
        orgId,
        new InputError(
          `${strays} of ${rows} rows of org ${orgId} have no canonical run: none of them was removed.`,
          { hint: 'See that --runs names the right run store; --force removes the rows all the same.' },
        ),
      ),
    );
  }
  return { until };
}

/** On the index as it was read: what may well have changed since is judged later. */
function differs(run: Run, { known, state }: { known: KnownRuns; state: Index['state'] }): boolean {
  const shown = known.get(run.run_id);
  if (run.deleted_at !== null) return shown !== null && !shown.deleted;
  if (shown === null) return !isPast(run, state.manifest?.horizon ?? null);
  if (shown.deleted) return true;
  if (shown.revision === run.revision) return shown.content !== contentOf(project(run));
  return shown.revision > run.revision || shown.revision < run.indexed_revision;
}

function sampling(share: number | undefined, pass: number): ((runId: string) => boolean) | undefined {
  if (share === undefined || share >= 1) return undefined;
  return (runId) => crc32c(new TextEncoder().encode(`${pass} ${runId}`)) < share * 2 ** 32;
}

/** One object per shard and scope; two calls at a time would only do things twice, and the second finds out at its first save. */
class CursorFile {
  cursor: Cursor;
  readonly #context: CompactorContext;
  readonly #key: string;
  #generation: string | null;

  private constructor(context: CompactorContext, key: string, cursor: Cursor, generation: string | null) {
    this.#context = context;
    this.#key = key;
    this.cursor = cursor;
    this.#generation = generation;
  }

  static async open(context: CompactorContext, { orgs, shard, sample, signal }: ReconcileOptions) {
    const { index, count } = shard ?? { index: 0, count: 1 };
    const key = `${JOBS_PREFIX}reconcile/${jobScope(orgs)}-${sample ?? 1}-${index}-of-${count}.json`;
    const got = await context.store.get(key, { signal });
    if (got.outcome !== 'found') {
      const none: Cursor = { format: JOB_FORMAT, pass: 0, at: null, saved_at: 0 };
      return new CursorFile(context, key, none, null);
    }
    const cursor = checkStored(key, cursorSchema, parseStored(key, 'cursor', JOB_FORMAT, got.body));
    return new CursorFile(context, key, cursor, got.meta.generation);
  }

  save(at: Cursor['at']): Promise<void> {
    return this.#put({ ...this.cursor, at });
  }

  finish(): Promise<void> {
    return this.#put({ ...this.cursor, at: null, pass: this.cursor.pass + 1 });
  }

  async #put(cursor: Cursor): Promise<void> {
    const { store, clock } = this.#context;
    this.cursor = { ...cursor, saved_at: clock.now() };
    const put = await store.put(this.#key, encodeStored(this.cursor), {
      ifGeneration: this.#generation ?? ABSENT,
      contentType: 'application/json',
    });
    if (put.outcome === 'written') {
      this.#generation = put.meta.generation;
      return;
    }
    throw new RunfoldError('REVISION_CONFLICT', `${this.#key} was written by another reconcile.`, {
      hint: 'Let it finish, or give each of them a --shard of its own.',
    });
  }
}
