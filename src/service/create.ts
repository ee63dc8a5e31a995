import { Hono } from 'hono';
import { type Clock, systemClock } from '../core/clock.ts';
import { errorMessage } from '../core/errors.ts';
import type { Session } from '../session.ts';
import type { Rows } from '../snapshot/rows.ts';
import { metering } from '../telemetry/meter.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { tracing } from '../telemetry/tracing.ts';
import { Admission, RateLimiter } from './admission.ts';
import { ChangeFeeds } from './changes.ts';
import { handle } from './handle.ts';
import { type ServiceLimits, serviceLimits } from './limits.ts';
import { type Logger, silentLogger, traced } from './logger.ts';
import { openApiOf } from './openapi.ts';
import { incompleteOf, OrgCache } from './org-cache.ts';
import { refusalOf } from './problem.ts';
import { Readiness } from './ready.ts';
import { ROUTES } from './routes/table.ts';
import type { Service } from './service.ts';
import type { TokenVerifier } from './tokens.ts';
import { newViewCache } from './view-cache.ts';

export interface ServiceOptions {
  session: Session;
  /** Checks tokens: see tokens.ts. There is no default. */
  verifier: TokenVerifier;
  limits?: Partial<ServiceLimits>;
  clock?: Clock;
  logger?: Logger;
  /** Lets anybody read /metrics. Default: operators only. */
  openMetrics?: boolean;
  /** Rows as an Arrow IPC stream; without it Arrow is not on offer. */
  encodeArrow?: ((rows: Rows) => Promise<Uint8Array>) | null;
  /** What /metrics shows; default: one of its own, of the service and its session. */
  metrics?: Metrics;
  /** Of the software, for the OpenAPI document. */
  version?: string;
}

export function createService(options: ServiceOptions): Service {
  const { session, verifier, clock = systemClock } = options;
  const logger = traced(options.logger ?? silentLogger);
  const limits: ServiceLimits = { ...serviceLimits, ...options.limits };
  const metrics = options.metrics ?? new Metrics(['service', 'store'], options.version);
  session.telemetry.add(metering(metrics, clock)).add(tracing);
  const orgs = new OrgCache(session, clock, limits, {
    onRefresh: (org, stats) => {
      const missing = incompleteOf(stats);
      if (missing === null) return;
      logger.warn({ org, missing }, 'the catalog is incomplete: see runfold verify and repair');
    },
    onBackgroundError: (org, error) => logger.warn({ org, error: errorMessage(error) }, 'refresh failed'),
  });
  const changes = new ChangeFeeds(orgs, session, clock, limits);
  const admission = new Admission(limits);
  const readiness = new Readiness(session, clock, limits, logger);
  const views = newViewCache(limits.viewCacheBytesMax);
  const app = new Hono();
  let draining = false;
  const service: Service = {
    session,
    verifier,
    limits,
    clock,
    logger,
    openMetrics: options.openMetrics ?? false,
    encodeArrow: options.encodeArrow ?? null,
    orgs,
    changes,
    views,
    rates: new RateLimiter(clock, limits),
    admission,
    readiness,
    metrics,
    openapi: openApiOf(ROUTES, options.version ?? '0'),
    app,
    get draining() {
      return draining;
    },
    fetch: async (request) => app.fetch(request),
    announceEnd() {
      draining = true;
    },
    async drain() {
      draining = true;
      changes.close();
      const until = clock.monotonic() + limits.drainMs;
      while (admission.inFlight > 0 && clock.monotonic() < until) await clock.sleep(10);
      await session.close();
    },
  };
  metrics.read('runfold_requests_in_flight', () => admission.inFlight);
  metrics.read('runfold_requests_waiting', () => admission.waiting);
  metrics.read('runfold_cache_orgs', () => orgs.orgs);
  metrics.read('runfold_cache_bytes', () => orgs.bytes);
  metrics.read('runfold_view_cache_bytes', () => views.calculatedSize);
  metrics.read('runfold_ready_lag_seconds', () => (readiness.lagMs ?? 0) / 1_000);
  mount(app, service);
  return service;
}

function mount(app: Hono, service: Service): void {
  for (const route of ROUTES) {
    const path = route.path.replace(/\{([a-z]+)\}/g, ':$1');
    app.on(route.method, path, (context) => handle(service, route, context.req.raw, context.req.param()));
  }
  app.notFound((context) => handle(service, null, context.req.raw, {}));
  // `handle` answers whatever is thrown; this is for what Hono itself throws.
  app.onError((error) => refusalOf(error).response);
}
