import { InputError } from '../src/core/errors.ts';
import type { Limits } from '../src/core/limits.ts';

/** How long archivers try: what is not said is as in `limits`. */
export interface ArchiveTries {
  /** Tries before what survives is archived with gaps. */
  traceAttemptsMax?: number | undefined;
  /** From the first of them, ms: after that the next one is the last. */
  traceWindowMs?: number | undefined;
}

/** These limits with those tries. Throws InputError where nobody could keep what they promise. */
export function archiveLimits(limits: Limits, tries: ArchiveTries): Limits {
  const { traceAttemptsMax = limits.traceAttemptsMax, traceWindowMs = limits.traceWindowMs } = tries;
  if (traceWindowMs < limits.traceWindowMinMs) {
    throw new InputError(`A window of ${inHours(traceWindowMs)} to archive a log in is too short.`, {
      hint: `Say at least ${inHours(limits.traceWindowMinMs)}: a store that is away for a while must not cost a log its bytes.`,
    });
  }
  const changed = { ...limits, traceAttemptsMax, traceWindowMs };
  checkArchiveLimits(changed);
  return changed;
}

/** What every archiver relies on, also one of a library's user. */
export function checkArchiveLimits({ traceAttemptsMax, traceWindowMs, traceChunkLifetimeMs }: Limits): void {
  if (!Number.isSafeInteger(traceAttemptsMax) || traceAttemptsMax < 1) {
    throw new InputError(`${traceAttemptsMax} is not a number of tries to archive a log.`, {
      hint: 'Say a whole number from 1 on.',
    });
  }
  if (traceWindowMs < traceChunkLifetimeMs) return;
  throw new InputError(
    `The window to archive a log in (${inHours(traceWindowMs)}) must be shorter than its chunks live (${inHours(traceChunkLifetimeMs)}).`,
    { hint: 'Say a shorter window: after it, chunks that no archive has must still be there.' },
  );
}

function inHours(ms: number): string {
  return `${Number((ms / 3_600_000).toFixed(2))} h`;
}
