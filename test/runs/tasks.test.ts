import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { TaskEvent } from '../../src/runs/events.ts';
import { transition } from '../../src/runs/lifecycle.ts';
import { type Run, TASK_STATUSES, type TaskStatus } from '../../src/runs/run.ts';
import { START } from '../support/fake-clock.ts';
import { dataset, must, runOf } from '../support/runs.ts';

const key = 'extract';
const attempt = 2;
const error = { code: null, message: 'it broke' };
const T = START + 100_000;
const on = (run: Run, task: TaskEvent, now: number) => must(run, { type: 'task', attempt: 1, task }, now);

const running = () => must(runOf(), { type: 'started', attempt: 1 }, START);
function queuedTask(): Run {
  let run = on(running(), { type: 'started', key, attempt: 1 }, START + 1);
  run = on(run, { type: 'failed', key, attempt: 1, error }, START + 2);
  return on(run, { type: 'retry', key, attempt: 1 }, START + 3);
}
const runningTask = () => on(queuedTask(), { type: 'started', key, attempt }, START + 4);
const FIXTURES: Record<TaskStatus, () => Run> = {
  QUEUED: queuedTask,
  RUNNING: runningTask,
  SUCCEEDED: () => on(runningTask(), { type: 'succeeded', key, attempt }, START + 5),
  FAILED: () => on(runningTask(), { type: 'failed', key, attempt, error }, START + 5),
  CANCELLED: () => on(runningTask(), { type: 'cancelled', key, attempt }, START + 5),
};

type Expected = `→ ${TaskStatus}` | 'same' | 'sign of life' | ErrorCode;

const TABLE = {
  QUEUED: {
    queued: 'same',
    started: '→ RUNNING',
    heartbeat: 'TASK_NOT_STARTED',
    succeeded: '→ SUCCEEDED',
    failed: '→ FAILED',
    cancelled: '→ CANCELLED',
    retry: 'TASK_NOT_TERMINAL',
  },
  RUNNING: {
    queued: 'same',
    started: 'same',
    heartbeat: 'sign of life',
    succeeded: '→ SUCCEEDED',
    failed: '→ FAILED',
    cancelled: '→ CANCELLED',
    retry: 'TASK_NOT_TERMINAL',
  },
  SUCCEEDED: {
    queued: 'same',
    started: 'TASK_TERMINAL',
    heartbeat: 'TASK_TERMINAL',
    succeeded: 'same',
    failed: 'TASK_TERMINAL',
    cancelled: 'TASK_TERMINAL',
    retry: 'TASK_TERMINAL',
  },
  FAILED: {
    queued: 'same',
    started: 'TASK_TERMINAL',
    heartbeat: 'TASK_TERMINAL',
    succeeded: 'TASK_TERMINAL',
    failed: 'same',
    cancelled: 'TASK_TERMINAL',
    retry: '→ QUEUED',
  },
  CANCELLED: {
    queued: 'same',
    started: 'TASK_TERMINAL',
    heartbeat: 'TASK_TERMINAL',
    succeeded: 'TASK_TERMINAL',
    failed: 'TASK_TERMINAL',
    cancelled: 'same',
    retry: '→ QUEUED',
  },
} as const satisfies Record<TaskStatus, Record<TaskEvent['type'], Expected>>;

const EVENTS: { [E in TaskEvent['type']]: Extract<TaskEvent, { type: E }> } = {
  queued: { type: 'queued', key },
  started: { type: 'started', key, attempt },
  heartbeat: { type: 'heartbeat', key, attempt, indexIntervalMs: 60_000 },
  succeeded: { type: 'succeeded', key, attempt, outputs: [dataset('out')] },
  failed: { type: 'failed', key, attempt, error },
  cancelled: { type: 'cancelled', key, attempt },
  retry: { type: 'retry', key, attempt },
};
const cells = TASK_STATUSES.flatMap((status) =>
  (Object.keys(EVENTS) as TaskEvent['type'][]).map((type) => [status, type, TABLE[status][type]] as const),
);
const ask = (run: Run, task: TaskEvent, now = T) => transition(run, { type: 'task', attempt: 1, task }, now);

describe('every task status, every task event', () => {
  it.each(cells)('%s: %s gives %s', (status, type, expected) => {
    const run = FIXTURES[status]();
    const before = run.tasks[key]!;
    expect(before).toMatchObject({ status, attempt });
    const answer = ask(run, EVENTS[type]);
    if (expected === 'same') {
      expect(answer.outcome === 'same' && answer.run).toBe(run);
    } else if (expected === 'sign of life') {
      expect(answer).toMatchObject({ outcome: 'changed', run: { heartbeat_at: T } });
      expect(answer.outcome === 'changed' && answer.run.tasks).toBe(run.tasks);
    } else if (expected.startsWith('→')) {
      expect(answer).toMatchObject({
        outcome: 'changed',
        run: { status: 'RUNNING', revision: run.revision + 1, heartbeat_at: T },
      });
      const task = answer.outcome === 'changed' && answer.run.tasks[key];
      expect(`→ ${(task as typeof before).status}`).toBe(expected);
      expect(task).toMatchObject({ updated_at: T, attempt: type === 'retry' ? attempt + 1 : attempt });
    } else expect(answer).toMatchObject({ outcome: 'refused', code: expected });
  });

  it.each(cells.filter(([, type]) => type !== 'queued'))(
    '%s: %s of a stale attempt changes nothing',
    (status, type) => {
      const run = FIXTURES[status]();
      for (const given of [attempt - 1, attempt + 1]) {
        const answer = ask(run, { ...EVENTS[type], attempt: given } as TaskEvent);
        if (type === 'retry' && given === attempt - 1) expect(answer).toEqual({ outcome: 'same', run });
        else expect(answer).toMatchObject({ outcome: 'refused', code: 'ATTEMPT_STALE' });
      }
    },
  );
});

describe('tasks inside their run', () => {
  it('queued or started makes a task; anything else does not find one', () => {
    expect(on(running(), { type: 'queued', key }, T).tasks[key]).toEqual({
      key,
      status: 'QUEUED',
      attempt: 1,
      created_at: T,
      updated_at: T,
      started_at: null,
      finished_at: null,
      outputs: [],
      error: null,
    });
    expect(on(running(), { type: 'started', key, attempt: 1 }, T).tasks[key]).toMatchObject({
      status: 'RUNNING',
      started_at: T,
    });
    expect(ask(running(), { type: 'started', key, attempt: 2 })).toMatchObject({ code: 'ATTEMPT_STALE' });
    for (const type of ['heartbeat', 'succeeded', 'failed', 'cancelled', 'retry'] as const)
      expect(ask(running(), EVENTS[type]), type).toMatchObject({ code: 'TASK_NOT_FOUND' });
  });

  it('a task may be called like a property of every object', () => {
    for (const name of ['constructor', 'toString', '__proto__']) {
      expect(ask(running(), { ...EVENTS.succeeded, key: name })).toMatchObject({ code: 'TASK_NOT_FOUND' });
      const run = on(running(), { type: 'queued', key: name }, T);
      expect(Object.keys(run.tasks)).toEqual([name]);
      expect(ask(run, { type: 'queued', key: name }).outcome).toBe('same');
    }
  });

  it('outputs of tasks are outputs of the run, once each, and stay after a retry of the task', () => {
    const out = dataset('out');
    let run = on(runningTask(), { type: 'succeeded', key, attempt, outputs: [out, out] }, T);
    expect(run.outputs).toEqual([out]);
    run = on(run, { type: 'started', key: 'load', attempt: 1 }, T);
    run = on(run, { type: 'succeeded', key: 'load', attempt: 1, outputs: [out, dataset('b')] }, T);
    expect(run.outputs).toEqual([out, dataset('b')]);
  });

  it('times of a task: start and end belong to its attempt', () => {
    expect(FIXTURES.FAILED().tasks[key]).toMatchObject({
      started_at: START + 4,
      finished_at: START + 5,
      error,
    });
    const again = on(FIXTURES.FAILED(), { type: 'retry', key, attempt }, T);
    expect(again.tasks[key]).toMatchObject({ started_at: null, finished_at: null, error: null, attempt: 3 });
    const succeeded = on(FIXTURES.RUNNING(), EVENTS.succeeded, START - 1);
    expect(succeeded.tasks[key]!.updated_at).toBe(START + 4);
  });

  it('a task event of a stale run attempt changes nothing', () => {
    const event = { type: 'task', attempt: 2, task: EVENTS.queued } as const;
    expect(transition(running(), event, T)).toMatchObject({ code: 'ATTEMPT_STALE' });
  });

  it('a task heartbeat is indexed like any heartbeat', () => {
    const run = on(runningTask(), EVENTS.heartbeat, START + 1_000);
    expect(run).toMatchObject({ revision: run.indexed_revision + 1, heartbeat_at: START + 1_000 });
    const due = on(run, EVENTS.heartbeat, START + 61_000);
    expect(due.indexed_revision).toBe(due.revision);
  });

  it('after the end of the run a repeat is recognised, news are refused', () => {
    const done = must(FIXTURES.SUCCEEDED(), { type: 'succeeded', attempt: 1 }, T);
    expect(ask(done, EVENTS.succeeded).outcome).toBe('same');
    expect(ask(done, { type: 'queued', key: 'new' })).toMatchObject({ code: 'RUN_TERMINAL' });
    expect(ask(done, EVENTS.failed)).toMatchObject({ code: 'RUN_TERMINAL' });
  });
});
