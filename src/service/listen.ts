import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
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
    // A broken request line or header is answered by Node itself: 400, 408 or 431.
    serverOptions: {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.bodyDeadlineMs,
      requestTimeout: limits.bodyDeadlineMs + limits.requestDeadlineMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: 1_000,
    },
  }) as import('node:http').Server;
  server.maxRequestsPerSocket = 0;
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
