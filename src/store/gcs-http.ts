import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { type Clock, cancelled, throwIfAborted } from '../core/clock.ts';
import { errorMessage, StoreError } from '../core/errors.ts';

/** What goes out: `path` with its query, percent-encoded. The body's pieces are sent in order, uncopied. */
export interface GcsRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  readonly signal?: AbortSignal | undefined;
}

/** What came back, whatever its status; the body is verbatim, nothing is decompressed. */
export interface GcsAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Uint8Array;
  /**
   * Server time, ms, no later than the instant at which the server acted: its `Date` (whole seconds, so already
   * rounded down) minus all the time between sending and the answer's first byte. Null without a `Date`.
   */
  readonly serverTime: number | null;
}

/** The request may have reached the server, and no whole answer came back: only the caller knows what that means. */
export class InDoubtError extends Error {
  constructor(cause: unknown) {
    super(`No answer: ${errorMessage(cause)}`, { cause });
    this.name = 'InDoubtError';
  }
}

/** The token headers for one request; they come from a cache that is renewed before it expires. */
type Authorize = (url: string) => Promise<Iterable<[string, string]>>;

/** GCS answers with up to 8 KiB of custom metadata in headers; Node's default for all of them is 16 KiB. */
const HEADER_BYTES_MAX = 64 * 1024;
/** Idle connections go before Google's front end closes them: a write that meets a closing one is in doubt. */
const IDLE_MS_MAX = 60_000;
const IDLE_CONNECTIONS_MAX = 64;

/**
 * One HTTP exchange per call over kept-alive connections: no retry, no deadline, no redirect (docs/adr/0002).
 * With an `endpoint` (an emulator) no credentials are looked for and none are sent. Otherwise endpoint and
 * credentials are those that the SDK finds: application default credentials, universe, STORAGE_EMULATOR_HOST.
 */
export async function openGcsHttp(options: {
  endpoint?: string | undefined;
  clock: Clock;
}): Promise<GcsHttp> {
  if (options.endpoint !== undefined) return new GcsHttp(new URL(options.endpoint), null, options.clock);
  const { Storage } = await import('@google-cloud/storage');
  const storage = new Storage({ retryOptions: { autoRetry: false } });
  const authorize: Authorize = (url) => storage.authClient.getRequestHeaders(url);
  return new GcsHttp(new URL(storage.apiEndpoint), storage.customEndpoint ? null : authorize, options.clock);
}

export class GcsHttp {
  readonly #base: URL;
  readonly #authorize: Authorize | null;
  readonly #clock: Clock;
  readonly #agent: http.Agent;
  readonly #secure: boolean;

  constructor(base: URL, authorize: Authorize | null, clock: Clock) {
    this.#base = base;
    this.#authorize = authorize;
    this.#clock = clock;
    this.#secure = base.protocol === 'https:';
    const agentOptions: https.AgentOptions = {
      keepAlive: true,
      timeout: IDLE_MS_MAX,
      maxFreeSockets: IDLE_CONNECTIONS_MAX,
      // An emulator is near; a proxy from the environment stands only between us and Google.
      ...(authorize && { proxyEnv: process.env }),
    };
    this.#agent = this.#secure ? new https.Agent(agentOptions) : new http.Agent(agentOptions);
  }

  /**
   * One request. Rejects with a StoreError (STORE_UNAVAILABLE, STORE_DENIED) or the signal's reason while
   * nothing was sent, and with InDoubtError, the reason as its cause, from then on.
   */
  async exchange(request: GcsRequest): Promise<GcsAnswer> {
    throwIfAborted(request.signal);
    const token = this.#authorize ? await this.#token(this.#authorize, request.signal) : {};
    return await this.#roundTrip(request, token);
  }

  close(): void {
    this.#agent.destroy();
  }

  #roundTrip(request: GcsRequest, token: Record<string, string>): Promise<GcsAnswer> {
    return new Promise((resolve, reject) => {
      const { signal, body = [] } = request;
      const startedAt = this.#clock.monotonic();
      let sent = false;
      const call = this.#open(request, token);
      const fail = (cause: unknown) => {
        signal?.removeEventListener('abort', onAbort);
        reject(sent ? new InDoubtError(cause) : signal?.aborted ? cancelled(signal) : unavailable(cause));
      };
      const onAbort = () => {
        fail(cancelled(signal!));
        call.destroy();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      call.on('error', fail);
      call.on('socket', (socket: Socket) => {
        const markSent = () => {
          sent = true;
        };
        if (socket.connecting) socket.once(this.#secure ? 'secureConnect' : 'connect', markSent);
        else markSent();
      });
      call.on('response', (response) => {
        const tookMs = this.#clock.monotonic() - startedAt;
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () => {
          signal?.removeEventListener('abort', onAbort);
          resolve(answerOf(response, chunks, tookMs));
        });
      });
      for (const part of body) call.write(part);
      call.end();
    });
  }

  #open(request: GcsRequest, token: Record<string, string>): http.ClientRequest {
    const { method, path, body = [] } = request;
    const length = body.reduce((sum, part) => sum + part.length, 0);
    return (this.#secure ? https : http).request(this.#base, {
      agent: this.#agent,
      method,
      path,
      headers: {
        'user-agent': 'runfold',
        ...(method === 'POST' && { 'content-length': length }),
        ...request.headers,
        ...token,
      },
      maxHeaderSize: HEADER_BYTES_MAX,
    });
  }

  async #token(authorize: Authorize, signal: AbortSignal | undefined): Promise<Record<string, string>> {
    const token = authorize(this.#base.href).catch(noToken);
    if (!signal) return Object.fromEntries(await token);
    let onAbort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(cancelled(signal));
      signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return Object.fromEntries(await Promise.race([aborted, token]));
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }
}

function answerOf(response: IncomingMessage, chunks: Buffer[], tookMs: number): GcsAnswer {
  const { statusCode: status = 0, headers } = response;
  const date = Date.parse(headers.date ?? '');
  const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  return {
    status,
    headers,
    body: new Uint8Array(body.buffer, body.byteOffset, body.length),
    serverTime: Number.isNaN(date) ? null : date - Math.ceil(tookMs),
  };
}

function noToken(cause: unknown): never {
  // An error with a `config` comes from a request to the token server; other ones are about the credentials' files.
  const { config, status } = cause as { config?: unknown; status?: number };
  if (config && (status === undefined || status === 429 || status >= 500)) throw unavailable(cause);
  throw new StoreError('STORE_DENIED', `No Google credentials: ${errorMessage(cause)}`, {
    retryable: false,
    hint: 'Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.',
    cause,
  });
}

export function unavailable(cause: unknown): StoreError {
  const said = errorMessage(cause) || (cause as { code?: string }).code || 'unknown reason';
  return new StoreError('STORE_UNAVAILABLE', `Cloud Storage cannot be reached: ${said}`, {
    retryable: true,
    cause,
  });
}
