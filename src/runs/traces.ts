import { defaultLimits } from '../core/limits.ts';
import { uuidv7Time } from '../core/uuid.ts';
import { nameOfKey } from '../store/keys.ts';
import type { RunEvent } from './events.ts';
import { isTerminal, type Run, type Trace } from './run.ts';
import { annotated, refused, same, type Transition } from './transition.ts';

type EventOf<E extends RunEvent['type']> = Extract<RunEvent, { type: E }>;

export function traceOf(run: Run, attempt: number): Trace | null {
  const traces = run.traces ?? {};
  return Object.hasOwn(traces, String(attempt)) ? traces[String(attempt)]! : null;
}

/**
 * When the attempt ended, by the clock of whoever ended it, ms; null: not yet. `unknown` where other producers tell
 * the run's life cycle: their times are those of events, which may be any.
 */
export function traceEnd(run: Run, attempt: number): number | null | 'unknown' {
  if (attempt < run.attempt) return traceOf(run, attempt)?.ended_at ?? 'unknown';
  if (!isTerminal(run.status)) return null;
  if ((run.observed?.status ?? null) !== null || run.finished_at === null) return 'unknown';
  return run.finished_at;
}

/** Whether output may still be added. Refused with the reason where not; pure, for processes that look again. */
export function traceOpen(run: Run, attempt: number, now: number): Transition {
  const known = traceOf(run, attempt);
  if (known === null && attempt !== run.attempt) return staleAttempt(run, attempt);
  if (known !== null && known.status !== 'live') {
    return refused(
      'TRACE_ARCHIVED',
      `The log of attempt ${attempt} was archived.`,
      'What was acknowledged is in the archive; nothing can be added.',
    );
  }
  const end = traceEnd(run, attempt);
  if (end === null || (end !== 'unknown' && now - end <= defaultLimits.traceLateMs)) return same(run);
  return refused(
    'TRACE_CLOSED',
    `Attempt ${attempt} ended more than ${defaultLimits.traceLateMs} ms ago.`,
    'Send output while the attempt runs, or soon after.',
  );
}

/** Intent first: from here on the index tells that there is something to archive. */
export function openTrace(run: Run, { attempt }: EventOf<'trace'>, now: number): Transition {
  const open = traceOpen(run, attempt, now);
  if (open.outcome === 'refused' || traceOf(run, attempt) !== null) return open;
  return withTrace(run, now, attempt, { status: 'live', ended_at: null, archive: null });
}

/** The commit of an archive. Of two archives the first counts; the second is told so. */
export function commitTrace(
  run: Run,
  { attempt, archive, imported }: EventOf<'trace_archived'>,
  now: number,
): Transition {
  const known = traceOf(run, attempt);
  if (known === null && (!imported || attempt > run.attempt))
    return attempt === run.attempt ? noTrace(attempt) : staleAttempt(run, attempt);
  if (known === null || known.status === 'live') {
    return withTrace(run, now, attempt, {
      ended_at: null,
      ...known,
      status: archive.status,
      archive,
    });
  }
  if (known.archive?.uri === archive.uri) return same(run);
  return refused(
    'TRACE_ARCHIVED',
    `The log of attempt ${attempt} is in another archive.`,
    'Use that one; this one is left over.',
  );
}

/**
 * Whether the run can never come to name that archive any more, however late whoever wrote it commits: the run is
 * deleted, or the attempt's log is in another archive. Once it is so it stays so. Until then the archive may be the log
 * at any moment, whatever a clock says. Pure.
 */
export function neverNames(run: Run, attempt: number, uri: string): boolean {
  if (run.deleted_at !== null) return true;
  const known = traceOf(run, attempt);
  return known !== null && known.status !== 'live' && known.archive?.uri !== uri;
}

/** What a retry leaves behind: it is the last that knows when the attempt before it ended. */
export function closeTrace(run: Run): Pick<Run, 'traces'> {
  const trace = traceOf(run, run.attempt);
  const end = traceEnd(run, run.attempt);
  if (trace === null || typeof end !== 'number') return {};
  return { traces: { ...run.traces, [run.attempt]: { ...trace, ended_at: end } } };
}

function noTrace(attempt: number): Transition {
  return refused('TRACE_NOT_FOUND', `Attempt ${attempt} left no log.`, 'Look at the attempts of the run.');
}

function staleAttempt(run: Run, attempt: number): Transition {
  const which = attempt < run.attempt ? 'left no log before the retry' : 'is unknown';
  return refused(
    'ATTEMPT_STALE',
    `Attempt ${attempt} ${which}; the run is at attempt ${run.attempt}.`,
    'Stop working on this attempt.',
  );
}

function withTrace(run: Run, now: number, attempt: number, trace: Trace): Transition {
  return annotated(run, now, { traces: { ...run.traces, [attempt]: trace } });
}

/** When an archive of runfold's own naming was begun, ms. */
export function archiveTime(uri: string | null): number | null {
  return uri === null ? null : uuidv7Time(nameOfKey(uri));
}
