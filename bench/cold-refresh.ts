import { seededRandom } from '../src/core/random.ts';
import type { Projection } from '../src/runs/projection.ts';
import { latency } from '../src/store/latency.ts';
import { MemoryStore } from '../src/store/memory.ts';
import type { ObjectStore } from '../src/store/object-store.ts';
import { freshRounds, measureProcesses } from './cold-refresh/fresh-process.ts';
import type { Result } from './cold-refresh/result.ts';
import { cachedScan } from './rivals/cached-scan.ts';
import { FLAT_PREFIX, flatScan, strangers } from './rivals/flat-scan.ts';
import { RIVALS } from './rivals/index.ts';
import { type Answer, type Dataset, type Rival, WHAT_IS_ASKED } from './rivals/rival.ts';
import { runfold } from './rivals/runfold.ts';
import { SkippingClock } from './support/clock.ts';
import { cpuMs } from './support/cpu.ts';
import { type DatasetSize, datasetOf } from './support/dataset.ts';
import { inTurn } from './support/in-turn.ts';
import { withKeyspace } from './support/keyspace.ts';
import { type Cost, costOf, WHAT_BYTES_ARE } from './support/meter.ts';
import { notesOf, Refusals } from './support/not-run.ts';
import { dollarsOf } from './support/prices.ts';
import { profiled } from './support/profile.ts';
import { type Report, type ScenarioOptions, showSpread, spread, sum, thousands } from './support/report.ts';
import { firstDifference, otherRows } from './support/same-rows.ts';

const ORG = 'org';
/** A refresh of milliseconds gets all of them: time to first byte scatters by a factor of three. */
const ROUNDS = 200;
const WARMUPS = 3;
/** CPU that one rival may use in one scenario before it gets fewer rounds: a scan computes for seconds. */
const BUDGET_MS = 3_000;
/** Runfold is in every ratio: it gets some even where it computes for long. */
const OWN_ROUNDS_MIN = 20;

/** More runs of others are not stored but made up; nobody can scan them all in the time there is. */
const STORED_RUNS_MAX = 1_000_000;

/** What fresh processes take, in the unit of `weightOf`. */
const PROCESSES_WEIGHT = 60;
/** Of a scenario's time, before its rounds begin. */
const PREPARING = 0.4;

type Step = (label: string, part?: number) => void;

/** Seconds, roughly, for nothing but telling how much is left. */
function weightOf({ totalRuns, orgRuns, tailEntries }: Scenario): number {
  return 10 + Math.min(totalRuns, STORED_RUNS_MAX) / 20_000 + orgRuns / 1_500 + tailEntries / 200;
}

interface Scenario extends DatasetSize {
  group: string;
  name: string;
}

/** Cold refreshes of one org by every rival, over the same data on the same store with the same draws of latency. */
export async function run(options: ScenarioOptions): Promise<Report> {
  const scenarios = scenariosOf(options.quick);
  const results: Result[] = [];
  const refusals = new Refusals();
  const notes: string[] = [];
  const weights = [...scenarios.map(weightOf), options.quick ? 10 : PROCESSES_WEIGHT];
  const total = sum(weights);
  const stepOf =
    (at: number, name: string) =>
    (label: string, part = 0) =>
      options.onProgress(sum(weights.slice(0, at)) + part * weights[at]!, total, `${name}: ${label}`);
  for (const [at, scenario] of scenarios.entries()) {
    const step = stepOf(at, scenario.name);
    const measure = () => measureScenario(scenario, options, refusals, step);
    if (options.profile) {
      const { result, notes: top } = await profiled(`cold-refresh-${at}`, measure);
      results.push(...result);
      notes.push(...top);
    } else results.push(...(await measure()));
  }
  const processes = await measureProcesses(
    ORG,
    options,
    refusals,
    stepOf(scenarios.length, 'fresh processes'),
  );
  results.push(...processes.results);
  return {
    title: 'Cold refresh of one org',
    head: ['scenario', 'rival', 'rows', 'ms', '× runfold', 'requests', 'rounds', 'bytes', '$ per 10⁶'],
    rows: results.map((result, i) => [
      result.scenario === results[i - 1]?.scenario ? '' : result.scenario,
      result.rival,
      thousands(result.rows),
      showSpread(result.ms, 0),
      result.ratio?.toFixed(2) ?? '',
      thousands(result.requests),
      thousands(result.rounds),
      thousands(result.bytes),
      result.dollarsPerMillion.toFixed(2),
    ]),
    notes: [
      `Latency profile ${options.latency.name}, simulated: waiting is skipped, computing counts as the CPU time of its thread. Median (least–most) of up to ${roundsOf(options)} interleaved rounds: who computes for long gets fewer, at the least one.`,
      'In the pass that counts, which is not timed, everybody gave exactly the same rows in every scenario, at every depth; who did not is not run.',
      `× runfold: the sum of all rounds over the sum of runfold's rounds of the same numbers.`,
      WHAT_IS_ASKED,
      'In one round every rival draws the same times to first byte. Rounds are the longest chain of requests, measured.',
      `${WHAT_BYTES_ARE} Those of fresh processes are of the same refresh on a store in memory.`,
      `Fresh processes are real: Node started for each sample with compiled code at hand, ${freshRounds(options)} rounds in real time; ${processes.about}. TLS is not in it.`,
      'Client CPU per real request (0.1–0.5 ms) is not in it, which favours whoever sends many.',
      ...(options.quick
        ? []
        : [
            `Not run: the flat scan among more than ${thousands(STORED_RUNS_MAX)} runs, which are made up and not stored: it GETs every one, so it takes ten times as long as among a tenth. Its 30 s cache: where it stands once; a cold refresh is the same scan.`,
          ]),
      ...notesOf(refusals.all),
      ...RIVALS.map(({ name, about }) => `${name}: ${about}.`),
      ...notes,
    ],
    data: { results, notRun: refusals.all },
  };
}

function roundsOf({ quick }: Pick<ScenarioOptions, 'quick'>): number {
  return quick ? 20 : ROUNDS;
}

function scenariosOf(quick: boolean): Scenario[] {
  const base: DatasetSize = { totalRuns: 10_000, orgRuns: 1_000, tables: 50, tailEntries: 20 };
  const scenario = (group: string, name: string, change: Partial<DatasetSize>): Scenario => ({
    group,
    name,
    ...base,
    ...change,
  });
  if (quick) return [scenario('total', '1 000 runs in all', { totalRuns: 1_000, orgRuns: 200 })];
  return [
    ...[1_000, 10_000, 100_000, 1_000_000, 10_000_000].map((totalRuns) =>
      scenario('total', `${thousands(totalRuns)} runs in all, 1 000 of the org`, {
        totalRuns,
        orgRuns: Math.min(980, totalRuns),
      }),
    ),
    ...[10, 10_000, 100_000].map((orgRuns) =>
      scenario('share', `the org has ${thousands(orgRuns)} of 100 000 runs`, {
        totalRuns: 100_000,
        orgRuns,
        tables: Math.min(1_000, Math.max(5, orgRuns / 20)),
      }),
    ),
    ...[0, 200, 1_000, 5_000].map((tailEntries) =>
      scenario('tail', `${thousands(tailEntries)} entries in the tail`, { totalRuns: 8_000, tailEntries }),
    ),
    ...[10, 1_000, 10_000].map((tables) =>
      scenario('tables', `20 000 runs of ${thousands(tables)} tables`, {
        totalRuns: 20_000,
        orgRuns: 20_000,
        tables,
      }),
    ),
  ];
}

async function measureScenario(
  scenario: Scenario,
  options: ScenarioOptions,
  refusals: Refusals,
  onStep: Step,
): Promise<Result[]> {
  const { seed } = options;
  const most = roundsOf(options);
  const storeClock = new SkippingClock();
  const memory = new MemoryStore({ clock: storeClock });
  const data = datasetOf(ORG, scenario, seed);
  onStep('preparing');
  const isHuge = scenario.totalRuns > STORED_RUNS_MAX;
  const rivals = RIVALS.filter(
    (rival) =>
      // Its cold refresh is the flat scan's: once is enough to see it.
      (rival !== cachedScan || scenario.totalRuns <= 1_000) && (rival !== flatScan || !isHuge),
  );
  for (const rival of rivals) await rival.prepare(memory, data, storeClock);
  const store = isHuge ? amongStrangers(memory, data) : memory;
  const entrants: Entrant[] = [];
  for (const rival of rivals) {
    onStep(`${rival.name}, counting`);
    const entrant = await refusals.unless(scenario.name, rival.name, () =>
      counted(rival, store, data.current, most),
    );
    if (entrant !== null) entrants.push(entrant);
  }
  const failed = new Set<Entrant>();
  for (let round = -WARMUPS; round < most; round++) {
    for (const entrant of inTurn(entrants, round + WARMUPS)) {
      const { rival, rounds, samples } = entrant;
      // Who needs seconds is warm after counting.
      if (failed.has(entrant) || (round < 0 ? rounds < most : round >= rounds)) continue;
      const part = PREPARING + (1 - PREPARING) * ((round + WARMUPS) / (most + WARMUPS));
      onStep(`${rival.name}, round ${round}`, part);
      const clock = new SkippingClock();
      const random = seededRandom(seed * 1_000_000 + round);
      const slow = latency(store, { profile: options.latency, clock, random });
      const began = clock.monotonic();
      const answer = await refusals.unless(scenario.name, rival.name, () => rival.refresh(slow, ORG, clock));
      if (answer === null) failed.add(entrant);
      else if (round >= 0) samples.push(clock.monotonic() - began);
    }
  }
  const lines = entrants.filter((entrant) => !failed.has(entrant));
  const own = lines.find(({ rival }) => rival === runfold)?.samples;
  const { name, ...size } = scenario;
  return lines.map(({ rival, cost, rows, samples }) => ({
    ...size,
    scenario: name,
    rival: rival.name,
    rows,
    ms: spread(samples),
    ratio: own === undefined ? null : quotient(samples, own),
    samples: samples.length,
    requests: cost.requests,
    rounds: cost.rounds,
    bytes: cost.bytesRead,
    dollarsPerMillion: 1e6 * dollarsOf(cost, options.prices),
  }));
}

/** Counts what a rival asks, and warms it up. Rejects when its rows are not exactly `expected`. */
async function counted(
  rival: Rival,
  store: ObjectStore,
  expected: readonly Projection[],
  most: number,
): Promise<Entrant> {
  const began = cpuMs();
  let answer: Answer | null = null;
  const cost = await costOf(store, async (slow, clock) => {
    answer = await rival.refresh(slow, ORG, clock);
  });
  let tookMs = cpuMs() - began;
  const { rows } = await checked(answer!, expected);
  // What is quick is not quick the first time: code that is not yet compiled says little of what a round costs.
  for (let again = 0; again < 3 && tookMs < BUDGET_MS / 10; again++) {
    const begins = cpuMs();
    await rival.refresh(store, ORG, new SkippingClock());
    tookMs = Math.min(tookMs, cpuMs() - begins);
  }
  const rounds = Math.max(
    rival === runfold ? Math.min(most, OWN_ROUNDS_MIN) : 1,
    Math.min(most, Math.floor(BUDGET_MS / Math.max(1, tookMs))),
  );
  return { rival, cost, rounds, rows, samples: [] };
}

/** Its rows are made here, where nothing is timed and no requests are counted. */
async function checked(answer: Answer, expected: readonly Projection[]): Promise<Answer> {
  const difference = firstDifference(await answer.projections(), expected);
  if (difference !== null) throw otherRows(difference);
  return answer;
}

/** Of the rounds that both took part in: they drew the same times. */
function quotient(samples: readonly number[], own: readonly number[]): number {
  const common = Math.min(samples.length, own.length);
  return sum(samples.slice(0, common)) / sum(own.slice(0, common));
}

function amongStrangers(memory: ObjectStore, { otherRuns, seed }: Dataset): ObjectStore {
  const others = strangers(otherRuns, seed);
  return withKeyspace(memory, {
    prefix: FLAT_PREFIX,
    count: otherRuns,
    body: (number) => others[number % others.length]!.body,
  });
}

interface Entrant {
  rival: Rival;
  cost: Cost;
  rounds: number;
  rows: number;
  samples: number[];
}
