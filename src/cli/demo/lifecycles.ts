import { type Random, uniform } from '../../core/random.ts';
import { uuidv7 } from '../../core/uuid.ts';
import type { NewRun, RunEvent } from '../../runs/events.ts';
import type { Observation } from '../../runs/observe.ts';
import type { RunError } from '../../runs/run.ts';
import type { Job } from './world.ts';

/** What workers do with one run, in order; `pause` lets a time-out pass. */
export type Step = Exclude<RunEvent, { type: 'create' }> | { type: 'pause'; ms: number };

export interface Script {
  runId: string;
  input: NewRun;
  steps: Step[];
}

/** A run that another system ran some time ago, as its events tell it. */
export interface Story {
  runId: string;
  observations: Observation[];
}

const DAY_MS = 86_400_000;
const HISTORY_DAYS = 30;
const ERRORS: readonly RunError[] = [
  { code: 'OOM', message: 'The worker ran out of memory at 8 GiB.' },
  { code: 'SCHEMA', message: 'Column "amount" changed from INT64 to STRING.' },
  { code: 'UPSTREAM', message: 'The source closed the connection.' },
  { code: null, message: 'Division by zero in line 42.' },
];

/** `[weight, steps]`: how often a lifecycle is met. Every heartbeat is followed by an event that the log gets. */
const LIFECYCLES: readonly [weight: number, steps: (random: Random) => Step[]][] = [
  [50, (random) => [started(), succeeded(random)]],
  [10, (random) => [started(), heartbeat(), succeeded(random)]],
  [8, (random) => [started(), ...tasks(), succeeded(random)]],
  [9, (random) => [started(), failed(random)]],
  [
    6,
    (random) => [started(), failed(random), { type: 'retry', attempt: 1 }, started(2), succeeded(random, 2)],
  ],
  [4, () => [{ type: 'cancel' }]],
  [4, () => [started(), { type: 'cancel' }, { type: 'cancelled', attempt: 1 }]],
  [2, (random) => [started(), { type: 'cancel' }, succeeded(random)]],
  [1, (random) => [started(), { type: 'force_fail', error: pick(random, ERRORS) }]],
  [2, () => [started(), { type: 'pause', ms: 250 }, { type: 'time_out' }]],
  [1, () => []],
  [2, () => [started(), heartbeat(), ...tasks().slice(0, 3)]],
  [1, () => [started(), { type: 'cancel' }]],
];
const WEIGHTS = LIFECYCLES.reduce((sum, [weight]) => sum + weight, 0);

export function scriptOf(job: Job, random: Random, now: number): Script {
  let at = uniform(random) * WEIGHTS;
  const [, stepsOf] = LIFECYCLES.find(([weight]) => {
    at -= weight;
    return at < 0;
  })!;
  const steps = stepsOf(random);
  const runId = uuidv7(now, random);
  return { runId, steps, input: newRun(job, runId, steps) };
}

export function newRun(job: Job, runId: string, steps: readonly Step[] = []): NewRun {
  const { kind, queue, reference_id, source_type, inputs, outputs } = job;
  const { namespace, name } = outputs.at(-1)!;
  const timesOut = steps.some(({ type }) => type === 'time_out');
  return {
    run_id: runId,
    kind,
    queue,
    reference_id,
    payload: { target_namespace: namespace, target_table: name, source_type },
    inputs,
    outputs,
    code_version: 'v1.4.2',
    ...(timesOut ? { run_timeout_ms: 1 } : {}),
  };
}

export function storyOf(job: Job, random: Random, now: number): Story {
  const beganAt = Math.floor(now - (0.01 + uniform(random)) * HISTORY_DAYS * DAY_MS);
  const endedAt = Math.floor(beganAt + job.minutes * 60_000 * (0.5 + uniform(random)));
  const { kind, reference_id, source_type, inputs, outputs } = job;
  const about = { kind, reference_id, source_type, inputs, outputs };
  const luck = uniform(random);
  const end: Pick<Observation, 'phase' | 'error' | 'rows'> =
    luck < 0.88
      ? { phase: 'success', rows: 1 + (random.u32() % 1_000_000) }
      : luck < 0.97
        ? { phase: 'failure', error: pick(random, ERRORS) }
        : { phase: 'abort' };
  return {
    runId: uuidv7(beganAt, random),
    observations: [
      { at: beganAt, phase: 'start', ...about },
      { at: endedAt, ...about, ...end },
    ],
  };
}

export function started(attempt = 1): Step {
  return { type: 'started', attempt };
}

export function succeeded(random: Random, attempt = 1): Step {
  const rows = 1 + (random.u32() % 1_000_000);
  return { type: 'succeeded', attempt, result: { rows, bytes: rows * 120 } };
}

function failed(random: Random): Step {
  return { type: 'failed', attempt: 1, error: pick(random, ERRORS) };
}

function heartbeat(): Step {
  return { type: 'heartbeat', attempt: 1, indexIntervalMs: 60_000 };
}

function tasks(): Step[] {
  const task = (key: string, type: 'started' | 'succeeded'): Step => ({
    type: 'task',
    attempt: 1,
    task: { type, key, attempt: 1 },
  });
  return [
    task('extract', 'started'),
    task('extract', 'succeeded'),
    task('load', 'started'),
    task('load', 'succeeded'),
  ];
}

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.u32() % items.length]!;
}
