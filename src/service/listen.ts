import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { createAdaptorServer } from '@hono/node-server';
import { Problem, refusalOf, type ServiceErrorCode } from './problem.ts';
import type { Service } from './service.ts';

export interface Listening {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  /**
   * /readyz says no for `drainDelayMs`, while all else goes on; then it takes no new connections, waits for requests in
   * flight, and ends.
   */
  close(): Promise<void>;
}

/** Serves over HTTP/1.1 on Node's own server, with bounds on headers and on how slowly they may come. */
export async function listen(service: Service, options: { port: number; host: string }): Promise<Listening> {
  const { limits } = service;
  const server = createAdaptorServer({
    fetch: (request: Request) => service.fetch(request),
    serverOptions: {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.bodyDeadlineMs,
      requestTimeout: limits.bodyDeadlineMs + limits.requestDeadlineMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: 1_000,
    },
  }) as import('node:http').Server;
  server.maxRequestsPerSocket = 0;
  answerBroken(server, service);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port, address, family } = server.address() as AddressInfo;
  const host = family === 'IPv6' ? `[${address}]` : address;
  return {
    url: `http://${host}:${port}`,
    async close() {
      service.announceEnd();
      await service.clock.sleep(limits.drainDelayMs);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      await service.drain();
      server.closeAllConnections();
      await closed;
    },
  };
}

/**
 * What Node gives up before it is a request is refused as all else is: as problem+json. Not where an answer is on its way on
 * that connection: nothing may be written into it.
 */
function answerBroken(server: import('node:http').Server, { metrics }: Service): void {
  const answering = new WeakMap<Duplex, ServerResponse>();
  server.on('request', (request, response) => answering.set(request.socket, response));
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    const answer = answering.get(socket);
    const isAnswering = answer !== undefined && !answer.writableFinished;
    if (!socket.writable || error.code === 'ECONNRESET' || isAnswering) {
      socket.destroy();
      return;
    }
    const [code, detail] = BROKEN[error.code ?? ''] ?? NO_REQUEST;
    metrics.add('runfold_refusals_total', { code });
    const { status, response } = refusalOf(new Problem(code, detail));
    const headers = [...response.headers, ['x-request-id', crypto.randomUUID()], ['connection', 'close']];
    void response.text().then((body) => {
      const lines = [
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
        ...headers.map(([name, value]) => `${name}: ${value}`),
        `content-length: ${Buffer.byteLength(body)}`,
      ];
      socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
    });
  });
}

const BROKEN: Readonly<Record<string, readonly [ServiceErrorCode, string]>> = {
  HPE_HEADER_OVERFLOW: ['HEADERS_TOO_LARGE', 'The headers or the address are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['REQUEST_TIMEOUT', 'The request did not come in time.'],
};
const NO_REQUEST = ['INVALID_INPUT', 'This is no request of HTTP/1.1.'] as const;
