import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { errorMessage, RunfoldError } from '../../core/errors.ts';
import type { RunEvent } from '../../runs/events.ts';
import type { Recorded } from '../../runs/recorder.ts';
import type { Run } from '../../runs/run.ts';
import { checkAttempt, RULES } from '../access.ts';
import { artifactsOf } from '../artifact-view.ts';
import { Problem, type ServiceErrorCode } from '../problem.ts';
import { type Answer, type Call, json, type Route, route } from '../route.ts';
import {
  type Acknowledgement,
  acknowledgement,
  eventBody,
  INTERNAL,
  type NewRunBody,
  newRunBody,
  type RunView,
  runView,
} from '../schemas.ts';
import { answerOf, viewOf } from '../view.ts';

const TAG = 'Lifecycle';
const RUN = '/v1/orgs/{org}/runs/{run}';
const acknowledged = {
  200: { description: 'Durable, and in every refresh that starts later.', content: [json(acknowledgement)] },
};
const refusals: ServiceErrorCode[] = [
  'RUN_NOT_FOUND',
  'RUN_TERMINAL',
  'REVISION_CONFLICT',
  'LIMIT_EXCEEDED',
  'OUTCOME_UNKNOWN',
];
const attemptRefusals: ServiceErrorCode[] = [...refusals, 'ATTEMPT_STALE'];

export const lifecycleRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/orgs/{org}/runs',
    rule: RULES.write,
    tag: TAG,
    summary: 'Create a run',
    description:
      'The same request again is a repeat (200); another request with the same id is refused. Without a `run_id` ' +
      'there must be a `run_key` or an `Idempotency-Key` header: the id is made from it, so that a repeat meets its ' +
      'own run.',
    body: { schema: newRunBody as unknown as z.ZodType<NewRunBody> },
    answers: {
      201: { description: 'Created.', content: [json(acknowledgement)] },
      200: { description: 'It was there: this was a repeat.', content: [json(acknowledgement)] },
    },
    headers: ['Idempotency-Key'],
    errors: ['RUN_ALREADY_EXISTS', 'RUN_KEY_CONFLICT', 'LIMIT_EXCEEDED', 'OUTCOME_UNKNOWN'],
    async handle(call) {
      const { service, org, body, signal, request } = call;
      const run_id = body.run_id ?? idFromKey(org, keyOf(body, request));
      const recorded = await service.session.recorder.create(org, { ...body, run_id }, signal);
      return {
        status: recorded.changed ? 201 : 200,
        json: acknowledge(recorded),
        headers: {
          location: `/v1/orgs/${encodeURIComponent(org)}/runs/${encodeURIComponent(recorded.run.run_id)}`,
        },
      };
    },
  }),
  route({
    method: 'GET',
    path: RUN,
    rule: RULES.readRun,
    tag: TAG,
    summary: 'One run, as it is stored now',
    description: 'Read from the canonical run: always current, with all tasks and the whole payload.',
    answers: {
      200: { description: 'The run.', content: [json(runView)] },
      304: { description: 'It is as the ETag that the caller sent says.' },
    },
    errors: ['RUN_NOT_FOUND'],
    handle: async (call) => answerOf(call.request, viewOf(runOf(await readRun(call)))),
  }),
  event('started', 'started', 'A worker has begun', RULES.work, eventBody('started', 'Started'), [
    ...attemptRefusals,
  ]),
  event(
    'heartbeat',
    'heartbeat',
    'A sign of life; the answer says whether a cancel is wanted',
    RULES.work,
    eventBody('heartbeat', 'Heartbeat'),
    [...attemptRefusals, 'RUN_NOT_STARTED'],
  ),
  event(
    'completed',
    'succeeded',
    'The work is done',
    RULES.work,
    eventBody('succeeded', 'Completed'),
    attemptRefusals,
  ),
  event('fail', 'failed', 'The work failed', RULES.work, eventBody('failed', 'Failed'), attemptRefusals),
  event(
    'cancelled',
    'cancelled',
    'A worker has stopped because of a cancel, or gave up',
    RULES.work,
    eventBody('cancelled', 'Cancelled'),
    attemptRefusals,
  ),
  event(
    'cancel',
    'cancel',
    'Ask for a cancel',
    RULES.write,
    eventBody('cancel', 'Cancel'),
    refusals,
    'A run that nobody works on yet is cancelled at once.',
  ),
  event(
    'retry',
    'retry',
    'Run it again',
    RULES.write,
    eventBody('retry', 'Retry'),
    [...attemptRefusals, 'RUN_NOT_TERMINAL'],
    '`attempt` is the one that ended; the run gets the next.',
  ),
  event(
    'force-cancel',
    'force_cancel',
    'Cancel without waiting for the worker',
    RULES.operate,
    eventBody('force_cancel', 'ForceCancel'),
    refusals,
  ),
  event(
    'force-fail',
    'force_fail',
    'Fail without waiting for the worker',
    RULES.operate,
    eventBody('force_fail', 'ForceFail'),
    refusals,
  ),
  event(
    'time-out',
    'time_out',
    'Time out a run that is past its limits',
    RULES.operate,
    eventBody('time_out', 'TimeOut'),
    [...refusals, 'RUN_NOT_EXPIRED'],
  ),
  route({
    method: 'DELETE',
    path: RUN,
    rule: RULES.operate,
    tag: TAG,
    summary: 'Forget an ended run',
    answers: acknowledged,
    errors: [...refusals, 'RUN_NOT_TERMINAL'],
    async handle(call) {
      const { service, org, path, signal } = call;
      const { session, logger } = service;
      const { run, changed } = await session.recorder.apply(org, path.run!, { type: 'delete' }, signal);
      // What fails here the compactor does when it removes the stub.
      await session.traces
        .remove(run, signal)
        .catch((error) => logger.warn({ org, error: errorMessage(error) }, 'logs of a deleted run are left'));
      return { json: acknowledge({ run, changed }) };
    },
  }),
];

function event<K extends RunEvent['type']>(
  name: string,
  type: K,
  summary: string,
  rule: typeof RULES.work | typeof RULES.write | typeof RULES.operate,
  schema: z.ZodType,
  errors: readonly ServiceErrorCode[],
  description?: string,
): Route {
  return route({
    method: 'POST',
    path: `${RUN}/${name}`,
    rule,
    tag: TAG,
    summary,
    ...(description === undefined ? {} : { description }),
    body: { schema, optional: schema.safeParse({}).success },
    answers: acknowledged,
    errors,
    handle: (call) => apply(call, { type, ...(call.body as object) } as RunEvent),
  });
}

/** Applies the event, and answers with what every lifecycle route answers with. */
export async function apply(
  { service, org, path, principal, signal }: Pick<Call, 'service' | 'org' | 'path' | 'principal' | 'signal'>,
  event: RunEvent,
  taskKey?: string,
): Promise<Answer> {
  if (principal !== null && 'attempt' in event && event.attempt !== undefined)
    checkAttempt(principal, event.attempt);
  const recorded = await service.session.recorder.apply(org, path.run!, event, signal);
  return { json: acknowledge(recorded, taskKey) };
}

export function acknowledge({ run, changed }: Recorded, taskKey?: string): Acknowledgement {
  const { run_id, status, attempt, revision, updated_at, tasks } = run;
  const task = taskKey !== undefined && Object.hasOwn(tasks, taskKey) ? tasks[taskKey]! : null;
  return {
    run_id,
    status,
    attempt,
    revision,
    updated_at,
    changed,
    cancel_requested: status === 'CANCELLING',
    task: task && { key: task.key, status: task.status, attempt: task.attempt },
  };
}

function runOf(run: Run): RunView {
  const shown = Object.fromEntries(Object.entries(run).filter(([name]) => !Object.hasOwn(INTERNAL, name)));
  return {
    ...shown,
    tasks: Object.values(run.tasks),
    artifacts: artifactsOf(run),
    traces: tracesOf(run),
  } as RunView;
}

/** The run as it is stored; throws RUN_NOT_FOUND, also for what a delete left. */
export async function readRun({ service, org, path, signal }: Call): Promise<Run> {
  const stored = await service.session.runs.read(org, path.run!, signal);
  if (stored === null) throw new Problem('RUN_NOT_FOUND', 'There is no such run in this org.');
  if (stored.run.deleted_at !== null) throw deletedRun(stored.run);
  return stored.run;
}

function tracesOf({ traces = {} }: Run): RunView['traces'] {
  return Object.entries(traces).map(([attempt, { status, archive }]) => {
    const { bytes = null, lines = null, gap_bytes = null, archived_at = null } = archive ?? {};
    return { attempt: Number(attempt), status, bytes, lines, gap_bytes, archived_at };
  });
}

function deletedRun({ run_id, status }: Run): RunfoldError {
  return new RunfoldError('RUN_NOT_FOUND', 'The run was deleted.', { details: { run_id, status } });
}

function keyOf({ queue, run_key }: NewRunBody, request: Request): string | null {
  if (run_key != null) return JSON.stringify([queue ?? null, run_key]);
  return request.headers.get('idempotency-key');
}

/** The same key gives the same id in the same org, and another in every other: RFC 9562 version 8, from SHA-256. */
export function idFromKey(org: string, key: string | null): string {
  if (key === null || key === '' || key.length > 512) {
    throw new Problem('INVALID_INPUT', 'The run has no id.', {
      hint: 'Send `run_id` or `run_key`, or an `Idempotency-Key` header of at most 512 characters.',
    });
  }
  const hex = createHash('sha256')
    .update(JSON.stringify([org, key]))
    .digest('hex');
  const variant = ((Number.parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
