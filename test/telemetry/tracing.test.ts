import { context, metrics, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { otelName } from '../../src/telemetry/metrics.ts';
import { NOW, RUNS, type Served, serve } from '../service/support.ts';
import { ORG } from '../support/runs.ts';

const spans = new InMemorySpanExporter();
const figures = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter: figures, exportIntervalMillis: 3_600_000 });
const meters = new MeterProvider({ readers: [reader] });
const SECRETS = ['the-token', 'a-payload-secret', 'an-error-secret', 'a-table-secret'];

beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(
    new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: spans })] }),
  );
  metrics.setGlobalMeterProvider(meters);
});
afterAll(async () => {
  await meters.shutdown();
  for (const api of [context, propagation, trace, metrics]) api.disable();
});
beforeEach(() => spans.reset());

/** `name` of each span under that of its parent. */
function tree(): string[] {
  const all = spans.getFinishedSpans();
  const names = new Map(all.map((span) => [span.spanContext().spanId, span.name]));
  return all.map(({ name, parentSpanContext: parent }) => {
    const above = parent === undefined ? '-' : (names.get(parent.spanId) ?? `remote ${parent.traceId}`);
    return `${above} > ${name}`;
  });
}

const named = (name: string) => spans.getFinishedSpans().find((span) => span.name === name)!;

describe('with an OpenTelemetry SDK in the process', () => {
  it('a request is a span of its caller, with appends and refreshes below, named by the conventions', async () => {
    const served = await serve();
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    await served.json('POST', RUNS, { body: { run_id: 'r1' }, headers });
    await served.json('GET', RUNS, NOW);
    expect(tree()).toEqual([
      'POST /v1/orgs/{org}/runs > runfold.append',
      'POST /v1/orgs/{org}/runs > runfold.append',
      `remote ${traceId} > POST /v1/orgs/{org}/runs`,
      'GET /v1/orgs/{org}/runs > runfold.refresh',
      '- > GET /v1/orgs/{org}/runs',
    ]);
    const post = named('POST /v1/orgs/{org}/runs');
    expect(post.kind).toBe(SpanKind.SERVER);
    expect(post.attributes).toEqual({
      'http.request.method': 'POST',
      'http.route': '/v1/orgs/{org}/runs',
      'http.response.status_code': 201,
      'runfold.org': ORG,
    });
    expect(named('runfold.append').attributes).toEqual({
      'runfold.org': ORG,
      'runfold.append.records': 1,
    });
    expect(named('runfold.refresh').attributes).toMatchObject({
      'runfold.org': ORG,
      'runfold.refresh.cold': true,
      'runfold.refresh.rounds': 1,
      'runfold.refresh.tail_entries': 2,
    });
  });

  it('lines of the log lead to the trace of their request', async () => {
    const served = await serve();
    await served.json('GET', `${RUNS}/none`);
    const { traceId, spanId } = named('GET /v1/orgs/{org}/runs/{run}').spanContext();
    const line = JSON.parse(served.log.lines.at(-1)!);
    expect(line).toMatchObject({ message: 'request', status: 404, trace_id: traceId, span_id: spanId });
  });

  it('a fold is one, and what fails says its code, never its message', async () => {
    const served = await serve();
    await served.json('POST', RUNS, { body: { run_id: 'r1' } });
    await served.world.compact();
    expect(named('runfold.fold').attributes).toMatchObject({
      'runfold.fold.outcome': 'committed',
      'runfold.fold.records': 2,
    });
    expect((await served.json('GET', `${RUNS}/none`)).status).toBe(404);
    const refused = named('GET /v1/orgs/{org}/runs/{run}');
    // A refused request is its caller's failure: by the conventions no error of the server.
    expect(refused.status.code).toBe(SpanStatusCode.UNSET);
    expect(refused.attributes['runfold.code']).toBe('RUN_NOT_FOUND');
    const broken = await serve({}, { store: failing(served) });
    expect((await broken.json('GET', `/v1/orgs/${ORG}/tables`, NOW)).status).toBe(500);
    for (const name of ['runfold.refresh', 'GET /v1/orgs/{org}/tables']) {
      const span = named(name);
      expect(span.status).toEqual({ code: SpanStatusCode.ERROR });
      expect(span.attributes['error.type']).toBe('INTERNAL');
    }
  });

  it('no attribute holds a token, a payload or what a run says', async () => {
    const served = await serve();
    await served.json('POST', RUNS, {
      body: {
        run_id: 'r1',
        payload: { target_namespace: 'db', target_table: 'a-table-secret', password: 'a-payload-secret' },
      },
    });
    await served.json('POST', `${RUNS}/r1/fail`, {
      body: { attempt: 1, error: { code: null, message: 'an-error-secret' } },
    });
    await served.call('GET', `${RUNS}?name=a-table-secret`, { token: 'the-token' });
    await served.json('GET', `/v1/orgs/${ORG}/table?namespace=db&name=a-table-secret`, NOW);
    await served.world.compact();
    expect(spans.getFinishedSpans().length).toBeGreaterThan(8);
    for (const { name, attributes, events, status } of spans.getFinishedSpans()) {
      const text = JSON.stringify({ name, attributes, events, status });
      for (const secret of SECRETS) expect(text).not.toContain(secret);
    }
  });

  it('gets the same figures as Prometheus, under its own names', async () => {
    const served = await serve();
    await served.json('POST', RUNS, { body: { run_id: 'r1' } });
    await served.json('GET', RUNS, NOW);
    await reader.forceFlush();
    const given = figures
      .getMetrics()
      .at(-1)!
      .scopeMetrics.flatMap(({ metrics }) => metrics);
    const rounds = given.find(({ descriptor }) => descriptor.name === 'runfold.refresh.rounds')!;
    expect(rounds.dataPoints.at(-1)!.attributes).toEqual({ 'runfold.kind': 'cold' });
    const duration = given.find(({ descriptor }) => descriptor.name === 'http.server.request.duration')!;
    expect(duration.descriptor.unit).toBe('s');
    expect(duration.dataPoints.map(({ attributes }) => attributes)).toContainEqual({
      'http.request.method': 'GET',
      'http.route': '/v1/orgs/{org}/runs',
      'http.response.status_code': 200,
    });
    expect(given.some(({ descriptor }) => descriptor.name === otelName('runfold_cache_orgs').name)).toBe(
      true,
    );
    const text = JSON.stringify(
      given.map(({ dataPoints }) => dataPoints.map(({ attributes }) => attributes)),
    );
    expect(text).not.toContain(ORG);
  });
});

function failing({ world }: Served) {
  return {
    ...world.store,
    url: world.store.url,
    capabilities: world.store.capabilities,
    get: () => Promise.reject(new Error('an-error-secret')),
    list: () => Promise.reject(new Error('an-error-secret')),
    put: world.store.put.bind(world.store),
    head: world.store.head.bind(world.store),
    delete: world.store.delete.bind(world.store),
    close: async () => undefined,
  };
}
