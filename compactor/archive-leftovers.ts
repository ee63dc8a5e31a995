import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, isRunfoldError } from '../src/core/errors.ts';
import { isTerminal, type Run } from '../src/runs/run.ts';
import { traceOf } from '../src/runs/traces.ts';
import { chunksPrefix, parseChunksKey } from '../src/store/keys.ts';
import { pagesOf } from '../src/store/pages.ts';
import { chunksUnder } from '../src/traces/chunk-list.ts';
import type { Chunk } from '../src/traces/chunks.ts';
import { removeTraces } from '../src/traces/remove.ts';
import { readWork } from '../src/traces/work.ts';
import type { Candidate } from './archive-candidates.ts';
import type { ArchivePass } from './archive-pass.ts';
import { liveAttempts, removeContained } from './archive-run.ts';
import { deleteChunks } from './archive-trace.ts';
import { workWindow } from './archive-window.ts';

/**
 * For what the work list does not know: chunks that landed after their trace was archived, chunks of runs that are
 * gone, and ended runs that the index has forgotten. Archived traces have no chunks, so this is bounded by
 * unarchived traces: 1 LIST per 1000 runs that have chunks, 1 GET per run that nothing else explains, and what is
 * found. Chunks that no archive contains are deleted once they are `traceChunkLifetimeMs` old, not before.
 */
export async function sweepLeftovers(pass: ArchivePass, candidates: readonly Candidate[]): Promise<void> {
  const { context, orgId, budget, signal } = pass;
  const { store, limits } = context;
  pass.work = (await readWork(store, orgId, signal)).work;
  const explained = new Set([...candidates.map(({ run_id }) => run_id), ...Object.keys(pass.work.entries)]);
  const prefix = chunksPrefix(orgId);
  for await (const page of pagesOf(store, { prefix, delimiter: '/', signal })) {
    const runIds = page.prefixes.flatMap((key) => parseChunksKey(orgId, key)?.runId ?? []);
    const forgotten = await mapParallel(
      runIds.filter((runId) => !explained.has(runId)),
      limits.traceParallel,
      async (runId, stop) => (budget.isOver() ? null : trySweep(pass, runId, stop)),
      signal,
    );
    const found = forgotten.filter((one) => one !== null);
    if (found.length > 0 && !budget.isOver()) await workWindow(pass, found);
    if (budget.isOver()) break;
  }
  if (budget.isOver()) pass.report.complete = false;
}

/** One that cannot be swept is reported, and holds up nobody. Ends with the budget. */
async function trySweep(pass: ArchivePass, runId: string, stop: AbortSignal): Promise<Candidate | null> {
  const { context, budget, report } = pass;
  try {
    return await sweepRun(pass, runId, AbortSignal.any([stop, budget.signal]));
  } catch (error) {
    if (stop.aborted) throw error;
    if (budget.signal.aborted) return null;
    const code = isRunfoldError(error) ? error.code : 'INTERNAL';
    const message = errorMessage(error).slice(0, context.limits.errorLengthMax);
    report.failed.push({ run_id: runId, attempts: 0, next_at: context.recorder.now(), code, message });
    return null;
  }
}

/** A run that is to be archived though the index does not say so. */
async function sweepRun(pass: ArchivePass, runId: string, signal: AbortSignal): Promise<Candidate | null> {
  const { context, orgId, report } = pass;
  const stored = await context.runs.read(orgId, runId, signal);
  const run = stored?.run ?? null;
  if (run?.deleted_at != null) {
    report.leftovers_deleted += await removeTraces(context, run, signal);
    return null;
  }
  const others = run === null ? [] : await removeArchived(pass, run, signal);
  report.leftovers_deleted += await removeOld(pass, runId, run, others, signal);
  if (run === null || !isTerminal(run.status) || liveAttempts(run).length === 0) return null;
  return { run_id: runId, finished_at: run.finished_at ?? 0 };
}

/** What archives contain goes; gives what they do not. */
async function removeArchived(pass: ArchivePass, run: Run, signal: AbortSignal): Promise<Chunk[]> {
  const others: Chunk[] = [];
  for (const [attempt, { archive }] of Object.entries(run.traces ?? {})) {
    if (archive === null) continue;
    const contained = await removeContained(pass.context, run, Number(attempt), archive, signal);
    pass.report.leftovers_deleted += contained.deleted;
    others.push(...contained.others);
  }
  return others;
}

async function removeOld(
  { context, orgId }: ArchivePass,
  runId: string,
  run: Run | null,
  others: readonly Chunk[],
  signal: AbortSignal,
): Promise<number> {
  const { store, recorder, limits } = context;
  const oldest = recorder.now() - limits.traceChunkLifetimeMs;
  // Chunks of a run, or of an attempt, that nobody knows: the mark comes first, so no live trace is like that.
  const unknown =
    run === null ? await chunksUnder(store, { prefix: chunksPrefix(orgId, runId), signal }) : [];
  const strays = run === null ? [] : await strayChunks(context, run, signal);
  const old = [...others, ...unknown, ...strays].filter(({ createdAt }) => createdAt < oldest);
  return deleteChunks(context, old, signal);
}

async function strayChunks(
  { store }: ArchivePass['context'],
  run: Run,
  signal: AbortSignal,
): Promise<Chunk[]> {
  const page = await store.list({ prefix: chunksPrefix(run.org_id, run.run_id), delimiter: '/', signal });
  const strays: Chunk[] = [];
  for (const prefix of page.prefixes) {
    const attempt = parseChunksKey(run.org_id, prefix)?.attempt ?? null;
    if (attempt !== null && traceOf(run, attempt) !== null) continue;
    strays.push(...(await chunksUnder(store, { prefix, signal })));
  }
  return strays;
}
