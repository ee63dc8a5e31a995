import { cancelled } from '../core/clock.ts';
import {
  errorMessage,
  InputError,
  isRunfoldError,
  OutcomeUnknownError,
  RunfoldError,
} from '../core/errors.ts';
import type { Note } from '../core/telemetry.ts';
import { authorize, type Principal } from './access.ts';
import { bodyOf, checkHeaders, checkPath, checkQuery, type Params } from './check.ts';
import { Problem, type Refusal, refusalOf, type ServiceErrorCode } from './problem.ts';
import { finish, requestIdOf, toResponse } from './respond.ts';
import type { Call, Route } from './route.ts';
import { methodsFor } from './routes/table.ts';
import type { Service } from './service.ts';
import { bearerOf } from './tokens.ts';

/**
 * One request, from its headers to its answer. The order matters: who asks and for which org comes before anything
 * that costs or tells something; rates are counted for orgs that the token names, so that nobody spends another's.
 */
export function handle(
  service: Service,
  route: Route | null,
  request: Request,
  params: Params,
): Promise<Response> {
  const start = {
    method: route?.method ?? 'none',
    route: route?.path ?? 'none',
    waits: route?.waits === true,
    parent: (header: string) => request.headers.get(header),
  };
  return service.session.telemetry.run('request', start, (note) =>
    respond(service, route, request, params, note),
  );
}

async function respond(
  service: Service,
  route: Route | null,
  request: Request,
  params: Params,
  note: Note<'request'>,
): Promise<Response> {
  const { clock, logger } = service;
  const began = clock.monotonic();
  const requestId = requestIdOf(request);
  const log: Record<string, unknown> = {
    request_id: requestId,
    method: request.method.slice(0, 16),
    route: route?.path ?? 'none',
  };
  let code: ServiceErrorCode | null = null;
  let response: Response;
  try {
    response = await answer(service, route, request, params, requestId, log);
  } catch (error) {
    const refusal = refusalOf(error);
    code = refusal.code;
    response = refusal.response;
    note({ code });
    logRefusal(service, log, refusal, error);
  }
  response = await finish(request, response, requestId, service.limits.compressBytesMin);
  const ms = clock.monotonic() - began;
  note({ status: response.status, org: log.org as string | undefined });
  const quiet = route?.rule.access === 'public' && response.status < 500;
  if (!quiet)
    logger.info({ ...log, status: response.status, code: code ?? undefined, ms: Math.round(ms) }, 'request');
  return response;
}

async function answer(
  service: Service,
  route: Route | null,
  request: Request,
  params: Params,
  requestId: string,
  log: Record<string, unknown>,
): Promise<Response> {
  checkHeaders(request, service);
  if (route === null) throw noRoute(request);
  const leave = service.admission.enter();
  try {
    const principal = await principalOf(service, route, request);
    const { rule } = route;
    const org = rule.access === 'token' ? authorize(rule, principal!, params) : '';
    if (org !== '') log.org = org;
    if (principal !== null) log.subject = principal.subject;
    if (org !== '') service.rates.take(org);
    const path = checkPath(params);
    const query = checkQuery(route, request);
    const deadline = new Deadline(service, route, request);
    try {
      const leaveOrg =
        org === '' || route.waits === true ? null : await service.admission.enterOrg(org, deadline.signal);
      try {
        const body =
          route.body === undefined ? undefined : await bodyOf(service, route, request, deadline.signal);
        const call: Call = {
          service,
          request,
          requestId,
          path,
          query,
          body,
          org,
          principal,
          signal: deadline.signal,
        };
        return toResponse(await route.handle(call));
      } finally {
        leaveOrg?.();
      }
    } catch (error) {
      throw deadline.explain(error);
    } finally {
      deadline.clear();
    }
  } finally {
    leave();
  }
}

/** What the caller may not see goes to the log. */
function logRefusal({ logger }: Service, fields: object, { status, code }: Refusal, error: unknown): void {
  // A caller that hung up is nobody's failure.
  if (status < 500 || code === 'CANCELLED') return;
  const cause = error instanceof Error && error.cause !== undefined ? errorMessage(error.cause) : undefined;
  const known = isRunfoldError(error) || error instanceof Problem;
  const stack = known || !(error instanceof Error) ? undefined : error.stack;
  logger.error({ ...fields, error: errorMessage(error), cause, stack }, 'request failed');
}

async function principalOf(service: Service, { rule }: Route, request: Request): Promise<Principal | null> {
  if (rule.access === 'public') return null;
  if (rule.access === 'metrics') {
    if (service.openMetrics) return null;
    const principal = await service.verifier(bearerOf(request.headers));
    if (principal.roles.has('operator')) return principal;
    throw new Problem('FORBIDDEN', 'The token needs the role operator.');
  }
  return service.verifier(bearerOf(request.headers));
}

function noRoute(request: Request): Problem {
  const methods = methodsFor(new URL(request.url).pathname);
  if (methods.length === 0) return new Problem('NOT_FOUND', 'There is no such path.', { hint: 'See /docs.' });
  return new Problem('METHOD_NOT_ALLOWED', `The path knows ${methods.join(', ')}.`, {
    headers: { allow: methods.join(', ') },
  });
}

/**
 * Bounds the work. A write goes on when its caller hangs up: half of it would only have to be repaired. A read stops.
 */
class Deadline {
  readonly signal: AbortSignal;
  readonly #timer = new AbortController();
  readonly #out = new AbortController();
  readonly #isWrite: boolean;

  constructor({ clock, limits }: Service, route: Route, request: Request) {
    this.#isWrite = route.method !== 'GET';
    this.signal = this.#isWrite ? this.#out.signal : AbortSignal.any([this.#out.signal, request.signal]);
    if (route.waits === true) return;
    clock.sleep(limits.requestDeadlineMs, this.#timer.signal).then(
      () =>
        this.#out.abort(
          new RunfoldError('DEADLINE_EXCEEDED', `No answer within ${limits.requestDeadlineMs} ms.`),
        ),
      () => undefined,
    );
  }

  clear(): void {
    // With a reason of its own: making the default one, an exception with its stack, costs more than the timer.
    this.#timer.abort(null);
  }

  /** A write that was cut short may have happened. */
  explain(error: unknown): unknown {
    if (!this.signal.aborted || error instanceof Problem || error instanceof InputError) return error;
    if (this.#isWrite && !(error instanceof OutcomeUnknownError)) {
      return new OutcomeUnknownError('The request took too long.', { cause: error });
    }
    return isRunfoldError(error) ? error : cancelled(this.signal);
  }
}
