import { mapParallel } from '../../core/concurrency.ts';
import { type Random, uniform } from '../../core/random.ts';
import type { Session } from '../../session.ts';
import {
  newRun,
  pick,
  type Script,
  type Story,
  scriptOf,
  started,
  storyOf,
  succeeded,
} from './lifecycles.ts';
import { type DemoOrg, ORGS } from './world.ts';

/** Callers at a time; what they append for one org within BATCH_WAIT_MS shares an entry. */
const PARALLEL = 192;
/**
 * A store over a network is slow enough for group commit to gather records by itself. The file store without fsync
 * is not: it answers before the next caller comes. The pause also lets signals and the progress bar have their turn.
 */
export const BATCH_WAIT_MS = 5;
/** Of all runs; the others were run by another system, and only its events are recorded. */
const LIVE_SHARE = 0.25;

export type Plan = { org: DemoOrg } & ({ script: Script } | { story: Story });

/** The same seed plans the same runs, up to the times, which count from now. */
export function planRuns(runs: number, random: Random, now: number): Plan[] {
  return Array.from({ length: runs }, () => {
    const luck = uniform(random);
    const org = luck < ORGS[0]!.share ? ORGS[0]! : ORGS[1]!;
    const job = pick(random, org.jobs);
    return uniform(random) < LIVE_SHARE
      ? { org, script: scriptOf(job, random, now) }
      : { org, story: storyOf(job, random, now) };
  });
}

/** Records all plans; gives the number of recorder calls, which is that of acknowledged transitions. */
export async function recordRuns(
  session: Session,
  plans: readonly Plan[],
  onRun: (done: number) => void,
  signal: AbortSignal,
): Promise<number> {
  let done = 0;
  const calls = await mapParallel(
    plans,
    PARALLEL,
    async (plan, stop) => {
      const made = await recordOne(session, plan, stop);
      onRun(++done);
      return made;
    },
    signal,
  );
  return calls.reduce((sum, made) => sum + made, 0);
}

async function recordOne({ recorder, clock }: Session, plan: Plan, signal: AbortSignal): Promise<number> {
  const orgId = plan.org.id;
  if ('story' in plan) {
    await recorder.observe(orgId, plan.story.runId, plan.story.observations, signal);
    return 1;
  }
  const { runId, input, steps } = plan.script;
  await recorder.create(orgId, input, signal);
  let calls = 1;
  for (const step of steps) {
    if (step.type === 'pause') await clock.sleep(step.ms, signal);
    else {
      await recorder.apply(orgId, runId, step, signal);
      calls++;
    }
  }
  return calls;
}

/** A handful of transitions after the last fold: the tail that a refresh finds. Gives their number. */
export async function recordTail(session: Session, random: Random, signal: AbortSignal): Promise<number> {
  let calls = 0;
  for (const org of ORGS) {
    for (let i = 0; i < 6; i++) {
      const script = scriptOf(pick(random, org.jobs), random, session.clock.now());
      const input = newRun(pick(random, org.jobs), script.runId);
      const steps = [[], [started()], [started(), succeeded(random)]][i % 3]!;
      calls += await recordOne(session, { org, script: { ...script, input, steps } }, signal);
    }
  }
  return calls;
}
