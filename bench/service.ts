import type { Clock } from '../src/core/clock.ts';
import { systemClock } from '../src/core/clock.ts';
import { limits as limitsOf } from '../src/core/limits.ts';
import { seededRandom } from '../src/core/random.ts';
import { createService } from '../src/service/create.ts';
import { type ServiceLimits, serviceLimits } from '../src/service/limits.ts';
import { type Listening, listen } from '../src/service/listen.ts';
import { mintToken, secretVerifier } from '../src/service/tokens.ts';
import { openSession } from '../src/session.ts';
import { counting, noRequests, type RequestCounts, requestsOf } from '../src/store/counting.ts';
import { latency } from '../src/store/latency.ts';
import { MemoryStore } from '../src/store/memory.ts';
import { resilient } from '../src/store/resilient.ts';
import { verified } from '../src/store/verified.ts';
import { runfold } from './rivals/runfold.ts';
import type { Load, LoadOptions } from './service/load.ts';
import { inChild } from './support/child.ts';
import { datasetOf } from './support/dataset.ts';
import { type Report, type ScenarioOptions, thousands } from './support/report.ts';
import type { BenchClock } from './support/world.ts';

const CONNECTIONS = 32;
const WARM_ORG = 'warm';
const WORKERS_ORG = 'workers';
const SECRET = 'a secret of the bench, of no use anywhere';
const CLAIMS = { issuer: 'bench', audience: 'bench', secret: SECRET };

interface Case {
  name: string;
  service: 'warm' | 'cold';
  method: 'GET' | 'POST';
  path: string;
  count: number;
  headers?: Record<string, string>;
  body?: object;
}

export interface Result extends Load {
  case: string;
  connections: number;
  seconds: number;
  /** Requests to the store per answer. */
  storeRequests: number;
}

/**
 * The HTTP service under load: the service in this process, on a store in memory behind the latency profile, waiting for
 * real; autocannon in another. `cold`: an org cache that keeps nothing, so that every answer is a cold refresh.
 */
export async function run(options: ScenarioOptions): Promise<Report> {
  const { quick, seed, onProgress } = options;
  const size = quick
    ? { coldOrgs: 8, workers: 100, seconds: 2, warmupSeconds: 1, orgRuns: 200, tables: 10 }
    : { coldOrgs: 128, workers: 4_000, seconds: 15, warmupSeconds: 3, orgRuns: 1_000, tables: 50 };
  const cases = casesOf(size);
  const bed = await prepare(options, size, (label) => onProgress(0, cases.length, label));
  const results: Result[] = [];
  try {
    for (const [at, one] of cases.entries()) {
      const load = (seconds: number, label: string) => {
        onProgress(at, cases.length, `${one.name}: ${label}`);
        return inChild<Load>('service:load', {
          url: bed[one.service].url,
          method: one.method,
          path: one.path,
          count: one.count,
          headers: {
            authorization: `Bearer ${bed.token}`,
            'content-type': 'application/json',
            ...one.headers,
          },
          body: one.body === undefined ? null : JSON.stringify(one.body),
          connections: CONNECTIONS,
          seconds,
        } satisfies LoadOptions);
      };
      await load(size.warmupSeconds, 'warming up');
      const before = requestsOf(bed.counts);
      const measured = await load(size.seconds, 'measuring');
      results.push({
        ...measured,
        case: one.name,
        connections: CONNECTIONS,
        seconds: size.seconds,
        storeRequests: (requestsOf(bed.counts) - before) / Math.max(1, measured.answers),
      });
    }
  } finally {
    await Promise.all([bed.warm.close(), bed.cold.close()]);
  }
  return {
    title: `The HTTP service, ${CONNECTIONS} connections`,
    head: ['case', 'requests/s', 'p50 ms', 'p97.5 ms', 'p99 ms', 'max ms', 'store requests', 'failures'],
    rows: results.map((result) => [
      result.case,
      thousands(result.requestsPerSecond),
      ...[result.p50, result.p97_5, result.p99, result.max].map(String),
      result.storeRequests.toFixed(2),
      String(result.failures),
    ]),
    notes: [
      `Store in memory behind the latency profile ${options.latency.name}, waited for in real time. autocannon runs in a process of its own, on the same machine.`,
      `${size.seconds} s each after ${size.warmupSeconds} s of warm-up. Orgs of ${thousands(size.orgRuns)} runs, ${size.tables} tables and 20 entries of tail; ${size.coldOrgs} cold ones in turn, ${thousands(size.workers)} runs with heartbeats in turn.`,
      'Store requests: per answer. Failures: answers other than 2xx, broken connections, time-outs.',
    ],
    data: { seed, results },
  };
}

function casesOf({ coldOrgs, workers }: { coldOrgs: number; workers: number }): Case[] {
  const warm = { service: 'warm', method: 'GET', count: 1 } as const;
  const tables = `/v1/orgs/${WARM_ORG}/tables`;
  return [
    { ...warm, name: 'GET tables, warm org', path: tables },
    {
      ...warm,
      name: 'GET tables, warm org, max-age=0',
      path: tables,
      headers: { 'cache-control': 'max-age=0' },
    },
    { ...warm, name: 'GET active, warm org', path: `/v1/orgs/${WARM_ORG}/active` },
    {
      ...warm,
      name: 'GET tables, cold orgs',
      service: 'cold',
      path: '/v1/orgs/cold-{i}/tables',
      count: coldOrgs,
    },
    {
      ...warm,
      name: 'POST heartbeat',
      method: 'POST',
      path: `/v1/orgs/${WORKERS_ORG}/runs/run-{i}/heartbeat`,
      count: workers,
      body: { attempt: 1 },
    },
  ];
}

interface Bed {
  warm: Listening;
  cold: Listening;
  token: string;
  /** Of both services together. */
  counts: RequestCounts;
}

async function prepare(
  { latency: profile, seed }: ScenarioOptions,
  size: { coldOrgs: number; workers: number; orgRuns: number; tables: number },
  onStep: (label: string) => void,
): Promise<Bed> {
  const clock = new ShiftedClock();
  const memory = new MemoryStore({ clock });
  const orgs = [WARM_ORG, ...Array.from({ length: size.coldOrgs }, (_, i) => `cold-${i}`)];
  for (const [i, orgId] of orgs.entries()) {
    onStep(`preparing org ${i + 1} of ${orgs.length}`);
    const { orgRuns, tables } = size;
    const data = datasetOf(orgId, { totalRuns: orgRuns, orgRuns, tables, tailEntries: 20 }, seed + i);
    await runfold.prepare(memory, data, clock);
  }
  onStep('preparing runs with heartbeats');
  const { recorder } = openSession(memory, { clock, random: seededRandom(seed) });
  await Promise.all(
    Array.from({ length: size.workers }, async (_, i) => {
      await recorder.create(WORKERS_ORG, { run_id: `run-${i}` });
      await recorder.apply(WORKERS_ORG, `run-${i}`, { type: 'started', attempt: 1 });
    }),
  );
  clock.skip(60_000);
  const counts = noRequests();
  const random = seededRandom(seed);
  const serve = (limits: Partial<ServiceLimits>) => {
    const slow = counting(latency(memory, { profile, clock, random }), counts);
    const store = resilient(verified(slow), { clock, random, limits: limitsOf() });
    const session = openSession(store, { clock, random });
    const service = createService({
      session,
      verifier: secretVerifier(CLAIMS),
      limits: { ...serviceLimits, orgRequestsPerSecond: 1e9, orgBurst: 1e9, ...limits },
    });
    return listen(service, { port: 0, host: '127.0.0.1' });
  };
  const token = await mintToken({
    ...CLAIMS,
    orgs: ['*'],
    roles: ['operator'],
    ttlMs: 24 * 3_600_000,
    now: systemClock.now(),
  });
  return { warm: await serve({}), cold: await serve({ orgCacheBytesMax: 1 }), token, counts };
}

/** Real time, with what was skipped on top of it. */
class ShiftedClock implements BenchClock {
  #skipped = 0;
  readonly sleep: Clock['sleep'] = systemClock.sleep;

  now(): number {
    return systemClock.now() + this.#skipped;
  }

  monotonic(): number {
    return systemClock.monotonic() + this.#skipped;
  }

  skip(ms: number): void {
    this.#skipped += ms;
  }
}
