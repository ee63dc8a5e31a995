import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, isRunfoldError } from '../src/core/errors.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import { isTerminal, type Run } from '../src/runs/run.ts';
import { changeWork, type Work, type WorkEntry } from '../src/traces/work.ts';
import type { Candidate } from './archive-candidates.ts';
import {
  type Claim,
  dropped,
  entryOf,
  isLastResort,
  nextTryMs,
  type Settled,
  withClaims,
  withSettled,
} from './archive-entries.ts';
import type { ArchivePass } from './archive-pass.ts';
import { archivableAt, archiveRun, isMismatch, liveAttempts, type RunDone } from './archive-run.ts';

/** A run as the window found it. */
interface Found {
  candidate: Candidate;
  run: Run | null;
  /** Why it could not be read. */
  problem: unknown;
}

type Claimed = Found & { claim: Claim; byAttempt: ReadonlyMap<number, string> };

/**
 * One window: reads the runs, claims those that need work in one write, works on them side by side, and settles all in
 * one write. 1 GET per run, 2 GET and 2 PUT of the work list, and what each run costs.
 */
export async function workWindow(pass: ArchivePass, window: readonly Candidate[]): Promise<void> {
  const { context, orgId, work, signal } = pass;
  const { limits, recorder, clock } = context;
  const found = await mapParallel(window, limits.parallelMax, (one, stop) => find(pass, one, stop), signal);
  const needy = found.filter((one) => needsWork(pass, one, entryOf(work, one.candidate.run_id)));
  for (const one of found) if (!needy.includes(one)) await setRight(pass, one);
  const claimed = needy.map((one) => claim(pass, one));
  const claims = new Map(claimed.map((one) => [one.candidate.run_id, one.claim]));
  const now = recorder.now();
  const claimedAt = clock.monotonic();
  let out: string[] = [];
  const take = (before: Work) => {
    out = dropped(before, claims, now, limits);
    return withClaims(before, claims, now, limits);
  };
  const taken = await changeWork(context, orgId, now, take, signal);
  pass.report.dropped.push(...out);
  const isLeft = claimed.some((one) => entryOf(taken, one.candidate.run_id) === null);
  pass.report.work_full ||= out.length > 0 || isLeft;
  const mine = claimed.filter((one) => entryOf(taken, one.candidate.run_id)?.claim?.by === one.claim.by);
  const settled = new Map<string, Settled>();
  await mapParallel(
    mine,
    limits.traceParallel,
    async (one, stop) => {
      const entry = entryOf(taken, one.candidate.run_id)!;
      settled.set(one.candidate.run_id, await tryRun(pass, one, entry, claimedAt, stop));
    },
    signal,
  );
  const cursor = cursorAfter(window, settled) ?? taken.cursor;
  const later = recorder.now();
  const settle = (before: Work) => withSettled(before, settled, cursor, later, limits);
  pass.work = await changeWork(context, orgId, later, settle, signal);
}

async function find(
  { context, orgId }: ArchivePass,
  candidate: Candidate,
  signal: AbortSignal,
): Promise<Found> {
  try {
    const stored = await context.runs.read(orgId, candidate.run_id, signal);
    return { candidate, run: stored?.run ?? null, problem: null };
  } catch (problem) {
    if (signal.aborted) throw problem;
    return { candidate, run: null, problem };
  }
}

function needsWork({ context }: ArchivePass, { run, problem }: Found, entry: WorkEntry | null): boolean {
  if (problem !== null || entry !== null) return true;
  if (run === null || run.deleted_at !== null) return false;
  const now = context.recorder.now();
  return liveAttempts(run).some((attempt) => {
    const at = archivableAt(context, run, attempt, entry);
    // An end that no clock here saw counts from when it is written down.
    return at !== null && (at <= now || at === Number.POSITIVE_INFINITY);
  });
}

/** The index is behind, or something was removed by hand. */
async function setRight(
  { context, report, settled, signal }: ArchivePass,
  { candidate, run }: Found,
): Promise<void> {
  if (run === null) report.missing.push(candidate.run_id);
  else if (liveAttempts(run).length === 0 || !isTerminal(run.status) || run.deleted_at !== null) {
    await context.recorder.repeatRecord(run, signal);
    settled.add(candidate.run_id);
  }
}

function claim({ context: { recorder, random } }: ArchivePass, one: Found): Claimed {
  const name = () => uuidv7(recorder.now(), random);
  const byAttempt = new Map(liveAttempts(one.run).map((attempt) => [attempt, name()]));
  return { ...one, byAttempt, claim: { by: name(), names: [...byAttempt.values()] } };
}

async function tryRun(
  pass: ArchivePass,
  { candidate, run, problem, claim: { by }, byAttempt }: Claimed,
  entry: WorkEntry,
  claimedAt: number,
  stop: AbortSignal,
): Promise<Settled> {
  const { context, orgId, budget, report } = pass;
  const { limits, clock } = context;
  const began = clock.monotonic();
  const names = [...byAttempt.values()];
  const done: RunDone = { forget: new Set(names), laterAt: null, problem };
  const settled = (outcome: Settled['outcome']): Settled => ({ by, names, forget: done.forget, outcome });
  if (problem === null) {
    const putBefore = claimedAt + limits.traceClaimMs;
    const signal = AbortSignal.any([stop, budget.signal]);
    const onListed = (chunks: number) => budget.grant(chunks, limits);
    const work = { orgId, run, entry, names: byAttempt, putBefore, report, onListed };
    try {
      if (budget.isOver()) return settled({ kind: 'released', next_at: 0 });
      await archiveRun(context, work, done, signal);
    } catch (error) {
      if (stop.aborted) throw error;
      done.problem = error;
      const hadItAll = clock.monotonic() - began >= 0.9 * budget.totalMs;
      if (budget.signal.aborted) {
        const next_at = hadItAll ? cutShort(pass, candidate.run_id, entry) : 0;
        return settled({ kind: 'released', next_at });
      }
    }
  }
  if (done.problem !== null) return settled(failure(pass, candidate.run_id, entry, done.problem));
  if (done.laterAt !== null) return settled({ kind: 'released', next_at: done.laterAt });
  pass.settled.add(candidate.run_id);
  return settled({ kind: 'done' });
}

/**
 * Says nothing of the log, so it counts as no try. But it must not come first again and again: it waits, the longer the
 * longer it has been so. Gives the time of the next try.
 */
function cutShort(
  { context: { recorder, limits }, report }: ArchivePass,
  run_id: string,
  { attempts, since }: WorkEntry,
): number {
  const now = recorder.now();
  const waitMs = Math.max(limits.traceBackoffBaseMs, (now - since) / 4);
  const next_at = now + Math.ceil(Math.min(limits.traceBackoffMaxMs, waitMs));
  const message = 'The budget of the pass ended first; this counts as no try.';
  report.failed.push({ run_id, attempts: attempts - 1, next_at, code: 'DEADLINE_EXCEEDED', message });
  return next_at;
}

function failure(
  { context: { recorder, random, limits }, report }: ArchivePass,
  run_id: string,
  entry: WorkEntry,
  problem: unknown,
): Settled['outcome'] {
  const now = recorder.now();
  const { attempts } = entry;
  const stale =
    now - entry.since > limits.traceChunkLifetimeMs &&
    isLastResort({ ...entry, attempts: attempts - 1 }, now, limits);
  const next_at = now + (stale ? limits.orphanAgeMs : nextTryMs(attempts, limits, random));
  const code = isRunfoldError(problem) ? problem.code : 'INTERNAL';
  const message = errorMessage(problem).slice(0, limits.errorLengthMax);
  if (isMismatch(problem)) report.mismatches++;
  if (stale && !entry.stale) report.given_up.push(run_id);
  if (!stale || !entry.stale) report.failed.push({ run_id, attempts, next_at, code, message });
  return { kind: 'failed', code, message, next_at, stale };
}

/** The last run before the first that was put off: the next pass goes on there. */
function cursorAfter(
  window: readonly Candidate[],
  settled: ReadonlyMap<string, Settled>,
): Work['cursor'] | undefined {
  const at = window.findIndex(({ run_id }) => {
    const outcome = settled.get(run_id)?.outcome;
    return outcome?.kind === 'released' && outcome.next_at === 0;
  });
  const last = at < 0 ? window.at(-1) : window[at - 1];
  return last && last.finished_at > 0 ? { ...last } : undefined;
}
