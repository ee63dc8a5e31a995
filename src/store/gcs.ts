import { type Clock, cancelled, systemClock } from '../core/clock.ts';
import { crc32c, crc32cToBase64 } from '../core/crc32c.ts';
import { systemRandom } from '../core/random.ts';
import {
  isDoubtful,
  isObjectMissing,
  metaFromHeaders,
  metaFromResource,
  type ObjectResource,
  parseJson,
  RESOURCE_FIELDS,
  refusal,
  serverTimeOf,
} from './gcs-answer.ts';
import {
  type GcsAnswer,
  type GcsHttp,
  type GcsRequest,
  InDoubtError,
  openGcsHttp,
  unavailable,
} from './gcs-http.ts';
import {
  ABSENT,
  type Capabilities,
  type DeleteOptions,
  type DeleteOutcome,
  type GetOptions,
  type GetOutcome,
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
  type PutOptions,
  type PutOutcome,
} from './object-store.ts';

export interface GcsOptions {
  bucket: string;
  /** Keys are stored under `<prefix>/`; callers of the port never see it. */
  prefix?: string | undefined;
  /** An emulator, as `http://host:port`. No credentials are looked for or sent. */
  endpoint?: string | undefined;
  /** What the server at `endpoint` really does, where that is less than Cloud Storage. */
  capabilities?: Partial<Capabilities> | undefined;
  clock?: Clock | undefined;
}

/**
 * Cloud Storage through its JSON API: exactly one request per method, no retry and no deadline, both of which
 * wrappers add through the signal. Opening sends nothing. An aborted read rejects with the signal's reason; an
 * aborted write that was sent is `unknown`. Errors: STORE_UNAVAILABLE and STORE_THROTTLED (retryable),
 * STORE_DENIED, STORE_FAILED. Billed: put and list class A, get and head class B, delete free.
 */
export async function openGcsStore(options: GcsOptions): Promise<ObjectStore> {
  const clock = options.clock ?? systemClock;
  return new GcsStore(options, await openGcsHttp({ endpoint: options.endpoint, clock }));
}

type Unknown = { readonly outcome: 'unknown'; readonly cause: unknown };

/** Below this, one copy and one write to the socket cost less than three writes. */
const JOIN_BYTES_MAX = 64 * 1024;

class GcsStore implements ObjectStore {
  readonly url: string;
  readonly capabilities: Capabilities;
  readonly #http: GcsHttp;
  readonly #root: string;
  readonly #objects: string;
  /** 128 random bits, unknown to whoever wrote the body; were it there all the same, the checksum would fail. */
  readonly #boundary = Array.from({ length: 4 }, () => systemRandom.u32().toString(16).padStart(8, '0')).join(
    '',
  );

  constructor(options: GcsOptions, http: GcsHttp) {
    const prefix = (options.prefix ?? '').replace(/^\/+|\/+$/g, '');
    this.#http = http;
    this.#root = prefix === '' ? '' : `${prefix}/`;
    this.#objects = `/storage/v1/b/${encodeURIComponent(options.bucket)}/o`;
    this.url = `gs://${options.bucket}${prefix && `/${prefix}`}`;
    this.capabilities = {
      listMetadata: true,
      metadataBytesMax: 8 * 1024,
      conditionalGet: true,
      conditionalDelete: true,
      ...options.capabilities,
    };
  }

  /**
   * `meta.createdAt` is in whole seconds here: a download does not tell more. The body is as received; the
   * wrapper in verified.ts compares it with `meta.crc32c`.
   */
  async get(key: string, options: GetOptions = {}): Promise<GetOutcome> {
    const { range, ifGenerationNot, signal } = options;
    const condition = ifGenerationNot === undefined ? '' : `&ifGenerationNotMatch=${encode(ifGenerationNot)}`;
    // `gzip` asks GCS for the stored bytes as they are; without it, it inflates what was stored as gzip.
    const headers: Record<string, string> = { 'accept-encoding': 'gzip' };
    // HTTP cannot ask for no bytes, so an empty range asks for one.
    if (range) headers.range = `bytes=${range.start}-${Math.max(range.end - 1, range.start)}`;
    const answer = await this.#read({
      method: 'GET',
      path: `${this.#path(key)}?alt=media${condition}`,
      headers,
      signal,
    });
    const url = this.#name(key);
    const serverTime = serverTimeOf(answer, url);
    if (answer.status === 304) return { outcome: 'unchanged', serverTime };
    if (isObjectMissing(answer)) return { outcome: 'absent', serverTime };
    const pastEnd = range !== undefined && answer.status === 416 && 'x-goog-generation' in answer.headers;
    if (answer.status !== 200 && answer.status !== 206 && !pastEnd) throw refusal(answer, url);
    const meta = metaFromHeaders(key, answer.headers, url);
    return { outcome: 'found', meta, body: bodyOf(answer, range), serverTime };
  }

  async head(key: string, options: { signal?: AbortSignal | undefined } = {}): Promise<ObjectMeta | null> {
    const answer = await this.#read({
      method: 'GET',
      path: `${this.#path(key)}?fields=${RESOURCE_FIELDS}`,
      signal: options.signal,
    });
    if (isObjectMissing(answer)) return null;
    if (answer.status !== 200) throw refusal(answer, this.#name(key));
    return metaFromResource(key, parseJson(answer, this.#name(key)), this.#name(key));
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutOutcome> {
    const { ifGeneration, metadata = {}, contentType = 'application/octet-stream', cacheControl } = options;
    const condition = ifGeneration === undefined ? '' : `&ifGenerationMatch=${generationOf(ifGeneration)}`;
    const answer = await this.#write({
      method: 'POST',
      path: `/upload${this.#objects}?uploadType=multipart&fields=${RESOURCE_FIELDS}${condition}`,
      headers: { 'content-type': `multipart/related; boundary=${this.#boundary}` },
      body: this.#multipart(
        { name: this.#root + key, contentType, cacheControl, metadata, crc32c: crc32cToBase64(crc32c(body)) },
        body,
        contentType,
      ),
      signal: options.signal,
    });
    if ('outcome' in answer) return answer;
    if (answer.status === 412) return { outcome: 'conflict' };
    if (answer.status !== 200) throw refusal(answer, this.#name(key));
    try {
      return {
        outcome: 'written',
        meta: metaFromResource(key, parseJson(answer, this.#name(key)), this.#name(key)),
      };
    } catch (cause) {
      return { outcome: 'unknown', cause }; // it said 200: something was written
    }
  }

  async delete(key: string, options: DeleteOptions): Promise<DeleteOutcome> {
    const answer = await this.#write({
      method: 'DELETE',
      path: `${this.#path(key)}?ifGenerationMatch=${encode(options.ifGeneration)}`,
      signal: options.signal,
    });
    if ('outcome' in answer) return answer;
    if (answer.status === 412) return { outcome: 'conflict' };
    if (isObjectMissing(answer)) return { outcome: 'absent' };
    if (answer.status !== 204 && answer.status !== 200) throw refusal(answer, this.#name(key));
    return { outcome: 'deleted' };
  }

  async list(options: ListOptions): Promise<ListPage> {
    const { prefix, start, end, delimiter, pageToken, limit = LIST_PAGE_MAX, signal } = options;
    const query = new URLSearchParams({
      prefix: this.#root + prefix,
      ...(start !== undefined && { startOffset: this.#root + start }),
      ...(end !== undefined && { endOffset: this.#root + end }),
      ...(delimiter !== undefined && { delimiter }),
      ...(pageToken !== undefined && { pageToken }),
      maxResults: String(Math.min(limit, LIST_PAGE_MAX)),
      fields: `nextPageToken,prefixes,items(${RESOURCE_FIELDS})`,
    });
    const answer = await this.#read({ method: 'GET', path: `${this.#objects}?${query}`, signal });
    const url = this.#name(prefix);
    if (answer.status !== 200) throw refusal(answer, url);
    const page = parseJson<{ nextPageToken?: string; prefixes?: string[]; items?: ObjectResource[] }>(
      answer,
      url,
    );
    return {
      items: (page.items ?? []).map((item) =>
        metaFromResource(item.name.slice(this.#root.length), item, url),
      ),
      prefixes: (page.prefixes ?? []).map((group) => group.slice(this.#root.length)),
      next: page.nextPageToken || null,
      serverTime: serverTimeOf(answer, url),
    };
  }

  async close(): Promise<void> {
    this.#http.close();
  }

  #path(key: string): string {
    return `${this.#objects}/${encode(this.#root + key)}`;
  }

  #name(key: string): string {
    return `${this.url}/${key}`;
  }

  async #read(request: GcsRequest): Promise<GcsAnswer> {
    try {
      return await this.#http.exchange(request);
    } catch (error) {
      if (!(error instanceof InDoubtError)) throw error;
      throw request.signal?.aborted ? cancelled(request.signal) : unavailable(error.cause);
    }
  }

  /** A StoreError from here had no effect on the bucket; `unknown` may have. */
  async #write(request: GcsRequest): Promise<GcsAnswer | Unknown> {
    try {
      const answer = await this.#http.exchange(request);
      if (!isDoubtful(answer.status)) return answer;
      return { outcome: 'unknown', cause: refusal(answer, this.url) };
    } catch (error) {
      if (!(error instanceof InDoubtError)) throw error;
      return { outcome: 'unknown', cause: error.cause };
    }
  }

  /** `multipart/related`: the resource as JSON, then the bytes, in one request. */
  #multipart(resource: Record<string, unknown>, body: Uint8Array, contentType: string): Uint8Array[] {
    const parts = [
      Buffer.from(
        `--${this.#boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n${JSON.stringify(resource)}\r\n` +
          `--${this.#boundary}\r\ncontent-type: ${contentType}\r\n\r\n`,
      ),
      body,
      Buffer.from(`\r\n--${this.#boundary}--\r\n`),
    ];
    return body.length <= JOIN_BYTES_MAX ? [Buffer.concat(parts)] : parts;
  }
}

const encode = encodeURIComponent;

/** GCS calls absence generation 0. */
function generationOf(ifGeneration: string | typeof ABSENT): string {
  return ifGeneration === ABSENT ? '0' : encode(ifGeneration);
}

/** A server may ignore a range and send the whole object. */
function bodyOf({ status, body }: GcsAnswer, range: GetOptions['range']): Uint8Array {
  if (!range) return body;
  if (status === 416) return new Uint8Array();
  if (status === 200) return body.subarray(range.start, Math.max(range.start, range.end));
  return body.subarray(0, Math.max(0, range.end - range.start));
}
