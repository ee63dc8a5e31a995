import { Hono } from 'hono';
import { type Clock, systemClock } from '../core/clock.ts';
import { errorMessage } from '../core/errors.ts';
import type { Session } from '../session.ts';
import type { Rows } from '../snapshot/rows.ts';
import { Admission, RateLimiter } from './admission.ts';
import { ChangeFeeds } from './changes.ts';
import { handle } from './handle.ts';
import { type ServiceLimits, serviceLimits } from './limits.ts';
import { Metrics } from './metrics.ts';
import { type OpenApi, openApiOf } from './openapi.ts';
import { incompleteOf, OrgCache } from './org-cache.ts';
import { refusalOf } from './problem.ts';
import { ROUTES } from './routes/table.ts';
import type { TokenVerifier } from './tokens.ts';
import { newViewCache, type ViewCache } from './view.ts';

/** As pino's; nothing secret is ever passed to it. */
export interface Logger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

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
  /** Of the software, for the OpenAPI document. */
  version?: string;
}

/** The service as a function from Request to Response. Listening is somebody else's: see listen.ts. */
export interface Service {
  readonly session: Session;
  readonly verifier: TokenVerifier;
  readonly limits: ServiceLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly openMetrics: boolean;
  readonly encodeArrow: ((rows: Rows) => Promise<Uint8Array>) | null;
  readonly orgs: OrgCache;
  readonly changes: ChangeFeeds;
  readonly views: ViewCache;
  readonly rates: RateLimiter;
  readonly admission: Admission;
  readonly metrics: Metrics;
  readonly meters: Meters;
  readonly openapi: OpenApi;
  readonly app: Hono;
  readonly draining: boolean;
  fetch(request: Request): Promise<Response>;
  /** From now on not ready; resolves when no request is in flight, or after `drainMs`. */
  drain(): Promise<void>;
}

export function createService(options: ServiceOptions): Service {
  const { session, verifier, clock = systemClock, logger = silentLogger } = options;
  const limits: ServiceLimits = { ...serviceLimits, ...options.limits };
  const metrics = new Metrics();
  const meters = metersOf(metrics);
  const orgs = new OrgCache(session, clock, limits, {
    onLookup: (result) => meters.lookups({ result }),
    onRefresh: (org, stats) => {
      meters.refreshes({ kind: stats.cold ? 'cold' : 'warm' });
      meters.refreshSeconds({ kind: stats.cold ? 'cold' : 'warm' }, stats.totalMs / 1_000);
      meters.rounds({}, stats.rounds);
      meters.tailEntries({}, stats.tailEntries);
      const missing = incompleteOf(stats);
      if (missing === null) return;
      meters.incomplete();
      logger.warn({ org, missing }, 'the catalog is incomplete: see runfold verify and repair');
    },
    onBackgroundError: (org, error) => logger.warn({ org, error: errorMessage(error) }, 'refresh failed'),
  });
  const changes = new ChangeFeeds(orgs, clock, limits, () => session.random.u32().toString(36));
  const admission = new Admission(limits);
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
    metrics,
    meters,
    openapi: openApiOf(ROUTES, options.version ?? '0'),
    app,
    get draining() {
      return draining;
    },
    fetch: async (request) => app.fetch(request),
    async drain() {
      draining = true;
      changes.close();
      const until = clock.monotonic() + limits.drainMs;
      while (admission.inFlight > 0 && clock.monotonic() < until) await clock.sleep(10);
      await session.close();
    },
  };
  metrics.gauge('runfold_requests_in_flight', 'Requests being worked on.', () => admission.inFlight);
  metrics.gauge(
    'runfold_requests_waiting',
    'Requests waiting for a place of their org.',
    () => admission.waiting,
  );
  metrics.gauge('runfold_cache_orgs', 'Orgs in the cache.', () => orgs.orgs);
  metrics.gauge('runfold_cache_bytes', 'Estimated memory of the orgs in the cache.', () => orgs.bytes);
  metrics.gauge('runfold_view_cache_bytes', 'Memory of cached answers.', () => views.calculatedSize);
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

const ENTRIES = [0, 1, 10, 100, 1_000, 10_000];

export type Meters = ReturnType<typeof metersOf>;

function metersOf(metrics: Metrics) {
  return {
    requests: metrics.counter('runfold_requests_total', 'Requests by route and status.'),
    seconds: metrics.histogram('runfold_request_seconds', 'Time to answer, by route.'),
    refusals: metrics.counter('runfold_refusals_total', 'Refused requests by code.'),
    lookups: metrics.counter(
      'runfold_cache_lookups_total',
      'Org cache: hit, stale (served and refreshed) or miss.',
    ),
    refreshes: metrics.counter('runfold_refreshes_total', 'Refreshes, cold or warm.'),
    refreshSeconds: metrics.histogram('runfold_refresh_seconds', 'Time of a refresh, cold or warm.'),
    rounds: metrics.counter('runfold_refresh_rounds_total', 'Rounds of all refreshes.'),
    tailEntries: metrics.histogram(
      'runfold_refresh_tail_entries',
      'Entries of the tail that a refresh read.',
      ENTRIES,
    ),
    incomplete: metrics.counter(
      'runfold_refreshes_incomplete_total',
      'Refreshes that met quarantined or corrupt objects.',
    ),
  };
}
