import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { crc32c, crc32cToBase64 } from '../../src/core/crc32c.ts';

export interface SeenRequest {
  method: string;
  path: string;
  query: Record<string, string>;
  /** As sent: percent-encoding and all. */
  url: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface FakeGcs {
  endpoint: string;
  /** Every request that arrived whole, in order. */
  seen: SeenRequest[];
  /** What the next requests are answered with. */
  answer(handler: (response: ServerResponse, request: SeenRequest) => void): void;
  close(): Promise<void>;
}

/** An HTTP server that records requests and answers them as the test says: for the wire format and for failures. */
export async function fakeGcs(): Promise<FakeGcs> {
  const seen: SeenRequest[] = [];
  let handler: (response: ServerResponse, request: SeenRequest) => void = (response) => response.end();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const url = new URL(request.url ?? '', 'http://fake');
      const one: SeenRequest = {
        method: request.method ?? '',
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      seen.push(one);
      handler(response, one);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    answer: (next) => {
      handler = next;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function json(
  response: ServerResponse,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
) {
  response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8', ...headers });
  response.end(JSON.stringify(value));
}

/** As the JSON API words its errors. */
export function refuse(
  response: ServerResponse,
  status: number,
  message: string,
  options: { reason?: string; headers?: Record<string, string> } = {},
) {
  const errors = [{ message, domain: 'global', reason: options.reason ?? 'invalid' }];
  json(response, { error: { code: status, message, errors } }, status, options.headers);
}

export function resource(name: string, body: Uint8Array, changes: Record<string, unknown> = {}) {
  return {
    name,
    generation: '1777369647609324',
    size: String(body.length),
    crc32c: crc32cToBase64(crc32c(body)),
    timeCreated: '2026-04-28T09:47:27.612Z',
    ...changes,
  };
}

/** The headers of a download, as storage.googleapis.com sends them. */
export function mediaHeaders(body: Uint8Array): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'x-goog-generation': '1777369647609324',
    'x-goog-hash': `crc32c=${crc32cToBase64(crc32c(body))},md5=/5LbM0aGsC4dHjfQoaBKaQ==`,
    'x-goog-stored-content-encoding': 'identity',
    'x-goog-stored-content-length': String(body.length),
    'last-modified': 'Tue, 28 Apr 2026 09:47:27 GMT',
  };
}
