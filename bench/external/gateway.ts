import {
  Agent,
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  request as send,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { LatencyProfile, Operation } from '../../src/store/latency.ts';
import { atOnce, type Hold, holding } from './hold.ts';

/**
 * Between the proxy and the emulator, for every rival alike: counts what arrives, holds it back as long as a latency
 * profile says, and translates the writes of Cloud Storage's XML API, which fake-gcs-server answers with "invalid
 * uploadType", to its JSON API. Reads pass as they are. A process of its own, so that it takes no time of a client's
 * thread. `runGateway` is its main; the parent talks to it with `Asked` over IPC, and every message is answered.
 */
export type Asked = { upstream: string } | Draw | 'counts';

/** From now on the slow port holds requests back by this profile, drawing from the start of this seed. */
export interface Draw {
  profile: LatencyProfile;
  seed: number;
}

/** On one port of a gateway nothing waits, on the other everything does. */
export interface Ports {
  direct: number;
  slow: number;
}

export interface WireCounts extends Record<Operation, number> {
  bytesOut: number;
  /** When each request arrived, ms, in order. */
  arrivals: number[];
}

const none = (): WireCounts => ({
  get: 0,
  head: 0,
  list: 0,
  put: 0,
  delete: 0,
  bytesOut: 0,
  arrivals: [],
});

/** Custom metadata may come in headers, 8 KiB of it. */
const HEADER_BYTES_MAX = 64 * 1024;
let counts = none();
let upstream = new URL('http://127.0.0.1');
let hold: Hold = atOnce;
const agent = new Agent({ keepAlive: true });
/** Parts of XML multipart uploads, by upload id. */
const uploads = new Map<string, Map<number, Buffer>>();

export function runGateway(): void {
  const serving = (holdOf: () => Hold) =>
    createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (request, response) => {
      answer(request, response, holdOf()).catch((error: unknown) => response.destroy(error as Error));
    });
  const listening = async (server: Server) => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  };
  process.on('message', async (asked: Asked) => {
    if (asked === 'counts') {
      process.send!(counts);
      counts = none();
    } else if ('seed' in asked) {
      hold = holding(asked.profile, asked.seed);
      process.send!('drawing');
    } else {
      upstream = new URL(asked.upstream);
      const direct = await listening(serving(() => atOnce));
      const slow = await listening(serving(() => hold));
      process.send!({ direct, slow } satisfies Ports);
    }
  });
  process.on('disconnect', () => process.exit(0));
}

async function answer(request: IncomingMessage, response: ServerResponse, hold: Hold): Promise<void> {
  const url = new URL(request.url ?? '/', upstream);
  const operation = operationOf(request.method ?? 'GET', url);
  counts.arrivals.push(performance.now());
  counts[operation]++;
  const xml = xmlObject(url);
  if (xml === null || request.method === 'GET' || request.method === 'HEAD') {
    return pass(request, response, operation, hold);
  }
  const body = await bodyOf(request);
  let tell = () => {};
  await hold(operation, async () => {
    tell = await write(request, response, url, xml, body);
    return { items: 0 };
  });
  tell();
}

/** Writes, and gives what tells the answer. */
async function write(
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  xml: { bucket: string; key: string },
  body: Buffer,
): Promise<() => void> {
  const uploadId = url.searchParams.get('uploadId');
  const empty =
    (status: number, headers = {}) =>
    () =>
      void response.writeHead(status, headers).end();
  const text = (body: string) => () =>
    void response.writeHead(200, { 'content-type': 'application/xml' }).end(body);
  if (request.method === 'DELETE' && uploadId === null) {
    const path = `/storage/v1/b/${xml.bucket}/o/${encodeURIComponent(xml.key)}`;
    return empty((await ask('DELETE', path, Buffer.alloc(0))).status);
  }
  if (request.method === 'DELETE') {
    uploads.delete(uploadId!);
    return empty(204);
  }
  if (url.searchParams.has('uploads')) {
    const id = crypto.randomUUID();
    uploads.set(id, new Map());
    return text(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  }
  if (request.method === 'PUT' && uploadId !== null) {
    const number = Number(url.searchParams.get('partNumber'));
    uploads.get(uploadId)!.set(number, body);
    return empty(200, { etag: `"${number}"` });
  }
  const parts = uploadId === null ? null : [...uploads.get(uploadId)!].sort(([a], [b]) => a - b);
  const whole = parts === null ? body : Buffer.concat(parts.map(([, part]) => part));
  const stored = await insert(xml, whole, request.headers['x-goog-if-generation-match']);
  if (uploadId === null) return empty(stored.status, stored.headers);
  return text('<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>');
}

/** What the profile and the bill know it as: uploads, copies and compositions are all writes. */
function operationOf(method: string, url: URL): Operation {
  if (method === 'DELETE') return 'delete';
  if (method === 'PUT' || method === 'POST') return 'put';
  if (method === 'HEAD') return 'head';
  const parts = url.pathname.split('/').filter((part) => part !== '');
  // XML: /bucket; JSON: /storage/v1/b/bucket/o.
  const json = url.pathname.startsWith('/storage/v1/b/');
  if (json ? parts.length <= 5 : parts.length <= 1) return 'list';
  // Metadata, without the body.
  return json && url.searchParams.get('alt') !== 'media' ? 'head' : 'get';
}

function xmlObject(url: URL): { bucket: string; key: string } | null {
  if (/^\/(storage|upload|download|b|_internal)\//.test(url.pathname)) return null;
  const [, bucket, ...key] = url.pathname.split('/');
  if (bucket === undefined || key.length === 0) return null;
  return { bucket, key: decodeURIComponent(key.join('/')) };
}

async function insert(
  { bucket, key }: { bucket: string; key: string },
  body: Buffer,
  ifGeneration: string | string[] | undefined,
) {
  // The simple upload ignores preconditions in the emulator; the multipart one honours them.
  const boundary = crypto.randomUUID();
  const condition = ifGeneration === undefined ? '' : `&ifGenerationMatch=${ifGeneration}`;
  const head = `--${boundary}\r\ncontent-type: application/json\r\n\r\n${JSON.stringify({ name: key })}\r\n`;
  const type = `--${boundary}\r\ncontent-type: application/octet-stream\r\n\r\n`;
  const whole = Buffer.concat([Buffer.from(head + type), body, Buffer.from(`\r\n--${boundary}--\r\n`)]);
  const path = `/upload/storage/v1/b/${bucket}/o?uploadType=multipart${condition}`;
  const { status, body: answer } = await ask('POST', path, whole, {
    'content-type': `multipart/related; boundary=${boundary}`,
  });
  if (status !== 200) return { status, headers: {} };
  const { generation, etag } = JSON.parse(answer.toString()) as { generation: string; etag: string };
  return { status: 200, headers: { 'x-goog-generation': generation, etag: `"${etag}"` } };
}

/** A LIST is read to its end first: what its items take comes before its answer. */
async function pass(
  request: IncomingMessage,
  response: ServerResponse,
  operation: Operation,
  hold: Hold,
): Promise<void> {
  let came = request;
  let page: Buffer | null = null;
  await hold(operation, async () => {
    came = await sent(request);
    if (operation !== 'list') return { items: 0 };
    page = await bodyOf(came);
    return { items: itemsOf(page) };
  });
  response.writeHead(came.statusCode ?? 502, came.headers);
  const counted = async function* (chunks: AsyncIterable<Buffer> | Buffer[]) {
    for await (const chunk of chunks) {
      counts.bytesOut += chunk.length;
      yield chunk;
    }
  };
  await pipeline(counted(page === null ? came : [page]), response);
}

/** In JSON and in XML. */
function itemsOf(page: Buffer): number {
  const text = page.toString();
  if (!text.startsWith('{')) return text.split('<Contents>').length - 1;
  return (JSON.parse(text) as { items?: unknown[] }).items?.length ?? 0;
}

function sent(request: IncomingMessage): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const onward = send(
      {
        agent,
        maxHeaderSize: HEADER_BYTES_MAX,
        host: upstream.hostname,
        port: upstream.port,
        method: request.method,
        path: request.url,
        // The emulator tells the XML API by its public host.
        headers: { ...request.headers, host: upstream.host },
      },
      resolve,
    );
    onward.on('error', reject);
    request.pipe(onward);
  });
}

function ask(method: string, path: string, body: Buffer, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; body: Buffer }>((resolve, reject) => {
    const onward = send(
      {
        agent,
        maxHeaderSize: HEADER_BYTES_MAX,
        host: upstream.hostname,
        port: upstream.port,
        method,
        path,
        headers: { ...headers, 'content-length': body.length },
      },
      (answer) => {
        bodyOf(answer).then((body) => resolve({ status: answer.statusCode ?? 502, body }), reject);
      },
    );
    onward.on('error', reject);
    onward.end(body);
  });
}

async function bodyOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

if (process.argv[1] === import.meta.filename) runGateway();
