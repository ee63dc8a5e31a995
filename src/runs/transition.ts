import type { ErrorCode } from '../core/errors.ts';
import { defaultLimits } from '../core/limits.ts';
import { type Dataset, isTerminal, type Run } from './run.ts';

/** The answer of every pure lifecycle function. `same` is a recognised repeat: nothing to write. */
export type Transition<T = Run> =
  | { readonly outcome: 'changed'; readonly run: T }
  | { readonly outcome: 'same'; readonly run: T }
  | {
      readonly outcome: 'refused';
      readonly code: ErrorCode;
      readonly message: string;
      readonly hint: string;
    };

export function same<T>(run: T): Transition<T> {
  return { outcome: 'same', run };
}

export function refused(code: ErrorCode, message: string, hint: string): Transition<never> {
  return { outcome: 'refused', code, message, hint };
}

/**
 * The one way to a next state: revision +1, `updated_at` never runs back (clocks differ between machines), and a
 * run is finished exactly while its status is terminal.
 */
export function changed(run: Run, now: number, changes: Partial<Run>): Transition {
  const updated_at = Math.max(now, run.updated_at);
  const revision = run.revision + 1;
  const next: Run = {
    ...run,
    indexed_revision: revision,
    indexed_at: updated_at,
    ...changes,
    revision,
    updated_at,
  };
  next.finished_at = isTerminal(next.status) ? (isTerminal(run.status) ? run.finished_at : updated_at) : null;
  return { outcome: 'changed', run: next };
}

/**
 * A change that is none of the run's life, such as an archive or a late artifact: `updated_at` stays, because what ended
 * long ago must not become the latest run of its table by it. `changed_at` tells who seals rows that it is news.
 */
export function annotated(run: Run, now: number, changes: Partial<Run>): Transition {
  const changed_at = Math.max(now, run.updated_at, run.changed_at ?? 0);
  return changed(run, run.updated_at, { changed_at, ...changes });
}

/**
 * A sign of life. It always reaches the canonical run, which time-outs are judged by, but asks for a record only
 * once per `indexIntervalMs`, so that a fleet of workers does not drown the log.
 */
export function beat(
  run: Run,
  now: number,
  indexIntervalMs = defaultLimits.heartbeatIndexIntervalMs,
): Transition {
  if (run.heartbeat_at !== null && run.heartbeat_at >= now) return same(run);
  const { indexed_revision, indexed_at } = run;
  const due = now - indexed_at >= indexIntervalMs;
  return changed(run, now, { heartbeat_at: now, ...(due ? {} : { indexed_revision, indexed_at }) });
}

/** `a`, then what of `b` is new, by (namespace, name). */
export function unionDatasets(a: readonly Dataset[], b: readonly Dataset[] = []): Dataset[] {
  const seen = new Set<string>();
  const union: Dataset[] = [];
  for (const { namespace, name } of [...a, ...b]) {
    const id = JSON.stringify([namespace, name]);
    if (seen.has(id)) continue;
    seen.add(id);
    union.push({ namespace, name });
  }
  return union;
}
