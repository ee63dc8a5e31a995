import { type ErrorCode, isRunfoldError, RunfoldError, StoreError } from '../core/errors.ts';

/** What the service says besides the codes of the library. As stable as those. */
export type ServiceErrorCode =
  | ErrorCode
  | 'BODY_TOO_LARGE'
  | 'CURSOR_EXPIRED'
  | 'DRAINING'
  | 'FOLD_LAG_EXCEEDED'
  | 'FORBIDDEN'
  | 'HEADERS_TOO_LARGE'
  | 'INTERNAL'
  | 'KEYS_UNAVAILABLE'
  | 'METHOD_NOT_ALLOWED'
  | 'NOT_ACCEPTABLE'
  | 'NOT_FOUND'
  | 'ORG_NOT_FOUND'
  | 'OVERLOADED'
  | 'RANGE_NOT_SATISFIABLE'
  | 'RATE_LIMITED'
  | 'REFERENCE_NOT_FOUND'
  | 'REQUEST_TIMEOUT'
  | 'TABLE_NOT_FOUND'
  | 'UNAUTHENTICATED'
  | 'UNSUPPORTED_MEDIA_TYPE';

interface Meaning {
  readonly status: number;
  readonly title: string;
}

/** A code without a status does not compile. */
export const MEANINGS: { readonly [C in ServiceErrorCode]: Meaning } = {
  ARTIFACT_NOT_FOUND: { status: 404, title: 'There is no such artifact' },
  ATTEMPT_STALE: { status: 409, title: 'The attempt is not current' },
  BODY_TOO_LARGE: { status: 413, title: 'The body is too large' },
  CANCELLED: { status: 503, title: 'The request was cancelled' },
  CORRUPT: { status: 500, title: 'Stored bytes are corrupt' },
  CURSOR_EXPIRED: { status: 410, title: 'The cursor is too old' },
  DEADLINE_EXCEEDED: { status: 504, title: 'The store took too long' },
  DRAINING: { status: 503, title: 'The service is about to end' },
  FOLD_LAG_EXCEEDED: { status: 503, title: 'Folds are too far behind' },
  FORBIDDEN: { status: 403, title: 'The token does not allow this' },
  HEADERS_TOO_LARGE: { status: 431, title: 'The headers are too large' },
  INTERNAL: { status: 500, title: 'A defect of the service' },
  INVALID_INPUT: { status: 400, title: 'The request is not valid' },
  KEYS_UNAVAILABLE: { status: 503, title: 'The keys of the token issuer could not be fetched' },
  LIMIT_EXCEEDED: { status: 413, title: 'A limit would be exceeded' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'The path does not know this method' },
  NOT_ACCEPTABLE: { status: 406, title: 'No such media type here' },
  NOT_FOUND: { status: 404, title: 'There is no such path' },
  ORG_NOT_FOUND: { status: 404, title: 'There is no such org' },
  OUTCOME_UNKNOWN: { status: 503, title: 'It may or may not have happened: repeat the same request' },
  OVERLOADED: { status: 503, title: 'The service has too much to do' },
  RANGE_NOT_SATISFIABLE: { status: 416, title: 'There is nothing in this range' },
  RATE_LIMITED: { status: 429, title: 'The org sends too many requests' },
  REFERENCE_NOT_FOUND: { status: 404, title: 'There is no such execution of the reference' },
  REQUEST_TIMEOUT: { status: 408, title: 'The body did not come in time' },
  REVISION_CONFLICT: { status: 409, title: 'The run changes too often' },
  RUN_ALREADY_EXISTS: { status: 409, title: 'The run id was used for another request' },
  RUN_KEY_CONFLICT: { status: 409, title: 'The run key stands for another request' },
  RUN_NOT_EXPIRED: { status: 409, title: 'The run is within its time-outs' },
  RUN_NOT_FOUND: { status: 404, title: 'There is no such run' },
  RUN_NOT_STARTED: { status: 409, title: 'The run has not started' },
  RUN_NOT_TERMINAL: { status: 409, title: 'The run has not ended' },
  RUN_TERMINAL: { status: 409, title: 'The run has ended' },
  SNAPSHOT_EXPIRED: { status: 503, title: 'The snapshot was replaced meanwhile: repeat the request' },
  STORE_DENIED: { status: 503, title: 'The store refuses the service' },
  STORE_FAILED: { status: 503, title: 'The store failed' },
  STORE_THROTTLED: { status: 503, title: 'The store asks for patience' },
  STORE_UNAVAILABLE: { status: 503, title: 'The store does not answer' },
  TABLE_NOT_FOUND: { status: 404, title: 'There is no such table' },
  TASK_NOT_FOUND: { status: 404, title: 'There is no such task' },
  TASK_NOT_STARTED: { status: 409, title: 'The task has not started' },
  TASK_NOT_TERMINAL: { status: 409, title: 'The task has not ended' },
  TASK_TERMINAL: { status: 409, title: 'The task has ended' },
  TRACE_ARCHIVED: { status: 409, title: 'The log was archived' },
  TRACE_CLOSED: { status: 409, title: 'The attempt ended too long ago to add to its log' },
  TRACE_EXPIRED: { status: 410, title: 'The log was kept for as long as the policy says' },
  TRACE_NOT_FOUND: { status: 404, title: 'There is no such log' },
  UNAUTHENTICATED: { status: 401, title: 'A valid token is needed' },
  UNSUPPORTED_FORMAT: { status: 500, title: 'Stored bytes were written by a newer runfold' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, title: 'The body has another media type or encoding' },
  VERSION_NOT_FOUND: { status: 404, title: 'There is no such version' },
};

export interface ProblemOptions {
  hint?: string;
  /** Members beside the standard ones; of the caller's own request only. */
  details?: Record<string, unknown>;
  headers?: Record<string, string>;
  cause?: unknown;
}

/** A refusal that the service itself decides on. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ServiceErrorCode;
  readonly options: ProblemOptions;

  constructor(code: ServiceErrorCode, detail: string, options: ProblemOptions = {}) {
    super(detail, { cause: options.cause });
    this.code = code;
    this.options = options;
  }
}

/** RFC 9457, with the stable `code` and a `hint`. `type` leads to the code's line of the docs page. */
export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  code: ServiceErrorCode;
  detail: string;
  hint?: string;
  [member: string]: unknown;
}

/** Seconds after which a client may ask again, where asking again helps. */
const RETRY_AFTER_S: Partial<Record<ServiceErrorCode, number>> = {
  CANCELLED: 1,
  DEADLINE_EXCEEDED: 1,
  KEYS_UNAVAILABLE: 5,
  OUTCOME_UNKNOWN: 1,
  OVERLOADED: 1,
  RATE_LIMITED: 1,
  SNAPSHOT_EXPIRED: 1,
  STORE_THROTTLED: 2,
  STORE_UNAVAILABLE: 2,
};

export interface Refusal {
  readonly code: ServiceErrorCode;
  readonly status: number;
  readonly response: Response;
}

/**
 * Whatever was thrown as an answer. Answers of 500 and more tell their code and nothing of the store: names of keys,
 * buckets and hosts stay in the logs.
 */
export function refusalOf(error: unknown): Refusal {
  const code = codeOf(error);
  const { title } = MEANINGS[code];
  const status = statusOf(code, error);
  const body: ProblemBody = { type: `/docs#${code}`, title, status, code, detail: title };
  if (error instanceof Problem || (isRunfoldError(error) && status < 500)) {
    const { hint, details } = error instanceof Problem ? error.options : error;
    // The lifecycle calls the status of the run so; here it is that of the answer.
    const { status: run_status, ...members } = details ?? {};
    Object.assign(body, members, { ...body, detail: error.message, run_status });
    if (hint !== undefined) body.hint = hint;
  } else if (status === 503) body.hint = 'Repeat the same request; repeats are safe.';
  const headers = new Headers({ 'content-type': 'application/problem+json', 'cache-control': 'no-store' });
  const retryAfter = retryAfterOf(code, error);
  if (retryAfter !== undefined) headers.set('retry-after', String(retryAfter));
  if (code === 'UNAUTHENTICATED') headers.set('www-authenticate', 'Bearer realm="runfold"');
  if (error instanceof Problem) {
    for (const [name, value] of Object.entries(error.options.headers ?? {})) headers.set(name, value);
  }
  return { code, status, response: new Response(JSON.stringify(body), { status, headers }) };
}

function codeOf(error: unknown): ServiceErrorCode {
  if (error instanceof Problem) return error.code;
  return error instanceof RunfoldError ? error.code : 'INTERNAL';
}

/** A deleted run was there: 410 until its stub is gone. The lifecycle tells the status of a run that exists. */
function statusOf(code: ServiceErrorCode, error: unknown): number {
  const was = code === 'RUN_NOT_FOUND' && isRunfoldError(error) && error.details?.status !== undefined;
  return was ? 410 : MEANINGS[code].status;
}

function retryAfterOf(code: ServiceErrorCode, error: unknown): number | undefined {
  const seconds = RETRY_AFTER_S[code];
  if (!(error instanceof StoreError) || error.retryAfterMs === undefined) return seconds;
  return Math.max(seconds ?? 1, Math.ceil(error.retryAfterMs / 1_000));
}
