import { RULES } from '../access.ts';
import { docsPage } from '../docs-page.ts';
import { json, type Route, route } from '../route.ts';
import { readiness } from '../schemas.ts';

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
    summary: 'The store answers, folds are not far behind, and the service is not draining',
    answers: { 200: { description: 'Ready.', content: [json(readiness)] } },
    errors: ['DRAINING', 'STORE_UNAVAILABLE', 'FOLD_LAG_EXCEEDED'],
    handle: async ({ service }) => ({ json: await service.readiness.check(service.draining) }),
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

function text(body: string, type: string): Response {
  return new Response(body, { headers: { 'content-type': type } });
}
