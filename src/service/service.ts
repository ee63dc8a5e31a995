import type { Hono } from 'hono';
import type { Clock } from '../core/clock.ts';
import type { Session } from '../session.ts';
import type { Rows } from '../snapshot/rows.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Admission, RateLimiter } from './admission.ts';
import type { ChangeFeeds } from './changes.ts';
import type { ServiceLimits } from './limits.ts';
import type { Logger } from './logger.ts';
import type { OpenApi } from './openapi-document.ts';
import type { OrgCache } from './org-cache.ts';
import type { Readiness } from './ready.ts';
import type { TokenVerifier } from './tokens.ts';
import type { ViewCache } from './view-cache.ts';

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
  readonly readiness: Readiness;
  readonly metrics: Metrics;
  readonly openapi: OpenApi;
  readonly app: Hono;
  readonly draining: boolean;
  fetch(request: Request): Promise<Response>;
  /** From now on not ready; requests are answered as before. */
  announceEnd(): void;
  /** Not ready; resolves when no request is in flight, or after `drainMs`. */
  drain(): Promise<void>;
}
