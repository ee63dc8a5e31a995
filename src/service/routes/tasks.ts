import type { z } from 'zod';
import type { RunEvent, TaskEvent } from '../../runs/events.ts';
import { RULES } from '../access.ts';
import type { ServiceErrorCode } from '../problem.ts';
import { json, type Route, route } from '../route.ts';
import { acknowledgement, taskBody } from '../schemas.ts';
import { apply } from './lifecycle.ts';

const errors: ServiceErrorCode[] = [
  'RUN_NOT_FOUND',
  'RUN_NOT_STARTED',
  'RUN_TERMINAL',
  'ATTEMPT_STALE',
  'TASK_NOT_FOUND',
  'TASK_NOT_STARTED',
  'TASK_TERMINAL',
  'TASK_NOT_TERMINAL',
  'REVISION_CONFLICT',
  'LIMIT_EXCEEDED',
  'OUTCOME_UNKNOWN',
];

export const taskRoutes: readonly Route[] = [
  event('queued', 'queued', 'A task waits', taskBody('queued', 'TaskQueued')),
  event('started', 'started', 'A task has begun', taskBody('started', 'TaskStarted')),
  event(
    'heartbeat',
    'heartbeat',
    'A sign of life of a task, and so of its run',
    taskBody('heartbeat', 'TaskHeartbeat'),
  ),
  event('completed', 'succeeded', 'A task is done', taskBody('succeeded', 'TaskCompleted')),
  event('fail', 'failed', 'A task failed', taskBody('failed', 'TaskFailed')),
  event('cancelled', 'cancelled', 'A task was stopped', taskBody('cancelled', 'TaskCancelled')),
  event('retry', 'retry', 'Run a task again', taskBody('retry', 'TaskRetry')),
];

function event(name: string, type: TaskEvent['type'], summary: string, schema: z.ZodType): Route {
  return route({
    method: 'POST',
    path: `/v1/orgs/{org}/runs/{run}/tasks/{task}/${name}`,
    rule: RULES.work,
    tag: 'Tasks',
    summary,
    description: '`run_attempt` is that of the run, `attempt` that of the task.',
    body: { schema },
    answers: {
      200: {
        description: 'Durable, and in every refresh that starts later.',
        content: [json(acknowledgement)],
      },
    },
    errors,
    handle(call) {
      const { run_attempt, ...rest } = call.body as { run_attempt: number };
      const task = { type, key: call.path.task!, ...rest } as TaskEvent;
      return apply(call, { type: 'task', attempt: run_attempt, task } satisfies RunEvent, task.key);
    },
  });
}
