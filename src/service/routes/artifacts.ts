import { z } from 'zod';
import { artifactAt, artifactKey } from '../../runs/artifacts.ts';
import type { RunEvent } from '../../runs/events.ts';
import { checkAttempt, RULES } from '../access.ts';
import { artifactOf, artifactsOf } from '../artifact-view.ts';
import { integer } from '../integers.ts';
import { Problem, type ServiceErrorCode } from '../problem.ts';
import { type Answer, type Call, json, type Route, route } from '../route.ts';
import {
  type ArtifactAcknowledgement,
  type ArtifactBody,
  artifactAcknowledgement,
  artifactBody,
  artifactsView,
  artifactView,
} from '../schemas.ts';
import { answerOf, viewOf } from '../view.ts';
import { acknowledge, readRun } from './lifecycle.ts';

const TAG = 'Artifacts';
const ALL = '/v1/orgs/{org}/runs/{run}/artifacts';
const ONE = `${ALL}/{operator}/{port}`;
const acknowledged = {
  200: {
    description: 'Durable, and in every answer that is asked for later.',
    content: [json(artifactAcknowledgement)],
  },
};
const errors: ServiceErrorCode[] = [
  'RUN_NOT_FOUND',
  'RUN_NOT_STARTED',
  'ATTEMPT_STALE',
  'REVISION_CONFLICT',
  'LIMIT_EXCEEDED',
  'OUTCOME_UNKNOWN',
];
const unchanged = { description: 'Nothing changed since the ETag that the caller sent.' };

export const artifactRoutes: readonly Route[] = [
  route({
    method: 'PUT',
    path: ONE,
    rule: RULES.work,
    tag: TAG,
    summary: 'Register what an operator left at a port: where it lies, and what it says',
    description:
      'Also after the end of the run. The ports `console` and `statistics` are for those; all others are results. ' +
      '`ttl_ms` counts from now: afterwards, and once the run has ended, the clean-up removes it. The same request ' +
      'again is a repeat; another one replaces what was there, which is still removed when its own time comes.',
    body: { schema: artifactBody as unknown as z.ZodType<ArtifactBody> },
    answers: acknowledged,
    errors,
    handle(call) {
      const { attempt, ...rest } = call.body;
      return change(call, {
        type: 'artifact',
        attempt,
        artifact: { type: 'put', ...placeOf(call), ...rest },
      });
    },
  }),
  route({
    method: 'DELETE',
    path: ONE,
    rule: RULES.work,
    tag: TAG,
    summary: 'Give an artifact up: due from now on',
    description: 'The clean-up removes it once the run has ended. A new registration brings it back.',
    query: z.strictObject({
      attempt: integer(1).meta({ description: 'of the run' }),
    }),
    answers: acknowledged,
    errors: [...errors, 'ARTIFACT_NOT_FOUND'],
    handle: (call) =>
      change(call, {
        type: 'artifact',
        attempt: call.query.attempt,
        artifact: { type: 'drop', ...placeOf(call) },
      }),
  }),
  route({
    method: 'GET',
    path: ONE,
    rule: RULES.readRun,
    tag: TAG,
    summary: 'One artifact, as it is stored now',
    answers: { 200: { description: 'The artifact.', content: [json(artifactView)] }, 304: unchanged },
    errors: ['RUN_NOT_FOUND', 'ARTIFACT_NOT_FOUND'],
    async handle(call) {
      const artifact = artifactAt(await readRun(call), placeOf(call));
      if (artifact !== null) return answerOf(call.request, viewOf(artifactOf(artifact)));
      throw new Problem('ARTIFACT_NOT_FOUND', `The run has no artifact ${artifactKey(placeOf(call))}.`);
    },
  }),
  route({
    method: 'GET',
    path: ALL,
    rule: RULES.readRun,
    tag: TAG,
    summary: 'All artifacts of a run, as they are stored now',
    description: 'At most 1000; those that were replaced and are still to be removed are among them.',
    answers: { 200: { description: 'The artifacts.', content: [json(artifactsView)] }, 304: unchanged },
    errors: ['RUN_NOT_FOUND'],
    handle: async (call) => answerOf(call.request, viewOf({ artifacts: artifactsOf(await readRun(call)) })),
  }),
];

function placeOf({ path }: Pick<Call, 'path'>): { operator: string; port: string } {
  return { operator: path.operator!, port: path.port! };
}

async function change(call: Call, event: Extract<RunEvent, { type: 'artifact' }>): Promise<Answer> {
  const { service, org, path, principal, signal } = call;
  if (principal !== null) checkAttempt(principal, event.attempt);
  const recorded = await service.session.recorder.apply(org, path.run!, event, signal);
  const artifact = artifactOf(artifactAt(recorded.run, placeOf(call))!);
  return { json: { ...acknowledge(recorded), artifact } satisfies ArtifactAcknowledgement };
}
