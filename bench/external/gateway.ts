import { Agent, createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * Between the latency proxy and the emulator, for every rival alike: counts what arrives, and translates the writes of
 * Cloud Storage's XML API, which fake-gcs-server answers with "invalid uploadType", to its JSON API. Reads pass as they
 * are. A process of its own, so that it takes no time of a client's thread. `runGateway` is its main; the parent talks
 * to it with `Asked` over IPC.
 */
export type Asked = { upstream: string } | 'counts';

export interface WireCounts {
  get: number;
  head: number;
  list: number;
  put: number;
  delete: number;
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
const agent = new Agent({ keepAlive: true });
/** Parts of XML multipart uploads, by upload id. */
const uploads = new Map<string, Map<number, Buffer>>();

export function runGateway(): void {
  const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  process.on('message', (asked: Asked) => {
    if (asked === 'counts') {
      process.send!(counts);
      counts = none();
    } else {
      upstream = new URL(asked.upstream);
      server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port));
    }
  });
  process.on('disconnect', () => process.exit(0));
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', upstream);
  counts.arrivals.push(performance.now());
  counts[classOf(request.method ?? 'GET', url)]++;
  const xml = xmlObject(url);
  if (xml === null || request.method === 'GET' || request.method === 'HEAD') return pass(request, response);
  const body = await bodyOf(request);
  const uploadId = url.searchParams.get('uploadId');
  if (request.method === 'DELETE' && uploadId === null) {
    const path = `/storage/v1/b/${xml.bucket}/o/${encodeURIComponent(xml.key)}`;
    const { status } = await ask('DELETE', path, Buffer.alloc(0));
    response.writeHead(status).end();
  } else if (request.method === 'DELETE') {
    uploads.delete(uploadId!);
    response.writeHead(204).end();
  } else if (url.searchParams.has('uploads')) {
    const id = crypto.randomUUID();
    uploads.set(id, new Map());
    reply(
      response,
      `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
    );
  } else if (request.method === 'PUT' && uploadId !== null) {
    const number = Number(url.searchParams.get('partNumber'));
    uploads.get(uploadId)!.set(number, body);
    response.writeHead(200, { etag: `"${number}"` }).end();
  } else {
    const parts = uploadId === null ? null : [...uploads.get(uploadId)!].sort(([a], [b]) => a - b);
    const whole = parts === null ? body : Buffer.concat(parts.map(([, part]) => part));
    const stored = await insert(xml, whole, request.headers['x-goog-if-generation-match']);
    if (uploadId === null) response.writeHead(stored.status, stored.headers).end();
    else reply(response, '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>');
  }
}

function classOf(method: string, url: URL): 'get' | 'head' | 'list' | 'put' | 'delete' {
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

function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
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
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.on('data', (chunk: Buffer) => {
          counts.bytesOut += chunk.length;
        });
        answer.pipe(response);
        answer.on('end', resolve);
        answer.on('error', reject);
      },
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

function reply(response: ServerResponse, xml: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' }).end(xml);
}

async function bodyOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

if (process.argv[1] === import.meta.filename) runGateway();
