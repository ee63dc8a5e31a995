import { archiveOrg } from '../compactor/archive.ts';
import { openCompactor } from '../compactor/open.ts';
import { systemClock } from '../src/core/clock.ts';
import { limits as limitsOf } from '../src/core/limits.ts';
import { type Random, seededRandom } from '../src/core/random.ts';
import { openSession, type Session } from '../src/session.ts';
import { counting, noRequests, requestsOf } from '../src/store/counting.ts';
import { latency } from '../src/store/latency.ts';
import { MemoryStore } from '../src/store/memory.ts';
import type { ObjectStore } from '../src/store/object-store.ts';
import { type Report, type ScenarioOptions, showSpread, spread, thousands } from './support/report.ts';

const ORG = 'acme';
const MIB = 1024 * 1024;
const LEVELS = ['INFO', 'INFO', 'INFO', 'DEBUG', 'WARN'];
const WORDS = [
  'read',
  'wrote',
  'partition',
  'rows',
  'retry',
  'batch',
  'checkpoint',
  'merged',
  'in',
  'table',
  'orders',
];

interface Archiving {
  logs: number;
  log_bytes: number;
  chunk_bytes: number;
  stored_bytes: number;
  seconds: number;
  mib_per_s: number;
  requests: number;
}

interface Reading {
  log: 'live' | 'archived';
  range_bytes: number;
  requests: number;
  bytes: number;
  ms: ReturnType<typeof spread>;
}

/** Archiving: computing alone, on a store without latency. Ranges: requests, bytes, and time under the profile. */
export async function run({ quick, seed, latency: profile, onProgress }: ScenarioOptions): Promise<Report> {
  const random = seededRandom(seed);
  const total = (quick ? 8 : 128) * MIB;
  const shapes = [
    { log: total / 64, chunk: 64 * 1024 },
    { log: total / 8, chunk: 16 * 1024 },
    { log: total / 8, chunk: 64 * 1024 },
    { log: total / 8, chunk: MIB },
  ];
  const steps = shapes.length + 1;
  const archiving: Archiving[] = [];
  for (const [i, { log, chunk }] of shapes.entries()) {
    onProgress(i, steps, `logs of ${log / MIB} MiB in chunks of ${chunk / 1024} KiB`);
    archiving.push(await measureArchiving(random, total / log, log, chunk));
  }
  onProgress(shapes.length, steps, 'ranges');
  const reading = await measureReading(random, (quick ? 4 : 100) * MIB, quick ? 3 : 9, (store) =>
    latency(store, { profile, clock: systemClock, random: seededRandom(seed) }),
  );
  return {
    title: 'Logs: archiving, and reading a range',
    head: ['what', 'MiB/s', 'ratio', 'requests', 'KiB read', 'ms'],
    rows: [
      ...archiving.map((one) => [
        `archive ${one.logs} × ${(one.log_bytes / MIB).toFixed(2)} MiB, chunks of ${one.chunk_bytes / 1024} KiB`,
        one.mib_per_s.toFixed(1),
        ((one.logs * one.log_bytes) / one.stored_bytes).toFixed(1),
        thousands(one.requests),
        '',
        thousands(one.seconds * 1_000),
      ]),
      ...reading.map(({ log, range_bytes, requests, bytes, ms }) => [
        `${log} log: ${range_bytes / 1024} KiB`,
        '',
        '',
        String(requests),
        thousands(bytes / 1024),
        showSpread(ms),
      ]),
    ],
    notes: [
      'Archiving: list, read, check, compress, decompress again, put, compare, commit, delete; memory store without latency.',
      `Ranges: all over a log of ${quick ? 4 : 100} MiB in chunks of 64 KiB, a fresh reader each time, latency "${profile.name}".`,
      'Requests of a range include that of the run. Median (least–most).',
    ],
    data: { archiving, reading },
  };
}

async function measureArchiving(
  random: Random,
  logs: number,
  logBytes: number,
  chunkBytes: number,
): Promise<Archiving> {
  const { session, store, counts } = await worldWith(random, logs, logBytes, chunkBytes);
  const context = { ...(await openCompactor(session)), store };
  const before = requestsOf(counts);
  const began = performance.now();
  const done = await archiveOrg(context, ORG, session.recorder, { budgetMs: 3_600_000 });
  const seconds = (performance.now() - began) / 1_000;
  if (done.archived !== logs) throw new Error(`${done.archived} of ${logs} logs were archived.`);
  return {
    logs,
    log_bytes: logBytes,
    chunk_bytes: chunkBytes,
    stored_bytes: done.stored_bytes,
    seconds,
    mib_per_s: (logs * logBytes) / MIB / seconds,
    requests: requestsOf(counts) - before,
  };
}

async function measureReading(
  random: Random,
  logBytes: number,
  rounds: number,
  slow: (store: ObjectStore) => ObjectStore,
): Promise<Reading[]> {
  const { session, store, memory } = await worldWith(random, 1, logBytes, 64 * 1024);
  const readings: Reading[] = [];
  for (const log of ['live', 'archived'] as const) {
    if (log === 'archived') {
      const context = { ...(await openCompactor(session)), store };
      await archiveOrg(context, ORG, session.recorder, { budgetMs: 3_600_000 });
    }
    for (const range of [1024, 64 * 1024, MIB]) {
      const ms: number[] = [];
      const counts = noRequests();
      for (let round = 0; round < rounds; round++) {
        const reader = openSession(counting(slow(memory), counts), { limits: LIMITS });
        const from = Math.floor(((logBytes - range) * (round + 1)) / (rounds + 1));
        const began = performance.now();
        const { body } = await reader.traces.read(ORG, 'run-0', { from, to: from + range });
        ms.push(performance.now() - began);
        if (body.length !== range) throw new Error(`A range had ${body.length} bytes.`);
      }
      readings.push({
        log,
        range_bytes: range,
        requests: requestsOf(counts) / rounds,
        bytes: counts.bytesRead / rounds,
        ms: spread(ms),
      });
    }
  }
  return readings;
}

/** Archived at once: the bench does not wait for output that might be late. */
const LIMITS = limitsOf({ traceSettleMs: 0, traceClaimMs: 3_600_000 });

/** Ended runs whose logs lie in chunks. */
async function worldWith(random: Random, logs: number, logBytes: number, chunkBytes: number) {
  const memory = new MemoryStore({ clock: systemClock });
  const counts = noRequests();
  const store = counting(memory, counts);
  const session: Session = openSession(store, { limits: LIMITS });
  for (let i = 0; i < logs; i++) {
    const run_id = `run-${i}`;
    await session.recorder.create(ORG, { run_id });
    const log = logOf(random, logBytes);
    for (let offset = 0; offset < log.length; offset += chunkBytes) {
      const body = log.subarray(offset, offset + chunkBytes);
      await session.traces.append(ORG, run_id, { attempt: 1, offset, body });
    }
    await session.recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
  }
  return { memory, store, counts, session };
}

/** Lines as programs write them: times, levels, few words, many numbers. */
function logOf(random: Random, bytes: number): Uint8Array {
  const lines: string[] = [];
  let at = Date.UTC(2026, 10, 20);
  for (let size = 0; size < bytes; ) {
    at += random.u32() % 900;
    const words = Array.from({ length: 6 }, () => WORDS[random.u32() % WORDS.length]).join(' ');
    const line = `${new Date(at).toISOString()} ${LEVELS[random.u32() % LEVELS.length]} worker-${random.u32() % 8} ${words} ${random.u32()} ${(random.u32() % 4096).toString(16)}\n`;
    lines.push(line);
    size += line.length;
  }
  return Buffer.from(lines.join('')).subarray(0, bytes);
}
