import type { TraceContext } from '../src/traces/context.ts';
import type { Work } from '../src/traces/work.ts';
import type { Budget } from './archive-budget.ts';
import type { Archived } from './archive-report.ts';

/** One pass over one org's logs: what its steps share. */
export interface ArchivePass {
  context: TraceContext;
  orgId: string;
  budget: Budget;
  report: Archived;
  /** Runs that wait no longer. */
  settled: Set<string>;
  signal: AbortSignal | undefined;
  /** The work list as the pass last wrote or read it. */
  work: Work;
}
