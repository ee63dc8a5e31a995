import type { z } from 'zod';
import { readBytes, readJson } from './body.ts';
import { Problem } from './problem.ts';
import type { Call, Route } from './route.ts';
import { idParam } from './schemas.ts';
import type { Service } from './service.ts';

export type Params = Readonly<Record<string, string | undefined>>;

/** Before anything else of the request is looked at. */
export function checkHeaders(request: Request, { limits }: Service): void {
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

/** The org was held against the token already; the other ids become parts of keys. */
export function checkPath(params: Params): Call['path'] {
  for (const name of ['run', 'task', 'operator', 'port'] as const) {
    if (params[name] === undefined) continue;
    const parsed = idParam.safeParse(params[name]);
    if (parsed.success) continue;
    throw new Problem('INVALID_INPUT', `The ${name} id ${parsed.error.issues[0]?.message}.`);
  }
  return params as Call['path'];
}

/** Each parameter once: which of two would be meant? */
export function checkQuery(route: Route, request: Request): unknown {
  const given = [...new URL(request.url).searchParams];
  const fields = Object.fromEntries(given);
  if (Object.keys(fields).length < given.length) {
    throw new Problem('INVALID_INPUT', 'A query parameter was given twice.');
  }
  if (route.query === undefined) return {};
  return parsed('query', route.query, fields);
}

export async function bodyOf(
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

/** The bytes of a route with `raw`. */
export async function rawBody(
  { service, request, signal }: Pick<Call, 'service' | 'request' | 'signal'>,
  bytesMax: number,
): Promise<Uint8Array> {
  const { clock, limits } = service;
  const bytes = await readBytes(request, { bytesMax, deadlineMs: limits.bodyDeadlineMs, clock, signal });
  return bytes ?? new Uint8Array();
}

function parsed(what: 'query' | 'body', schema: NonNullable<Route['query']>, value: unknown): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues
    .slice(0, 20)
    .map((issue) => ({ path: issue.path.join('.'), problem: problemOf(issue, what, value) }));
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

/** Zod names what it has made of the text; callers know what they sent. */
function problemOf(issue: z.core.$ZodIssue, what: 'query' | 'body', value: unknown): string {
  if (issue.code !== 'invalid_type' || issue.path.length === 0) return issue.message;
  let given = value;
  for (const part of issue.path) given = (given as Record<PropertyKey, unknown> | null | undefined)?.[part];
  if (given === undefined) return 'it is missing';
  return what === 'query' && issue.expected === 'number' ? 'it must be a number' : issue.message;
}
