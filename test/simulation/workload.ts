import { type Random, uniform } from '../../src/core/random.ts';
import type { ArtifactEvent, NewRun, RunEvent, TaskEvent } from '../../src/runs/events.ts';
import type { Observation } from '../../src/runs/observe.ts';
import type { Run, TraceArchive } from '../../src/runs/run.ts';
import { EPOCH } from './scheduler.ts';

/** One call that somebody means to make, and goes on making until it is answered. */
export type Call =
  | { kind: 'create'; input: NewRun }
  | { kind: 'event'; event: RunEvent }
  | { kind: 'observe'; observations: Observation[] };

/** The calls of one run, in order, as its caller's own durable queue holds them: it outlives every crash. */
export interface Job {
  readonly orgId: string;
  readonly runId: string;
  readonly calls: Call[];
  /** Ms to wait before the next call. */
  readonly gapMs: number;
}

export function below(random: Random, n: number): number {
  return Math.floor(uniform(random) * n);
}

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[below(random, items.length)]!;
}

function chance(random: Random, p: number): boolean {
  return uniform(random) < p;
}

const ERROR = { code: 'E42', message: 'disk full' };

/** A run as workers live it: some attempts, some left for dead. */
export function workerJob(random: Random, orgId: string, runId: string): Job {
  const calls: Call[] = [{ kind: 'create', input: newRun(random, runId) }];
  const event = (event: RunEvent) => calls.push({ kind: 'event', event });
  for (let attempt = 1; ; attempt++) {
    if (!chance(random, 0.1)) event({ type: 'started', attempt });
    for (let n = below(random, 5); n > 0; n--) {
      if (chance(random, 0.5)) event({ type: 'heartbeat', attempt, indexIntervalMs: 60_000 });
      else event({ type: 'task', attempt, task: taskEvent(random) });
    }
    const leaves = chance(random, 0.3);
    if (leaves) event({ type: 'artifact', attempt, artifact: artifactEvent(random) });
    const end = uniform(random);
    if (end < 0.45) event({ type: 'succeeded', attempt, outputs: [table(random)], result: { rows: 7 } });
    else if (end < 0.7) event({ type: 'failed', attempt, error: ERROR });
    else if (end < 0.85) {
      event({ type: 'cancel' });
      event({ type: 'cancelled', attempt });
    }
    // Results are registered late, too.
    if (leaves) event({ type: 'artifact', attempt, artifact: artifactEvent(random) });
    if (end < 0.45 || end >= 0.85 || attempt === 3 || chance(random, 0.4)) break;
    event({ type: 'retry', attempt });
  }
  return { orgId, runId, calls, gapMs: pick(random, [200, 2_000, 10_000, 40_000]) };
}

/** A run that only lineage events tell of, in any order and more than once. */
export function observedJob(random: Random, orgId: string, runId: string, nowMs: number): Job {
  const at = EPOCH + Math.floor(nowMs);
  const phases = [
    'start',
    'running',
    'other',
    pick(random, ['success', 'failure', 'abort'] as const),
  ] as const;
  const calls: Call[] = phases
    .filter(() => chance(random, 0.8))
    .flatMap((phase, i): Call[] => {
      const observation: Observation = {
        at: at + i * 1_000,
        phase,
        inputs: [table(random)],
        outputs: [table(random)],
        rows: i,
      };
      const call: Call = { kind: 'observe', observations: [observation] };
      return chance(random, 0.2) ? [call, call] : [call];
    });
  if (chance(random, 0.5)) calls.reverse();
  return { orgId, runId, calls, gapMs: pick(random, [200, 2_000, 20_000]) };
}

/** Anything at all, from somebody who knows little of the run: the attempt may be stale or from the future. */
export function strayCall(random: Random, run: Pick<Run, 'run_id' | 'attempt'>, removals: number): Call {
  if (chance(random, removals)) return { kind: 'event', event: { type: 'delete' } };
  const attempt = Math.max(1, run.attempt + pick(random, [0, 0, 0, -1, 1]));
  const event = pick<RunEvent>(random, [
    { type: 'started', attempt },
    { type: 'heartbeat', attempt, indexIntervalMs: 60_000 },
    { type: 'succeeded', attempt },
    { type: 'failed', attempt, error: ERROR },
    { type: 'cancelled', attempt },
    { type: 'cancel' },
    { type: 'force_cancel' },
    { type: 'force_fail', error: ERROR },
    { type: 'time_out' },
    { type: 'retry', attempt },
    { type: 'retry', attempt },
    { type: 'task', attempt, task: taskEvent(random) },
    traceInstead(attempt, taskEvent(random)),
    { type: 'artifact', attempt, artifact: artifactEvent(random) },
  ]);
  if (chance(random, 0.9)) return { kind: 'event', event };
  return { kind: 'create', input: { run_id: run.run_id, kind: 'another request' } };
}

/** Now and then a trace event. It draws no chance of its own, so that seeds go on finding what they found before. */
function traceInstead(attempt: number, task: TaskEvent): RunEvent {
  if (task.type === 'cancelled') return { type: 'trace', attempt };
  if (task.type === 'retry') return { type: 'trace_archived', attempt, archive: ARCHIVE };
  return { type: 'task', attempt, task };
}

/** Of a log of no bytes: it names no object. */
const ARCHIVE: TraceArchive = {
  status: 'archived',
  uri: null,
  archived_at: EPOCH,
  stored_bytes: 0,
  sha256: null,
  crc32c: null,
  bytes: 0,
  lines: 0,
  gap_count: 0,
  gap_bytes: 0,
  gaps: [],
  conflicts: 0,
  frame_bytes: null,
};

function newRun(random: Random, runId: string): NewRun {
  return {
    run_id: runId,
    queue: pick(random, ['fast', 'slow', null]),
    outputs: chance(random, 0.7) ? [table(random)] : [],
    inputs: [table(random)],
    heartbeat_timeout_ms: pick(random, [null, 90_000, 300_000]),
    run_timeout_ms: pick(random, [null, null, 600_000]),
  };
}

function taskEvent(random: Random): TaskEvent {
  const key = pick(random, ['extract', 'load']);
  const attempt = pick(random, [1, 1, 2]);
  return pick<TaskEvent>(random, [
    { type: 'queued', key },
    { type: 'started', key, attempt },
    { type: 'started', key, attempt },
    { type: 'heartbeat', key, attempt, indexIntervalMs: 60_000 },
    { type: 'succeeded', key, attempt, outputs: [table(random)] },
    { type: 'failed', key, attempt, error: ERROR },
    { type: 'cancelled', key, attempt },
    { type: 'retry', key, attempt },
  ]);
}

function artifactEvent(random: Random): ArtifactEvent {
  const operator = pick(random, ['extract', 'load']);
  const port = pick(random, ['out', 'console']);
  const uri = pick(random, ['gs://results/a', 'gs://results/b']);
  const refs = [{ key: `${operator}/${port}`, uri }];
  return pick<ArtifactEvent>(random, [
    { type: 'put', operator, port, uri, ttl_ms: 1_000 },
    { type: 'put', operator, port, uri, rows: 7 },
    { type: 'drop', operator, port },
    { type: 'expire', remove: refs, mark: [] },
    { type: 'settle', removed: refs },
  ]);
}

function table(random: Random) {
  return { namespace: 'postgres://db:5432', name: `public.t${below(random, 12)}` };
}
