import { type Clock, systemClock } from '../core/clock.ts';
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

  async json<T>(method: string, path: string, options: RequestOptions): Promise<T> {
    return (await (await this.send(method, path, options)).json()) as T;
  }

  /** Throws ServiceError, and what `fetch` throws when the service cannot be reached. */
  async send(method: string, path: string, options: RequestOptions): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      const last = attempt + 1 >= this.#attemptsMax;
      let waitMs = backoffMs(attempt, defaultLimits, systemRandom);
      try {
        const response = await this.#once(method, path, options);
        if (response.ok) return response;
        const error = new ServiceError(response.status, await problemOf(response));
        if (last || !RETRYABLE.has(response.status)) throw error;
        waitMs = Math.max(waitMs, retryAfterMs(response));
      } catch (error) {
        // `fetch` says TypeError for all that went wrong on the way.
        if (last || options.signal?.aborted || !(error instanceof TypeError)) throw error;
      }
      await this.#clock.sleep(waitMs, options.signal);
    }
  }

  async #once(method: string, path: string, { body, headers, signal }: RequestOptions): Promise<Response> {
    const token = typeof this.#token === 'string' ? this.#token : await this.#token();
    return this.#fetch(`${this.#url}${path}`, {
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
    });
  }
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
