import { z } from 'zod';
import { runsWithHistory } from '../../catalog/history.ts';
import type { RunFilter } from '../../catalog/views.ts';
import { RULES } from '../access.ts';
import { executionOf } from '../artifact-view.ts';
import { filters, name } from '../filters.ts';
import { pageOfRuns } from '../pages.ts';
import { Problem } from '../problem.ts';
import { json, type Route, route } from '../route.ts';
import { executionView, projectionView } from '../schemas.ts';
import { answerOf, snapshotFor, viewAnswer, viewOf } from '../view.ts';
import { FRESHNESS } from './catalog.ts';

const TAG = 'References';
const reference = name.min(1).meta({ description: 'in the query, because references hold slashes' });
/** Runs that were deleted or retried since the index saw them are passed over, so many at most. */
const CANDIDATES_MAX = 8;

export const referenceRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/references/latest',
    rule: RULES.read,
    tag: TAG,
    summary: 'The latest execution of a reference: the run of it that changed last',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({ reference_id: reference, status: filters.status }),
    answers: {
      200: { description: 'The run.', content: [json(projectionView)] },
      304: { description: 'Nothing changed since the ETag that the caller sent.' },
    },
    errors: ['REFERENCE_NOT_FOUND', 'NOT_ACCEPTABLE'],
    async handle(call) {
      const snapshot = await snapshotFor(call);
      return viewAnswer(call, snapshot, async () => {
        const { session } = call.service;
        const { items } = await pageOfRuns(session, snapshot, call.query, 1, undefined, call.signal);
        if (items[0] !== undefined) return items[0];
        throw notFound(call.query);
      });
    },
  }),
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/references/statistics',
    rule: RULES.read,
    tag: TAG,
    summary: 'What the latest successful execution of a reference took: in all, and operator by operator',
    description: `Which run that is comes from the index, the rest from the run as it is stored now. ${FRESHNESS}`,
    headers: ['Cache-Control'],
    query: z.strictObject({
      reference_id: reference,
      status: filters.status.meta({ description: 'SUCCEEDED, unless others are named' }),
    }),
    answers: {
      200: { description: 'The execution.', content: [json(executionView)] },
      304: { description: 'Nothing changed since the ETag that the caller sent.' },
    },
    errors: ['REFERENCE_NOT_FOUND'],
    async handle(call) {
      const { service, org, request, signal, query } = call;
      const { state } = await snapshotFor(call);
      const statuses = query.status ?? ['SUCCEEDED'];
      const filter = { ...query, status: statuses, limit: CANDIDATES_MAX };
      for await (const { run_id } of runsWithHistory(service.session, state, filter, signal)) {
        const stored = await service.session.runs.read(org, run_id, signal);
        if (stored === null || stored.run.deleted_at !== null) continue;
        if (statuses.includes(stored.run.status)) return answerOf(request, viewOf(executionOf(stored.run)));
      }
      throw notFound(filter);
    },
  }),
];

function notFound({ status }: RunFilter): Problem {
  const which = status === undefined ? '' : ` that is ${[status].flat().join(' or ')}`;
  return new Problem('REFERENCE_NOT_FOUND', `The reference has no run${which}.`);
}
