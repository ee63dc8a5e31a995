import { defaultLimits } from '../core/limits.ts';
import type { TaskEvent } from './events.ts';
import type { Run, Task, TaskStatus } from './run.ts';
import { beat, changed, refused, same, type Transition, unionDatasets } from './transition.ts';

type TaskEventType = TaskEvent['type'];
type EventOf<E extends TaskEventType> = Extract<TaskEvent, { type: E }>;
type TaskAnswer = Transition<Task>;
type Cell<E extends TaskEventType> = (task: Task, event: EventOf<E>, now: number) => TaskAnswer;
type Row = { readonly [E in TaskEventType]: Cell<E> };

/** What may happen to a task inside a run that is being worked on. A missing cell does not compile. */
const TABLE: { readonly [S in TaskStatus]: Row } = {
  QUEUED: {
    queued: same,
    started: attempt(start),
    heartbeat: attempt(notStarted),
    succeeded: attempt(succeed),
    failed: attempt(fail),
    cancelled: attempt(cancel),
    retry: attempt(notTerminal),
  },
  RUNNING: {
    queued: same,
    started: attempt(same),
    heartbeat: attempt(same),
    succeeded: attempt(succeed),
    failed: attempt(fail),
    cancelled: attempt(cancel),
    retry: attempt(notTerminal),
  },
  SUCCEEDED: {
    queued: same,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(same),
    failed: attempt(ended),
    cancelled: attempt(ended),
    retry: attempt(ended),
  },
  FAILED: {
    queued: same,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(ended),
    failed: attempt(same),
    cancelled: attempt(ended),
    retry: attempt(retryTask),
  },
  CANCELLED: {
    queued: same,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(ended),
    failed: attempt(ended),
    cancelled: attempt(same),
    retry: attempt(retryTask),
  },
};

/** Pure: the task's next state inside its run. `queued` and `started` make the task where it is new. */
export function taskTransition(run: Run, event: TaskEvent, now: number): Transition {
  // Own properties only: a task may be called "constructor".
  const task = Object.hasOwn(run.tasks, event.key) ? run.tasks[event.key] : undefined;
  const answer = task === undefined ? firstEvent(event, now) : transitionOf(task, event, now);
  if (answer.outcome === 'refused') return answer;
  if (task === undefined && Object.keys(run.tasks).length >= defaultLimits.tasksMax) {
    return refused(
      'LIMIT_EXCEEDED',
      `The run has ${defaultLimits.tasksMax} tasks already.`,
      'Split the work into more runs.',
    );
  }
  // A task's heartbeat is a sign of life of the run; the task itself does not change.
  if (event.type === 'heartbeat') return beat(run, now, event.indexIntervalMs);
  if (answer.outcome === 'same') return same(run);
  const tasks = { ...run.tasks, [event.key]: answer.run };
  const outputs = unionDatasets(run.outputs, answer.run.outputs);
  return changed(run, now, { tasks, outputs, heartbeat_at: Math.max(now, run.heartbeat_at ?? 0) });
}

function transitionOf(task: Task, event: TaskEvent, now: number): TaskAnswer {
  const cell = TABLE[task.status][event.type] as Cell<TaskEventType>;
  return cell(task, event, now);
}

function firstEvent(event: TaskEvent, now: number): TaskAnswer {
  const task: Task = {
    key: event.key,
    status: 'QUEUED',
    attempt: 1,
    created_at: now,
    updated_at: now,
    started_at: null,
    finished_at: null,
    outputs: [],
    error: null,
  };
  if (event.type === 'queued') return { outcome: 'changed', run: task };
  if (event.type === 'started') return transitionOf(task, event, now);
  return refused(
    'TASK_NOT_FOUND',
    `The run has no task ${event.key}.`,
    'Report the task as queued or started first.',
  );
}

function attempt<E extends TaskEventType>(cell: Cell<E>): Cell<E> {
  return (task, event, now) => {
    const given = (event as { attempt: number }).attempt;
    if (event.type === 'retry' && given === task.attempt - 1) return same(task);
    if (given === task.attempt) return cell(task, event, now);
    return refused(
      'ATTEMPT_STALE',
      `Attempt ${given} of task ${task.key} is not current; it is at attempt ${task.attempt}.`,
      'Stop working on this attempt.',
    );
  };
}

function next(task: Task, now: number, changes: Partial<Task>): TaskAnswer {
  return { outcome: 'changed', run: { ...task, ...changes, updated_at: Math.max(now, task.updated_at) } };
}

function start(task: Task, _event: unknown, now: number): TaskAnswer {
  return next(task, now, { status: 'RUNNING', started_at: now });
}

function succeed(task: Task, event: EventOf<'succeeded'>, now: number): TaskAnswer {
  return next(task, now, {
    status: 'SUCCEEDED',
    finished_at: now,
    error: null,
    outputs: unionDatasets(task.outputs, event.outputs),
  });
}

function fail(task: Task, event: EventOf<'failed'>, now: number): TaskAnswer {
  return next(task, now, { status: 'FAILED', finished_at: now, error: event.error });
}

function cancel(task: Task, _event: unknown, now: number): TaskAnswer {
  return next(task, now, { status: 'CANCELLED', finished_at: now });
}

function retryTask(task: Task, _event: unknown, now: number): TaskAnswer {
  return next(task, now, {
    status: 'QUEUED',
    attempt: task.attempt + 1,
    started_at: null,
    finished_at: null,
    error: null,
  });
}

function notStarted(task: Task): TaskAnswer {
  return refused(
    'TASK_NOT_STARTED',
    `Task ${task.key} has not started.`,
    'Report the task as started first.',
  );
}

function notTerminal(task: Task): TaskAnswer {
  return refused(
    'TASK_NOT_TERMINAL',
    `Task ${task.key} is ${task.status}.`,
    'Only a failed or cancelled task can be retried.',
  );
}

function ended(task: Task): TaskAnswer {
  return refused(
    'TASK_TERMINAL',
    `Task ${task.key} ended as ${task.status}.`,
    'Stop working on it; retry it to run it again.',
  );
}
