import { brand } from '../core/brand.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { errorMessage, InputError } from '../core/errors.ts';
import { defaultLimits } from '../core/limits.ts';
import { systemRandom } from '../core/random.ts';
import { backoffMs } from '../core/retry.ts';
import type { ServiceErrorCode } from '../service/problem.ts';

export interface ClientOptions {
  /** Of the service: `https://runfold.example.com`. */
  url: string;
  /** The token, or what gives one when it is needed: tokens expire. */
  token: string | (() => string | Promise<string>);
  fetch?: typeof globalThis.fetch;
  clock?: Clock;
  /** Attempts of one call, the first included. Every request may be repeated. */
  attemptsMax?: number;
}

export interface CallOptions {
  signal?: AbortSignal;
}

/** What the service refused, by its stable code. */
export class ServiceError extends Error {
  static {
    brand(ServiceError, 'ServiceError');
  }

  override readonly name = 'ServiceError';
  readonly status: number;
  readonly code: ServiceErrorCode | 'UNKNOWN';
  readonly hint: string | undefined;
  /** All members of the problem, as they came. */
  readonly problem: Readonly<Record<string, unknown>>;

  constructor(status: number, problem: Readonly<Record<string, unknown>>) {
    super(typeof problem.detail === 'string' ? problem.detail : `The service answered ${status}.`);
    this.status = status;
    this.code = (problem.code ?? 'UNKNOWN') as ServiceErrorCode;
    this.hint = typeof problem.hint === 'string' ? problem.hint : undefined;
    this.problem = problem;
  }
}

/**
 * Nothing answered at this address, or the answer broke off, after all attempts: what was sent may have arrived all the
 * same. Repeat it. `outcome`: of a write nobody knows; a read has changed nothing.
 */
export class UnreachableError extends Error {
  static {
    brand(UnreachableError, 'UnreachableError');
  }

  override readonly name = 'UnreachableError';
  readonly code = 'UNREACHABLE';
  /** Of the service, as the client was given it. */
  readonly url: string;
  readonly outcome: 'unknown' | 'unchanged';
  readonly hint = 'See whether the service runs, and whether the address is its own. Repeats are safe.';

  constructor(url: string, method: string, cause: unknown, began = false) {
    const { cause: reason = cause } = (cause ?? {}) as { cause?: unknown };
    const what = began ? `The answer of ${url} broke off` : `No answer from ${url}`;
    super(`${what}: ${reasonOf(reason)}.`, { cause });
    this.url = url;
    this.outcome = method === 'GET' ? 'unchanged' : 'unknown';
  }
}

interface RequestOptions extends CallOptions {
  /** Sent as JSON; bytes as they are. */
  body?: unknown;
  headers?: Record<string, string>;
}

const RETRYABLE = new Set([429, 502, 503, 504]);
const RETRY_AFTER_MAX_MS = 30_000;

/** Sends requests, and sends them again where that helps. */
export class Http {
  readonly #url: string;
  readonly #token: ClientOptions['token'];
  readonly #fetch: typeof globalThis.fetch;
  readonly #clock: Clock;
  readonly #attemptsMax: number;

  constructor({ url, token, fetch = globalThis.fetch, clock = systemClock, attemptsMax = 5 }: ClientOptions) {
    this.#url = url.replace(/\/+$/, '');
    this.#token = token;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#attemptsMax = attemptsMax;
  }

  json<T>(method: string, path: string, options: RequestOptions): Promise<T> {
    return this.whole(method, path, options, (response) => response.json() as Promise<T>);
  }

  /** With the answer read to its end: one that breaks off on the way is asked for again, as one that never came. */
  whole<T>(
    method: string,
    path: string,
    options: RequestOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    return this.#repeat(method, path, options, async (response) => {
      try {
        return await read(response);
      } catch (error) {
        // `fetch` says TypeError where the connection broke, and JSON SyntaxError where that was not noticed.
        if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
        throw this.brokenOff(method, error);
      }
    });
  }

  /** An answer that is read later, by whoever asked for it. */
  send(method: string, path: string, options: RequestOptions): Promise<Response> {
    return this.#repeat(method, path, options, async (response) => response);
  }

  brokenOff(method: string, cause: unknown): UnreachableError {
    return new UnreachableError(this.#url, method, cause, true);
  }

  /** Throws ServiceError for what the service refused, UnreachableError where it did not answer. */
  async #repeat<T>(
    method: string,
    path: string,
    options: RequestOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const last = attempt + 1 >= this.#attemptsMax;
      let waitMs = backoffMs(attempt, defaultLimits, systemRandom);
      try {
        const response = await this.#once(method, path, options);
        if (response.ok) return await read(response);
        const error = new ServiceError(response.status, await problemOf(response));
        if (last || !RETRYABLE.has(response.status)) throw error;
        waitMs = Math.max(waitMs, retryAfterMs(response));
      } catch (error) {
        if (last || options.signal?.aborted || !(error instanceof UnreachableError)) throw error;
      }
      await this.#clock.sleep(waitMs, options.signal);
    }
  }

  async #once(method: string, path: string, { body, headers, signal }: RequestOptions): Promise<Response> {
    const token = typeof this.#token === 'string' ? this.#token : await this.#token();
    const request: RequestInit = {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': typeOf(body) }),
        ...headers,
      },
      ...(body === undefined
        ? {}
        : { body: body instanceof Uint8Array ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    };
    try {
      return await this.#fetch(`${this.#url}${path}`, request);
    } catch (error) {
      // `fetch` says TypeError for all that went wrong on the way, and for an address that is none.
      if (!(error instanceof TypeError)) throw error;
      if ((error.cause as { code?: unknown } | undefined)?.code !== 'ERR_INVALID_URL')
        throw new UnreachableError(this.#url, method, error);
      throw new InputError(`${JSON.stringify(this.#url)} is not the address of a service.`, {
        hint: 'It looks like https://runfold.example.com.',
        cause: error,
      });
    }
  }
}

/** Of several addresses that were tried, Node says the code alone. */
function reasonOf(error: unknown): string {
  return errorMessage(error) || String((error as { code?: unknown }).code ?? 'unknown reason');
}

function typeOf(body: unknown): string {
  return body instanceof Uint8Array ? 'application/octet-stream' : 'application/json';
}

function retryAfterMs(response: Response): number {
  const seconds = Number(response.headers.get('retry-after') ?? 0);
  return Number.isFinite(seconds) ? Math.min(seconds * 1_000, RETRY_AFTER_MAX_MS) : 0;
}

async function problemOf(response: Response): Promise<Record<string, unknown>> {
  try {
    const body: unknown = await response.json();
    return typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
