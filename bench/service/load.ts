import autocannon from 'autocannon';
import type { Report, ScenarioOptions } from '../support/report.ts';

/** What one process of load does: as JSON, so without functions. */
export interface LoadOptions {
  url: string;
  method: 'GET' | 'POST';
  /** `{i}` stands for 0 to `count` - 1, in turn; each connection begins elsewhere. */
  path: string;
  count: number;
  headers: Record<string, string>;
  body: string | null;
  connections: number;
  seconds: number;
}

export interface Load {
  requestsPerSecond: number;
  /** ms, by autocannon's histogram. */
  p50: number;
  p97_5: number;
  p99: number;
  max: number;
  answers: number;
  /** Answers other than 2xx, connections that broke, and time-outs. */
  failures: number;
}

/** A process of its own, so that it takes no time from the service that it loads. */
export async function run({ child }: ScenarioOptions): Promise<Report> {
  const { url, method, path, count, headers, body, connections, seconds } = child as LoadOptions;
  const requests = Array.from({ length: count }, (_, i) => ({ path: path.replace('{i}', String(i)) }));
  let connected = 0;
  const result = await autocannon({
    url,
    method,
    headers,
    ...(body === null ? {} : { body }),
    connections,
    duration: seconds,
    setupClient(client) {
      const from = Math.floor((connected++ * count) / connections) % count;
      client.setRequests([...requests.slice(from), ...requests.slice(0, from)]);
    },
  });
  const { latency } = result;
  const data: Load = {
    requestsPerSecond: result.requests.average,
    p50: latency.p50,
    p97_5: latency.p97_5,
    p99: latency.p99,
    max: latency.max,
    answers: result['2xx'] + result.non2xx,
    failures: result.non2xx + result.errors,
  };
  return { title: '', head: [], rows: [], notes: [], data };
}
