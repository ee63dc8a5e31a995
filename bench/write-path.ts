import { InputError } from '../src/core/errors.ts';
import { seededRandom, uniform } from '../src/core/random.ts';
import { uuidv7 } from '../src/core/uuid.ts';
import { type LatencyProfile, latency } from '../src/store/latency.ts';
import { MemoryStore } from '../src/store/memory.ts';
import { type Bill, billing, noBill } from './support/billing.ts';
import { SkippingClock } from './support/clock.ts';
import { dollarsOf } from './support/prices.ts';
import { type Report, type ScenarioOptions, thousands } from './support/report.ts';
import { realisticRows } from './support/rows.ts';
import { WRITERS } from './writers/index.ts';
import type { Writer, WriterKind } from './writers/writer.ts';

interface Setup {
  writers: number;
  /** In each process, each with one row in flight. */
  callers: number;
  orgs: number;
}

export interface Result extends Setup {
  scenario: string;
  rival: string;
  acknowledgedPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Percentiles that waits which were not over when the window closed make a lower bound. */
  censored: { p50: boolean; p99: boolean };
  putsPerRecord: number;
  refusedPerRecord: number;
  dollarsPerMillion: number;
}

/** The window begins when everybody has met everybody. Both are in changes, and no longer than so many ms. */
const WARMUP = { changes: 40, msMax: 5_000 };
const WINDOW = { changes: 160, msMax: 20_000 };
/** A name that rests counts as so much less than its rest: group commits and other orgs go on meanwhile. */
const CHANGES_PER_REST = 8;
const CENSORED_FROM = 1.1;
/** Rows that an org has before: what the JSON index rewrites. */
const ROWS_OF_ONE_ORG = 300;
const ROWS_OF_MANY_ORGS = 20;

/** Appends as fast as they are acknowledged, by processes that share an org or a thousand of them. */
export async function run(options: ScenarioOptions): Promise<Report> {
  refuseTimeless(options.latency);
  const { warmupMs, windowMs } = durationsOf(options);
  const setups = setupsOf(options.quick);
  const results: Result[] = [];
  for (const [at, setup] of setups.entries()) {
    for (const [i, kind] of WRITERS.entries()) {
      const scenario = nameOf(setup);
      options.onProgress(
        at * WRITERS.length + i,
        setups.length * WRITERS.length,
        `${scenario}: ${kind.name}`,
      );
      results.push(await measure(kind, setup, scenario, options));
    }
  }
  return {
    title: 'Acknowledged appends',
    head: [
      'writers',
      'how',
      'acknowledged/s',
      'p50 ms',
      'p99 ms',
      'PUTs/record',
      'refused/record',
      '$ per 10⁶',
    ],
    rows: results.map((result, i) => [
      result.scenario === results[i - 1]?.scenario ? '' : result.scenario,
      result.rival,
      result.acknowledgedPerSecond.toFixed(1),
      atLeast(result.p50Ms, result.censored.p50),
      atLeast(result.p99Ms, result.censored.p99),
      result.putsPerRecord.toFixed(2),
      result.refusedPerRecord.toFixed(2),
      result.dollarsPerMillion.toFixed(2),
    ]),
    notes: [
      `Latency profile ${options.latency.name}, simulated: requests take their time, computing takes none, which favours whoever rewrites most. One change per name and ${options.latency.name_interval_ms} ms.`,
      `Each writer is a process with one row in flight, where callers are named with one row of each; ${warmupMs / 1_000} s to warm up, then what was acknowledged within ${windowMs / 1_000} s; what still waited at its end counts with what it had waited, and ≥ marks a percentile that may be more than a tenth longer for it. An org has ${ROWS_OF_ONE_ORG} rows before, each of 1 000 orgs ${ROWS_OF_MANY_ORGS}.`,
      'Only what makes the row visible: the canonical run, which all would have to write, is not in it. Refused requests are not charged for; whoever is refused asks again, so they are its retries.',
      ...WRITERS.map(({ name, about }) => `${name}: ${about}.`),
    ],
    data: { results },
  };
}

function setupsOf(quick: boolean): Setup[] {
  if (quick) return [{ writers: 8, callers: 1, orgs: 1 }];
  return [
    ...[1, 8, 64].map((writers) => ({ writers, callers: 1, orgs: 1 })),
    { writers: 1, callers: 64, orgs: 1 },
    ...[1, 8, 64].map((writers) => ({ writers, callers: 1, orgs: 1_000 })),
  ];
}

function nameOf({ writers, callers, orgs }: Setup): string {
  const who = callers === 1 ? `${writers} writers` : `${writers} writers of ${callers} callers`;
  return `${who}, ${thousands(orgs)} orgs`.replaceAll(/\b1 (writer|org)s/g, '1 $1');
}

/**
 * As long as so many changes take one after the other: what a quick store gets done in the time of a slow one is too much
 * to simulate, above all where the index grows with every record.
 */
function durationsOf({ quick, latency }: Pick<ScenarioOptions, 'quick' | 'latency'>) {
  const changeMs = Math.max(latency.first_byte_ms.put.p50, latency.name_interval_ms / CHANGES_PER_REST);
  const of = ({ changes, msMax }: typeof WINDOW) => Math.min(msMax, changes * changeMs);
  return { warmupMs: of(WARMUP), windowMs: of(WINDOW) / (quick ? 4 : 1) };
}

async function measure(
  kind: WriterKind,
  setup: Setup,
  scenario: string,
  options: ScenarioOptions,
): Promise<Result> {
  const { acknowledged, unfinishedMs, bill } = await race(kind, setup, {
    ...options,
    ...durationsOf(options),
  });
  // Without those that still wait, a writer who starves all others would look quick.
  const [p50, p99] = percentiles(
    acknowledged.map(({ ms }) => ms),
    unfinishedMs,
    [0.5, 0.99],
  ) as [Percentile, Percentile];
  const records = acknowledged.length;
  return {
    ...setup,
    scenario,
    rival: kind.name,
    acknowledgedPerSecond: records / (durationsOf(options).windowMs / 1_000),
    p50Ms: p50.ms,
    p99Ms: p99.ms,
    censored: { p50: p50.censored, p99: p99.censored },
    putsPerRecord: bill.put / records,
    refusedPerRecord: bill.refused / records,
    dollarsPerMillion: (1e6 * dollarsOf(bill, options.prices)) / records,
  };
}

interface Percentile {
  ms: number;
  censored: boolean;
}

/**
 * Of finished waits and of some that go on, which count with what they have waited. Censored: had those gone on for ever,
 * the value would be more than `CENSORED_FROM` times as long, so it is a lower bound.
 */
export function percentiles(
  finishedMs: readonly number[],
  unfinishedMs: readonly number[],
  shares: readonly number[],
): Percentile[] {
  const times = [...finishedMs, ...unfinishedMs].sort((a, b) => a - b);
  const finished = [...finishedMs].sort((a, b) => a - b);
  return shares.map((share) => {
    const rank = Math.min(times.length - 1, Math.floor(share * times.length));
    const ms = times[rank] ?? Number.NaN;
    return { ms, censored: (finished[rank] ?? Number.POSITIVE_INFINITY) > ms * CENSORED_FROM };
  });
}

function atLeast(ms: number, censored: boolean): string {
  return `${censored ? '≥ ' : ''}${thousands(ms)}`;
}

/** Time passes by waiting alone: where a PUT takes none, the window would never close. */
function refuseTimeless({ name, first_byte_ms: { put } }: LatencyProfile): void {
  if (put.p50 > 0) return;
  throw new InputError(`In latency profile ${name} a PUT takes 0 ms, so simulated appends would never end.`, {
    hint: 'Choose --latency lan or gcs, or a file whose first_byte_ms.put is above 0.',
  });
}

export interface Acknowledged {
  orgId: string;
  runId: string;
  ms: number;
}

export interface Race {
  store: MemoryStore;
  /** Within the window. */
  acknowledged: Acknowledged[];
  /** How long those had waited that still waited when it closed. */
  unfinishedMs: number[];
  /** Of the window. */
  bill: Bill;
}

/** All writers of one kind against one store, in simulated time. */
export async function race(
  kind: WriterKind,
  { writers, callers, orgs }: Setup,
  {
    latency: profile,
    seed,
    warmupMs,
    windowMs,
  }: Pick<ScenarioOptions, 'latency' | 'seed'> & { warmupMs: number; windowMs: number },
): Promise<Race> {
  const clock = new SkippingClock({ computing: false });
  const store = new MemoryStore({ clock });
  const orgIds = Array.from({ length: orgs }, (_, i) => `org-${i}`);
  const count = orgs === 1 ? ROWS_OF_ONE_ORG : ROWS_OF_MANY_ORGS;
  for (const [i, orgId] of orgIds.entries()) {
    await kind.prepare(store, orgId, realisticRows({ orgId, count, seed: seed + i }));
  }
  const bill = noBill();
  const slow = billing(latency(store, { profile, clock, random: seededRandom(seed) }), bill);
  const opens = clock.monotonic() + warmupMs;
  const closes = opens + windowMs;
  const acknowledged: Acknowledged[] = [];
  const waiting = new Map<number, number>();

  async function caller(writer: Writer, id: number): Promise<void> {
    const random = seededRandom(seed * 1_000_003 + id);
    const templates = realisticRows({ orgId: 'org', count: 50, seed: seed * 1_009 + id });
    for (let i = 0; clock.monotonic() < closes; i++) {
      const orgId = orgIds[Math.floor(uniform(random) * orgs)]!;
      const runId = uuidv7(clock.now(), random);
      const asked = clock.monotonic();
      waiting.set(id, asked);
      await writer.append(orgId, { ...templates[i % templates.length]!, org_id: orgId, run_id: runId });
      const now = clock.monotonic();
      if (now >= opens && now < closes) acknowledged.push({ orgId, runId, ms: now - asked });
    }
  }

  const processes = Array.from({ length: writers }, (_, i) =>
    kind.open(slow, {
      clock,
      random: seededRandom(seed * 31 + i),
      nameIntervalMs: profile.name_interval_ms,
    }),
  );
  const all = Promise.all(
    processes.flatMap((writer, i) =>
      Array.from({ length: callers }, (_, j) => caller(writer, i * callers + j)),
    ),
  );
  await clock.sleep(warmupMs);
  const before = { ...bill };
  await clock.sleep(windowMs);
  const after = { ...bill };
  const unfinishedMs = [...waiting.values()].map((asked) => clock.monotonic() - asked);
  await all;
  for (const writer of processes) await writer.idle();
  return { store, acknowledged, unfinishedMs, bill: difference(after, before) };
}

function difference(after: Bill, before: Bill): Bill {
  const names = Object.keys(after) as (keyof Bill)[];
  return Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as Bill;
}
