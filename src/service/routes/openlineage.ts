import { z } from 'zod';
import { type ImportReport, importEvents } from '../../openlineage/import.ts';
import { RULES } from '../access.ts';
import { Problem } from '../problem.ts';
import { type Call, json, type Route, route } from '../route.ts';
import { type BatchReport, batchReport, lineageEvent } from '../schemas.ts';

const TAG = 'OpenLineage';
/** So many events of a batch count as one request: most of them share a write. */
const EVENTS_PER_REQUEST = 10;

export const openLineageRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/lineage',
    rule: RULES.events,
    tag: TAG,
    summary: 'One OpenLineage event, as its clients send it; the org is that of the token',
    description:
      'In any order, any number of times, through any replica. Events about no run are accepted and left.',
    body: { schema: lineageEvent, largest: 'eventsBytesMax' },
    answers: { 201: { description: 'Recorded.' } },
    errors: ['INVALID_INPUT', 'OUTCOME_UNKNOWN'],
    async handle(call) {
      const { rejected } = await record(call, [call.body]);
      if (rejected[0] !== undefined)
        throw new Problem('INVALID_INPUT', `The event is refused: ${rejected[0].reason}.`);
      return new Response(null, { status: 201 });
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/lineage/batch',
    rule: RULES.events,
    tag: TAG,
    summary: 'Many OpenLineage events; what is refused is told by its index, the rest is recorded',
    body: { schema: z.array(z.unknown()).min(1), largest: 'eventsBytesMax' },
    answers: { 200: { description: 'What became of them.', content: [json(batchReport)] } },
    errors: ['INVALID_INPUT', 'LIMIT_EXCEEDED', 'OUTCOME_UNKNOWN'],
    async handle(call) {
      const { batchEventsMax } = call.service.limits;
      if (call.body.length > batchEventsMax) {
        throw new Problem('LIMIT_EXCEEDED', `The batch has more than ${batchEventsMax} events.`, {
          hint: 'Send it in parts.',
        });
      }
      call.service.rates.charge(call.org, call.body.length / EVENTS_PER_REQUEST);
      return { json: reportOf(call.body.length, await record(call, call.body)) };
    },
  }),
];

/** Events of one run go into one write. `line` is the index plus one. */
function record({ service, org, signal }: Call, events: readonly unknown[]): Promise<ImportReport> {
  const { recorder } = service.session;
  return importEvents({
    source: events.map((event, index) => ({ file: '', line: index + 1, json: event })),
    orgId: org,
    signal,
    limits: { rejectedMax: service.limits.batchEventsMax },
    async record(orgId, runId, observations, stop) {
      const { changed } = await recorder.observe(orgId, runId, observations, stop);
      return changed ? 'changed' : 'unchanged';
    },
  });
}

function reportOf(received: number, { rejected, rejected_total }: ImportReport): BatchReport {
  return {
    status: rejected_total === 0 ? 'success' : 'partial_success',
    summary: {
      received,
      successful: received - rejected_total,
      failed: rejected_total,
      retriable: 0,
      non_retriable: rejected_total,
    },
    failed_events: rejected.map(({ line, reason }) => ({ index: line - 1, reason, retriable: false })),
  };
}
