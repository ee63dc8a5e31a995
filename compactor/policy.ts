import { fold } from '../src/catalog/fold.ts';
import { CorruptError, InputError } from '../src/core/errors.ts';
import type { Limits } from '../src/core/limits.ts';
import { checkWritable, type Policy } from '../src/manifest/manifest.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';
import { find, plan } from './plan.ts';
import { horizonAt, isPastPart, retired } from './retention.ts';

/** What the next fold would forget under a policy. */
export interface Forgotten {
  /** Server time before which ended runs are forgotten; null: nothing ever was or is. */
  horizon: number | null;
  /** Runs dropped from the head, and with whole parts. */
  head_runs: number;
  parts: number;
  part_runs: number;
  /** Parts that stay, but may hold runs that readers no longer show; those go when the part merges. */
  parts_partly: number;
}

/**
 * Refuses times that nobody means. An archive must outlast the tries to archive: one that goes before its chunks would
 * is a log that was never kept. Throws InputError; looks at no more than what is given.
 */
export function checkPolicy(
  { retain_ms, time_travel_ms, trace_retain_ms }: Partial<Policy>,
  { retainMinMs, traceWindowMs }: Limits,
): void {
  atLeast('Runs', retain_ms, retainMinMs);
  // 0 is off.
  atLeast('Old versions', time_travel_ms === 0 ? null : time_travel_ms, retainMinMs);
  atLeast('Archived logs', trace_retain_ms, traceWindowMs, 'the window within which logs are archived');
}

function atLeast(
  what: string,
  ms: number | null | undefined,
  minMs: number,
  why = 'the shortest time',
): void {
  if (ms === null || ms === undefined || ms >= minMs) return;
  const hours = Number((minMs / 3_600_000).toFixed(2));
  throw new InputError(`${what} cannot be kept for ${ms / 1_000} s only: ${why} is ${hours} h.`, {
    hint: 'Say a longer time, or off. 1m is a minute.',
  });
}

/** Counts only; nothing is written. Requests as those of a fold up to its first PUT. */
export async function previewPolicy(
  context: CompactorContext,
  orgId: string,
  policy: Policy,
  signal?: AbortSignal,
): Promise<Forgotten> {
  for (let round = 0; round < context.limits.refreshAttemptsMax; round++) {
    const found = await find(context, orgId, signal);
    const work = await plan(context, found, signal);
    // Another compactor was quicker.
    if (work === null) continue;
    const { manifest } = found.current;
    if (manifest !== null) checkWritable(manifestKey(orgId), manifest);
    const horizon = horizonAt(manifest, policy, found.listedAt);
    const { rows } = fold(work.base, work.overlay, manifest?.horizon ?? null);
    const history = (manifest?.parts ?? []).filter(({ level }) => level > 0);
    const past = history.filter((part) => isPastPart(part, horizon));
    const partly = history.filter(
      (part) =>
        !past.includes(part) &&
        horizon !== null &&
        part.created_at_min !== null &&
        part.created_at_min < horizon,
    );
    return {
      horizon,
      head_runs: retired(rows, horizon).length,
      parts: past.length,
      part_runs: past.reduce((sum, { runs }) => sum + runs, 0),
      parts_partly: partly.length,
    };
  }
  throw new CorruptError(manifestKey(orgId), 'objects that it names are missing', {
    hint: 'Run `runfold verify`, then `runfold repair`.',
  });
}
