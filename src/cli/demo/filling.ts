import type { CompactorContext } from '../../../compactor/context.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { compactPass, type PassResult } from '../../../compactor/pass.ts';
import { RunfoldError } from '../../core/errors.ts';
import { seededRandom } from '../../core/random.ts';
import type { Session } from '../../session.ts';
import { count, counted } from '../format.ts';
import { type Plan, planRuns, recordRuns, recordTail } from './recording.ts';
import type { Steps } from './steps.ts';
import { ORGS } from './world.ts';

/** The tail and what still waits for collection may be this long; more, and the log does not look like a real one. */
const LOG_ENTRIES_MAX = 100;
const COLLECT_ROUNDS_MAX = 40;
const COLLECT_PAUSE_MS = 500;

/**
 * Leaves a store as a compactor on a schedule would: nearly everything folded, what was folded some time ago
 * collected, a short tail. Gives the number of acknowledged transitions.
 */
export async function fill(
  session: Session,
  steps: Steps,
  { runs, seed }: { runs: number; seed: number },
  signal: AbortSignal,
): Promise<number> {
  const context = await openCompactor(session);
  // Garbage waits for readers under way, two minutes by default. Here no one reads yet, so there is none to wait for.
  const impatient = { ...context, limits: { ...context.limits, entryGraceMs: 0 } };
  const random = seededRandom(seed);
  const plans = planRuns(runs, random, session.clock.now());
  const most = Math.ceil(runs * 0.95);
  let transitions = await record(session, steps, plans.slice(0, most), signal);
  const first = await steps.run(
    'Compacting',
    String,
    () => pass(context, signal),
    (results) => results.map(tellFold).join('; '),
  );
  transitions += await record(session, steps, plans.slice(most), signal);
  await steps.run(
    'Collecting',
    (rounds) => counted(rounds, 'pass', 'passes'),
    (update) => collect(impatient, first, update, signal),
    (collected) =>
      `${counted(collected, 'folded entry', 'folded entries')} deleted, grace cut to 0 for the demo`,
  );
  transitions += await steps.run(
    'Tail',
    String,
    () => recordTail(session, random, signal),
    (calls) => `${counted(calls, 'transition')} after the last fold`,
  );
  return transitions;
}

function record(
  session: Session,
  steps: Steps,
  plans: readonly Plan[],
  signal: AbortSignal,
): Promise<number> {
  return steps.run(
    'Recording',
    (runs) => counted(runs, 'run'),
    (update) => recordRuns(session, plans, (done) => update(done, plans.length), signal),
    (calls) => `${counted(plans.length, 'run')}, ${counted(calls, 'acknowledged transition')}`,
  );
}

async function pass(
  context: CompactorContext,
  signal: AbortSignal,
): Promise<Exclude<PassResult, { code: string }>[]> {
  const results = await compactPass(context, { orgs: ORGS.map(({ id }) => id), signal });
  return results.map((result) => {
    if (result.outcome !== 'failed') return result;
    throw new RunfoldError('STORE_FAILED', `Org ${result.org_id} could not be compacted: ${result.message}`);
  });
}

/** Folds what is new, and collects until what the first pass folded is gone. */
async function collect(
  context: CompactorContext,
  first: readonly { entries: number }[],
  update: (rounds: number) => void,
  signal: AbortSignal,
): Promise<number> {
  const [folded] = first.map(({ entries }) => entries).sort((a, b) => b - a);
  let [objects, lists] = [0, 0];
  for (let round = 1; round <= COLLECT_ROUNDS_MAX; round++) {
    update(round);
    for (const { collected } of await pass(context, signal)) {
      objects += collected.objects;
      lists += collected.lists;
    }
    if (folded! <= LOG_ENTRIES_MAX || lists >= first.length) break;
    await context.clock.sleep(COLLECT_PAUSE_MS, signal);
  }
  return objects;
}

function tellFold(result: Exclude<PassResult, { code: string }>): string {
  const { org_id, entries, records, rows } = result;
  return `${org_id}: ${count(records)} records of ${counted(entries, 'entry', 'entries')} into ${counted(rows ?? 0, 'row')}`;
}
