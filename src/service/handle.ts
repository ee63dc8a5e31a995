import { cancelled } from '../core/clock.ts';
import {
  errorMessage,
  InputError,
  isRunfoldError,
  OutcomeUnknownError,
  RunfoldError,
} from '../core/errors.ts';
import { authorize, type Principal } from './access.ts';
import { readJson } from './body.ts';
import { compress, encodingOf } from './compress.ts';
import { Problem, type Refusal, refusalOf, type ServiceErrorCode } from './problem.ts';
import type { Answer, Call, Route } from './route.ts';
import { methodsFor } from './routes/table.ts';
import { idParam } from './schemas.ts';
import type { Service } from './service.ts';
import { bearerOf } from './tokens.ts';

type Params = Readonly<Record<string, string | undefined>>;

/**
 * One request, from its headers to its answer. The order matters: who asks and for which org comes before anything
 * that costs or tells something; rates are counted for orgs that the token names, so that nobody spends another's.
 */
export async function handle(
  service: Service,
  route: Route | null,
  request: Request,
  params: Params,
): Promise<Response> {
  const { clock, meters, logger } = service;
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
    meters.refusals({ code });
    logRefusal(service, log, refusal, error);
  }
  response = await finish(request, response, requestId, service.limits.compressBytesMin);
  const ms = clock.monotonic() - began;
  const labels = { method: route?.method ?? 'none', route: route?.path ?? 'none' };
  meters.requests({ ...labels, status: response.status });
  if (route?.waits !== true) meters.seconds(labels, ms / 1_000);
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

/** The org was held against the token already; the other ids become parts of keys. */
function checkPath(params: Params): Call['path'] {
  for (const name of ['run', 'task'] as const) {
    if (params[name] === undefined) continue;
    const parsed = idParam.safeParse(params[name]);
    if (parsed.success) continue;
    throw new Problem('INVALID_INPUT', `The ${name} id ${parsed.error.issues[0]?.message}.`);
  }
  return params as Call['path'];
}

/** What the caller may not see goes to the log. */
function logRefusal({ logger }: Service, fields: object, { status }: Refusal, error: unknown): void {
  if (status < 500) return;
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

function checkHeaders(request: Request, { limits }: Service): void {
  let count = 0;
  let bytes = 0;
  for (const [name, value] of request.headers) {
    count++;
    bytes += name.length + value.length;
  }
  if (
    count > limits.headersMax ||
    bytes > limits.headerBytesMax ||
    request.url.length > limits.urlLengthMax
  ) {
    throw new Problem('HEADERS_TOO_LARGE', 'The headers or the address are too large.', {
      headers: { connection: 'close' },
    });
  }
}

function noRoute(request: Request): Problem {
  const methods = methodsFor(new URL(request.url).pathname);
  if (methods.length === 0) return new Problem('NOT_FOUND', 'There is no such path.', { hint: 'See /docs.' });
  return new Problem('METHOD_NOT_ALLOWED', `The path knows ${methods.join(', ')}.`, {
    headers: { allow: methods.join(', ') },
  });
}

/** Each parameter once: which of two would be meant? */
function checkQuery(route: Route, request: Request): unknown {
  const given = [...new URL(request.url).searchParams];
  const fields = Object.fromEntries(given);
  if (Object.keys(fields).length < given.length) {
    throw new Problem('INVALID_INPUT', 'A query parameter was given twice.');
  }
  if (route.query === undefined) return {};
  return parsed('query', route.query, fields);
}

async function bodyOf(
  service: Service,
  route: Route,
  request: Request,
  signal: AbortSignal,
): Promise<unknown> {
  const { schema, largest = 'bodyBytesMax', optional } = route.body!;
  const { limits, clock } = service;
  const given = await readJson(request, {
    bytesMax: limits[largest],
    nestingMax: limits.nestingMax,
    deadlineMs: limits.bodyDeadlineMs,
    clock,
    signal,
  });
  return parsed('body', schema, given === undefined && optional === true ? {} : given);
}

function parsed(what: 'query' | 'body', schema: NonNullable<Route['query']>, value: unknown): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues
    .slice(0, 20)
    .map(({ path, message }) => ({ path: path.join('.'), problem: message }));
  const [first] = issues;
  const at = first === undefined || first.path === '' ? '' : ` at ${first.path}`;
  throw new Problem(
    'INVALID_INPUT',
    `The ${what} is not valid${at}: ${first?.problem ?? 'it has the wrong shape'}.`,
    {
      details: { issues },
      hint: 'See /docs.',
    },
  );
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
    this.#timer.abort();
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

function toResponse(answer: Answer): Response {
  if (answer instanceof Response) return answer;
  const { status = 200, json, headers } = answer;
  return new Response(JSON.stringify(json), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
  });
}

/** A caller's own id where it is harmless in a log, else a new one. */
function requestIdOf(request: Request): string {
  const given = request.headers.get('x-request-id') ?? '';
  return /^[A-Za-z0-9._:-]{8,64}$/.test(given) ? given : crypto.randomUUID();
}

async function finish(
  request: Request,
  response: Response,
  requestId: string,
  bytesMin: number,
): Promise<Response> {
  const headers = new Headers(response.headers);
  headers.set('x-request-id', requestId);
  headers.set('x-content-type-options', 'nosniff');
  headers.set('referrer-policy', 'no-referrer');
  if (!headers.has('cache-control')) headers.set('cache-control', 'no-store');
  const { status } = response;
  const type = headers.get('content-type') ?? '';
  headers.append('vary', 'Accept, Accept-Encoding');
  if (response.body === null || request.method === 'HEAD') return new Response(null, { status, headers });
  if (type.startsWith('text/event-stream')) return new Response(response.body, { status, headers });
  const body = new Uint8Array(await response.arrayBuffer());
  const encoding = body.length < bytesMin ? null : encodingOf(request.headers.get('accept-encoding'));
  if (encoding === null) {
    headers.set('content-length', String(body.length));
    return new Response(body, { status, headers });
  }
  const packed = (await compress(body, encoding)) as Uint8Array<ArrayBuffer>;
  headers.set('content-encoding', encoding);
  headers.set('content-length', String(packed.length));
  return new Response(packed, { status, headers });
}
