import { Cron } from 'croner';
import type { Clock } from '../src/core/clock.ts';
import { errorMessage, InputError } from '../src/core/errors.ts';

/** Calls `onDue` at its times until `stop`. */
export interface Trigger {
  start(onDue: () => void): void;
  stop(): void;
}

/** By a cron pattern of five or six fields, in UTC. Throws InputError for what is none. */
export function cronTrigger(pattern: string): Trigger {
  let cron: Cron;
  try {
    cron = new Cron(pattern, { paused: true, timezone: 'UTC' });
  } catch (error) {
    throw new InputError(`${JSON.stringify(pattern)} is not a schedule: ${errorMessage(error)}`, {
      hint: 'Write five cron fields, such as "*/5 * * * *", or six with seconds first.',
      cause: error,
    });
  }
  if (cron.nextRun() === null) throw new InputError(`The schedule ${JSON.stringify(pattern)} never comes.`);
  return {
    start(onDue) {
      cron.schedule(onDue);
      cron.resume();
    },
    stop: () => cron.stop(),
  };
}

export interface ScheduledPass {
  /** From 1 on. */
  number: number;
  /** This one looks at every org, not only at those with a dirty marker. */
  full: boolean;
  signal: AbortSignal;
}

export interface ScheduleOptions {
  trigger: Trigger;
  /** What it throws is its own to report: the schedule goes on. */
  pass: (pass: ScheduledPass) => Promise<void>;
  /** Every so many passes one is full. */
  fullEvery: number;
  /** Ends the schedule: a pass that runs may finish within `stopWithinMs`, then it is aborted. */
  stop: AbortSignal;
  stopWithinMs: number;
  clock: Clock;
}

/** Passes never overlap: what comes due while one runs is left out, the next one folds it all the same. */
export async function runSchedule(options: ScheduleOptions): Promise<{ passes: number; skipped: number }> {
  const { trigger, pass, fullEvery, stop, stopWithinMs, clock } = options;
  const done = { passes: 0, skipped: 0 };
  const abort = new AbortController();
  let running: Promise<void> | null = null;
  if (stop.aborted) return done;
  const stopped = new Promise<void>((resolve) =>
    stop.addEventListener('abort', () => resolve(), { once: true }),
  );
  trigger.start(() => {
    if (stop.aborted) return;
    if (running !== null) {
      done.skipped++;
      return;
    }
    const number = ++done.passes;
    running = pass({ number, full: number % fullEvery === 0, signal: abort.signal })
      .catch(() => undefined)
      .finally(() => {
        running = null;
      });
  });
  await stopped;
  trigger.stop();
  if (running !== null) {
    const finished = new AbortController();
    const late = clock.sleep(stopWithinMs, finished.signal).then(
      () => abort.abort(),
      () => undefined,
    );
    await running;
    finished.abort();
    await late;
  }
  return done;
}
