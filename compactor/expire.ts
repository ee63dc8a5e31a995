import { openCatalog } from '../src/catalog/catalog.ts';
import { dueRuns } from '../src/catalog/due.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, isRunfoldError, LifecycleError } from '../src/core/errors.ts';
import { isDue, isShared } from '../src/runs/artifacts.ts';
import type { ArtifactEvent, ArtifactRef } from '../src/runs/events.ts';
import type { Recorder } from '../src/runs/recorder.ts';
import { type ResultStore, resultKey } from '../src/runs/results.ts';
import { type Artifact, isTerminal, type Run } from '../src/runs/run.ts';
import type { CompactorContext } from './context.ts';

export interface ExpireOptions {
  /** Null: nothing is deleted, expired artifacts are only marked, and that is final. */
  results: ResultStore | null;
  /** Look and report, change nothing. */
  dryRun?: boolean | undefined;
  /** Also runs that have long been sealed into history: reads all of it. */
  history?: boolean | undefined;
  onRun?: ((done: number, of: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** What became of one artifact whose time is over. */
export interface ExpiredArtifact {
  run_id: string;
  operator: string;
  port: string;
  uri: string | null;
  expires_at: number;
  /**
   * `deleted`: its object is gone. `marked`: runfold does not own it. `kept`: see `reason`; the next pass tries again.
   * In a dry run: what would be tried.
   */
  outcome: 'deleted' | 'marked' | 'kept';
  reason?: string;
}

export interface Expired {
  org_id: string;
  /** Runs that were looked at; more of them wait for the next pass. */
  runs: number;
  waiting: number;
  artifacts: ExpiredArtifact[];
  /** Runs whose canonical object cannot be read or written: `runfold verify` tells more. */
  failed: { run_id: string; code: string; message: string }[];
}

/** What is wrong with one run, and nobody else's business. */
const OF_ONE_RUN: readonly string[] = [
  'CORRUPT',
  'UNSUPPORTED_FORMAT',
  'LIMIT_EXCEEDED',
  'REVISION_CONFLICT',
];

type Context = Pick<CompactorContext, 'store' | 'runs' | 'limits' | 'clock'>;

/**
 * Removes artifacts whose time is over, of runs that have ended, those that expired first first. The index names the
 * runs; the canonical run decides. Cost: a refresh; for each run of the work list a read, a HEAD and a DELETE per
 * object, two transitions and a record.
 *
 * Order: look at the object, mark the artifact, delete exactly the generation that was looked at, record that it is
 * gone. The mark is refused where a retry came between: what a new attempt writes under an old name is never deleted.
 */
export async function expireOrg(
  context: Context,
  orgId: string,
  recorder: Recorder,
  options: ExpireOptions,
): Promise<Expired> {
  const { store, runs, limits, clock } = context;
  const { signal, history = false, onRun } = options;
  const catalog = await openCatalog(store, { clock, limits, runs }).org(orgId).refresh({ signal });
  const due = await dueRuns(catalog, recorder.now(), { history, signal });
  const work = due.slice(0, limits.artifactSweepRunsMax);
  const expired: Expired = {
    org_id: orgId,
    runs: work.length,
    waiting: due.length - work.length,
    artifacts: [],
    failed: [],
  };
  let done = 0;
  await mapParallel(
    work,
    limits.parallelMax,
    async (runId, stop) => {
      try {
        expired.artifacts.push(...(await expireRun(context, orgId, runId, recorder, options, stop)));
      } catch (error) {
        if (!isRunfoldError(error) || !OF_ONE_RUN.includes(error.code)) throw error;
        expired.failed.push({ run_id: runId, code: error.code, message: error.message });
      }
      onRun?.(++done, work.length);
    },
    signal,
  );
  return expired;
}

/** One artifact of the work, and the generation of its object; null: there is no object. */
interface Piece {
  ref: ArtifactRef;
  artifact: Artifact;
  key: string | null;
  generation: string | null;
  problem: string | null;
}

async function expireRun(
  { runs, limits }: Context,
  orgId: string,
  runId: string,
  recorder: Recorder,
  { results, dryRun = false }: ExpireOptions,
  signal: AbortSignal,
): Promise<ExpiredArtifact[]> {
  const readAt = recorder.now();
  const stored = await runs.read(orgId, runId, signal);
  if (stored === null || stored.run.deleted_at !== null) return [];
  const { run } = stored;
  // It came back to life since the index saw it, or a sweep that was stopped here knows nothing any more.
  if (!isTerminal(run.status) || recorder.now() - readAt > limits.recordAgeMaxMs) return [];
  const pieces = await lookAt(run, recorder.now(), results, limits.parallelMax, signal);
  if (dryRun) {
    const now = recorder.now();
    return pieces.map((piece) => {
      // As `expire` decides: what another artifact needs still is only marked.
      const stays = planned(piece) === 'deleted' && isShared(run.artifacts, piece.ref, now);
      return told(piece, run, stays ? 'marked' : planned(piece), piece.problem);
    });
  }
  if (pieces.length === 0) {
    // All is done, and the index does not know: the process that did it died before it could say so.
    await recorder.repeatRecord(run, signal);
    return [];
  }
  const sound = pieces.filter(({ problem }) => problem === null);
  const owned = sound.filter(({ key }) => key !== null);
  const marked = await change(recorder, run, signal, {
    type: 'expire',
    remove: owned.map(({ ref }) => ref),
    mark: sound.filter(({ key }) => key === null).map(({ ref }) => ref),
  });
  if (marked === null) return pieces.map((piece) => told(piece, run, 'kept', 'the run changed meanwhile'));
  const outcomes = new Map<Piece, ExpiredArtifact>();
  await mapParallel(
    owned,
    limits.parallelMax,
    async (piece, stop) => outcomes.set(piece, await remove(results!, piece, marked, stop)),
    signal,
  );
  const removed = owned.filter((piece) => outcomes.get(piece)!.outcome === 'deleted').map(({ ref }) => ref);
  const settledAt = recorder.now();
  const settled =
    removed.length === 0 ? marked : await change(recorder, run, signal, { type: 'settle', removed });
  // The clean-up sends its own record, once for both changes; a retry that came between has sent a newer one.
  if (settled !== null && recorder.now() - settledAt <= limits.recordAgeMaxMs)
    await recorder.repeatRecord(settled, signal);
  return pieces.map((piece) => outcomes.get(piece) ?? told(piece, run, planned(piece), piece.problem));
}

function planned({ key, problem }: Piece): ExpiredArtifact['outcome'] {
  return problem !== null ? 'kept' : key === null ? 'marked' : 'deleted';
}

/** What is due, with what the store has of it. Before anything is marked: see expireOrg. */
function lookAt(
  run: Run,
  now: number,
  results: ResultStore | null,
  parallel: number,
  signal: AbortSignal,
): Promise<Piece[]> {
  const due = Object.entries(run.artifacts).filter(([, artifact]) => isDue(artifact, now));
  return mapParallel(
    due,
    parallel,
    async ([key, artifact], stop) => {
      const ref = { key, uri: artifact.uri };
      const object = results && resultKey(results, run.org_id, run.run_id, artifact.uri);
      const piece: Piece = { ref, artifact, key: object, generation: null, problem: null };
      if (object === null) {
        // It was being deleted by a pass that knew the result store: only such a one can go on.
        return artifact.status === 'EXPIRING'
          ? { ...piece, problem: 'its result store is not configured' }
          : piece;
      }
      try {
        const meta = await results!.store.head(object, { signal: stop });
        return { ...piece, generation: meta?.generation ?? null };
      } catch (error) {
        if (stop.aborted) throw error;
        return { ...piece, problem: errorMessage(error) };
      }
    },
    signal,
  );
}

async function remove(
  { store }: ResultStore,
  piece: Piece,
  run: Run,
  signal: AbortSignal,
): Promise<ExpiredArtifact> {
  // Another artifact of the run needs the same object still: see artifactTransition.
  if (run.artifacts[piece.ref.key]?.status !== 'EXPIRING') return told(piece, run, 'marked');
  if (piece.generation === null) return told(piece, run, 'deleted');
  try {
    const answer = await store.delete(piece.key!, { ifGeneration: piece.generation, signal });
    if (answer.outcome === 'deleted' || answer.outcome === 'absent') return told(piece, run, 'deleted');
    const reason = answer.outcome === 'conflict' ? 'it was written anew' : errorMessage(answer.cause);
    return told(piece, run, 'kept', reason);
  } catch (error) {
    if (signal.aborted) throw error;
    return told(piece, run, 'kept', errorMessage(error));
  }
}

/** Null where the lifecycle refuses it: the run was retried or deleted since it was read. */
async function change(
  recorder: Recorder,
  { org_id, run_id, attempt }: Run,
  signal: AbortSignal,
  artifact: ArtifactEvent,
): Promise<Run | null> {
  try {
    return (await recorder.apply(org_id, run_id, { type: 'artifact', attempt, artifact }, signal)).run;
  } catch (error) {
    if (error instanceof LifecycleError) return null;
    throw error;
  }
}

function told(
  { artifact, ref }: Piece,
  run: Run,
  outcome: ExpiredArtifact['outcome'],
  reason?: string | null,
): ExpiredArtifact {
  return {
    run_id: run.run_id,
    operator: artifact.operator,
    port: artifact.port,
    uri: ref.uri,
    expires_at: artifact.expires_at!,
    outcome,
    ...(reason == null ? {} : { reason }),
  };
}
