import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Session } from '../session.ts';
import { listening } from './listening.ts';

export interface MetricsServer {
  readonly url: string;
  close(): void;
}

/**
 * What a compactor does, for Prometheus: `/metrics`, and `/livez`. Open to whoever reaches the port: there is no org in
 * it, nor anything of one.
 */
export async function serveMetrics(
  session: Session,
  metricsPort: number,
  metricsHost: string,
): Promise<MetricsServer> {
  const { Metrics, metering, tracing } = await import('../telemetry/index.ts');
  const metrics = new Metrics(['store', 'compactor']);
  session.telemetry.add(metering(metrics)).add(tracing);
  const server = createServer((request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (request.method !== 'GET' || (path !== '/metrics' && path !== '/livez')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
      return;
    }
    const type = path === '/metrics' ? 'text/plain; version=0.0.4; charset=utf-8' : 'text/plain';
    response.writeHead(200, { 'content-type': type }).end(path === '/metrics' ? metrics.text() : 'ok\n');
  });
  const started = new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(metricsPort, metricsHost, resolve);
  });
  await listening({ host: metricsHost, port: metricsPort }, started);
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
