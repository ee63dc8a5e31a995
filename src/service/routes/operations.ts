import { errorMessage } from '../../core/errors.ts';
import { withDeadline } from '../../core/retry.ts';
import { ORGS_PREFIX } from '../../store/keys.ts';
import { RULES } from '../access.ts';
import { docsPage } from '../docs-page.ts';
import { type Answer, type Call, json, type Route, route } from '../route.ts';
import { readiness } from '../schemas.ts';
import type { Service } from '../service.ts';

const TAG = 'Operations';

export const operationRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/livez',
    rule: RULES.public,
    tag: TAG,
    summary: 'The process answers',
    answers: { 200: { description: 'Yes.', content: [{ type: 'text/plain' }] } },
    handle: async () => text('ok\n', 'text/plain'),
  }),
  route({
    method: 'GET',
    path: '/readyz',
    rule: RULES.public,
    tag: TAG,
    summary: 'The store answers, and the service is not draining',
    answers: {
      200: { description: 'Ready.', content: [json(readiness)] },
      503: { description: 'Not ready.', content: [json(readiness)] },
    },
    handle: ready,
  }),
  route({
    method: 'GET',
    path: '/metrics',
    rule: RULES.metrics,
    tag: TAG,
    summary: 'Metrics for Prometheus',
    answers: { 200: { description: 'Text format 0.0.4.', content: [{ type: 'text/plain' }] } },
    handle: async ({ service }) => text(service.metrics.text(), 'text/plain; version=0.0.4; charset=utf-8'),
  }),
  route({
    method: 'GET',
    path: '/openapi.json',
    rule: RULES.public,
    tag: TAG,
    summary: 'This service as an OpenAPI 3.1 document',
    answers: { 200: { description: 'The document.', content: [{ type: 'application/json' }] } },
    handle: async ({ service }) => ({ json: service.openapi }),
  }),
  route({
    method: 'GET',
    path: '/docs',
    rule: RULES.public,
    tag: TAG,
    summary: 'This service for people',
    answers: { 200: { description: 'A page.', content: [{ type: 'text/html' }] } },
    handle: async ({ service }) =>
      new Response(docsPage(service.openapi), {
        headers: {
          'content-type': 'text/html; charset=utf-8',
          'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
        },
      }),
  }),
  route({
    method: 'GET',
    path: '/',
    rule: RULES.public,
    tag: TAG,
    summary: 'Leads to /docs',
    answers: { 302: { description: 'To /docs.' } },
    handle: async () => new Response(null, { status: 302, headers: { location: '/docs' } }),
  }),
];

async function ready({ service }: Call): Promise<Answer> {
  if (service.draining) return { status: 503, json: { status: 'draining', store_ms: null } };
  const ms = await probe(service);
  return ms === null
    ? { status: 503, json: { status: 'unavailable', store_ms: null } }
    : { json: { status: 'ready', store_ms: ms } };
}

/** Anybody may ask for readiness, so the store is asked at most this often. */
const PROBE_MS = 1_000;
const probes = new WeakMap<Service, { at: number; answer: Promise<number | null> }>();

/** How long one LIST of one item took, ms; null: it failed. */
function probe(service: Service): Promise<number | null> {
  const { clock, limits, session, logger } = service;
  const began = clock.monotonic();
  const known = probes.get(service);
  if (known !== undefined && began - known.at < PROBE_MS) return known.answer;
  const answer = withDeadline(clock, limits.readyDeadlineMs, undefined, (stop) =>
    session.store.list({ prefix: ORGS_PREFIX, limit: 1, signal: stop }),
  ).then(
    () => Math.round(clock.monotonic() - began),
    (error: unknown) => {
      logger.warn({ error: errorMessage(error) }, 'the store does not answer');
      return null;
    },
  );
  probes.set(service, { at: began, answer });
  return answer;
}

function text(body: string, type: string): Response {
  return new Response(body, { headers: { 'content-type': type } });
}
