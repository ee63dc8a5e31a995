import type { Limits } from '../src/core/limits.ts';
import type { Work } from '../src/traces/work.ts';
import type { Candidate } from './archive-candidates.ts';
import { entryOf, isClaimed } from './archive-entries.ts';
import type { Archived } from './archive-report.ts';

/** Why an ended run is not archived yet: the names of the counts in a report. */
export type Waiting = keyof Pick<Archived, 'due' | 'claimed' | 'backing_off' | 'settling'>;

/** Only what is due is tried. Pure. */
export function waitsFor(
  work: Work,
  { run_id, finished_at }: Candidate,
  now: number,
  limits: Limits,
): Waiting {
  const entry = entryOf(work, run_id);
  if (entry === null) return now >= finished_at + limits.traceSettleMs ? 'due' : 'settling';
  if (isClaimed(entry, now, limits)) return 'claimed';
  if (now >= entry.next_at) return 'due';
  // An end that no clock here saw is waited for without a try.
  return entry.error === null && entry.attempts === 0 ? 'settling' : 'backing_off';
}
