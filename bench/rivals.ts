import { errorMessage } from '../src/core/errors.ts';
import type { Entrant } from './external/entrant.ts';
import type { WireCounts } from './external/gateway.ts';
import { FRESH_RUNFOLD, freshRunfold, inRepo } from './external/in-repo.ts';
import { POSTGRES, postgresEntrants } from './external/postgres.ts';
import { PythonWorker } from './external/python.ts';
import { PYTHON_RIVALS, pythonEntrant } from './external/python-rivals.ts';
import { othersOf, writeRows } from './external/rows.ts';
import { type SelfCheck, selfCheck, showSelfCheck } from './external/self-check.ts';
import { EVEN, EVEN_MS, roundsOf, type Stack, startStack } from './external/stack.ts';
import { cachedScan } from './rivals/cached-scan.ts';
import { flatScan } from './rivals/flat-scan.ts';
import { RIVALS } from './rivals/index.ts';
import { objectPerRun } from './rivals/object-per-run.ts';
import { type Dataset, WHAT_IS_ASKED } from './rivals/rival.ts';
import { runfold } from './rivals/runfold.ts';
import { type DatasetSize, datasetOf } from './support/dataset.ts';
import { inTurn } from './support/in-turn.ts';
import { notesOf, Refusals } from './support/not-run.ts';
import { dollarsOf } from './support/prices.ts';
import {
  type Report,
  type ScenarioOptions,
  type Spread,
  showSpread,
  spread,
  sum,
  thousands,
} from './support/report.ts';
import { otherRows } from './support/same-rows.ts';
import { temporaryFolder } from './support/temporary.ts';

const ORG = 'org';
/** The quick get as many rounds as the slow have time for few of: what is drawn scatters by a factor of three. */
const ROUNDS = 60;
const ROUNDS_MIN = 12;
const QUICK_ROUNDS = 3;
/** Refreshes in which rounds are counted: what comes very late in one of them seems to be a round of its own. */
const COUNTS = 2;
/** What one entrant may take in one scenario before it gets fewer rounds. All of it stays below five minutes. */
const BUDGET_MS = 5_000;
/** Of a scenario's time, before its rounds begin. */
const PREPARING = 0.3;
/** The emulator looks at every object on every insert: more of them take longer to load than to measure. */
const OBJECTS_MAX = 5_000;

export interface Result {
  scenario: string;
  rival: string;
  rows: number;
  ms: Spread;
  samples: number;
  /** The sum of its rounds over the sum of runfold's of the same numbers, which drew the same times. */
  ratio: number | null;
  requests: number | null;
  rounds: number | null;
  bytes: number | null;
  dollarsPerMillion: number | null;
}

/** Who is named in a report on which nothing could run. */
const EVERYBODY: readonly string[] = [
  ...RIVALS.filter((rival) => rival !== cachedScan).map(({ name }) => name),
  FRESH_RUNFOLD,
  ...PYTHON_RIVALS.map(({ name }) => name),
  ...POSTGRES,
];

/** Cold refreshes in real time, over HTTP: runfold and its in-repo rivals beside the real packages of others. */
export async function run(options: ScenarioOptions): Promise<Report> {
  const scenarios = scenariosOf(options.quick);
  const results: Result[] = [];
  const refusals = new Refusals();
  const abouts = new Map<string, string>();
  let versions: Record<string, string> = {};
  let checked: SelfCheck | null = null;
  for (const [at, [name, size]] of scenarios.entries()) {
    const step = (label: string, part = 0) =>
      options.onProgress(at + part, scenarios.length, `${name}: ${label}`);
    step('starting');
    const measured = await measure(name, size, options, refusals, step);
    checked = measured.checked ?? checked;
    results.push(...measured.results);
    for (const [rival, about] of measured.abouts) abouts.set(rival, about);
    versions = { ...versions, ...measured.versions };
  }
  return {
    title: 'Cold refresh over HTTP, beside the real packages of others',
    head: [
      'scenario',
      'rival',
      'rows',
      'ms',
      'samples',
      '× runfold',
      'requests',
      'rounds',
      'bytes',
      '$ per 10⁶',
    ],
    rows: results.map((line) => [
      line.scenario,
      line.rival,
      thousands(line.rows),
      showSpread(line.ms, 0),
      String(line.samples),
      line.ratio?.toFixed(2) ?? '',
      ...[line.requests, line.rounds, line.bytes].map((value) => (value === null ? '' : thousands(value))),
      line.dollarsPerMillion?.toFixed(2) ?? 'a server',
    ]),
    notes: [
      `Real time, over HTTP to an emulator (fake-gcs-server). A gateway in front of it draws each request's time to first byte from profile ${options.latency.name}, by operation (GET, metadata, LIST, PUT, DELETE); toxiproxy limits each connection to the profile's bandwidth. In one round the n-th request of an operation draws the same for everybody. Connections are opened in real time on one machine; TLS is not in it.`,
      ...(checked === null ? [] : [showSelfCheck(checked)]),
      `Median (least–most) of interleaved rounds, ${options.quick ? QUICK_ROUNDS : `${ROUNDS_MIN} to ${ROUNDS}`} after two to warm up: who takes long gets fewer, spread over all of them. × runfold: the sum of its rounds over the sum of runfold's rounds of the same numbers. Processes are warm where none is named as fresh; every refresh opens its client, table and connections anew, but for the PostgreSQL whose connection stays open.`,
      WHAT_IS_ASKED,
      `Before it was timed, everybody gave exactly the same rows. Requests, rounds and bytes were counted in front of the emulator, apart from what is timed, with every request taking ${EVEN_MS} ms: rounds are the longest chain of requests of which each came ${EVEN_MS} ms or more after the one before, in the lesser of ${COUNTS} counts, so that a client which falls that far behind itself may seem to need one more. Bytes are those of HTTP bodies as the emulator sends them, LISTs with their standard fields; \`cold-refresh\` counts less of a LIST.`,
      ...(Object.keys(versions).length === 0
        ? []
        : [
            `${Object.entries(versions)
              .map(([name, version]) => `${name} ${version}`)
              .join(', ')}.`,
          ]),
      ...notesOf(refusals.all),
      ...[...abouts].map(([rival, about]) => `${rival}: ${about}.`),
    ],
    data: {
      selfCheck: checked,
      versions,
      results,
      notRun: refusals.all,
      settings: Object.fromEntries(abouts),
    },
  };
}

function scenariosOf(quick: boolean): [string, DatasetSize][] {
  const base = { tables: 50, tailEntries: 20 };
  if (quick) return [['1 000 runs in all, 200 of the org', { ...base, totalRuns: 1_000, orgRuns: 200 }]];
  return [
    ['2 000 runs in all, 1 000 of the org', { ...base, totalRuns: 2_000, orgRuns: 990 }],
    ['100 000 runs in all, 1 000 of the org', { ...base, totalRuns: 100_000, orgRuns: 990 }],
    ['100 000 runs in all, 10 000 of the org', { ...base, totalRuns: 100_000, orgRuns: 9_990 }],
  ];
}

async function measure(
  scenario: string,
  size: DatasetSize,
  options: ScenarioOptions,
  refusals: Refusals,
  onStep: (label: string, part?: number) => void,
): Promise<Measured> {
  const { latency: profile, seed } = options;
  const data = datasetOf(ORG, size, seed);
  const refuse = (rival: string, error: unknown) => refusals.add(scenario, rival, error);
  const closing: (() => unknown)[] = [];
  try {
    const folder = temporaryFolder('runfold-rivals-');
    closing.push(() => folder.remove());
    const stack = await startStack(profile).catch((error: unknown) => {
      const why = `no bucket to measure on, which takes Go or fake-gcs-server and toxiproxy-server on the PATH: ${errorMessage(error)}`;
      for (const name of EVERYBODY) refuse(name, why);
      return null;
    });
    if (stack === null) return { results: [], versions: {}, checked: null, abouts: [] };
    closing.push(() => stack.stop());
    onStep('writing Parquet');
    await writeRows(folder.path, data);
    const candidates = inRepoEntrants(stack, data, refuse);
    const worker = await PythonWorker.start().catch((error: unknown) => {
      for (const { name } of PYTHON_RIVALS) refuse(name, error);
      return null;
    });
    if (worker !== null) {
      closing.push(() => worker.stop());
      const place = { folder: folder.path, org: ORG };
      candidates.push(...PYTHON_RIVALS.map((rival) => pythonEntrant(rival, worker, stack, place)));
    }
    const postgres = await postgresEntrants(stack.proxy, data, () => othersOf(data)).catch(
      (error: unknown) => {
        for (const name of POSTGRES) refuse(name, error);
        return [];
      },
    );
    candidates.push(...postgres);
    for (const { close } of candidates) if (close !== undefined) closing.push(close);
    onStep('checking the way there');
    const checked = await refusals.unless(scenario, 'self-check', () => selfCheck(stack, profile, seed));
    const entrants: Entrant[] = [];
    for (const entrant of candidates) {
      onStep(`${entrant.name}, preparing`);
      await refusals.unless(scenario, entrant.name, async () => {
        await entrant.prepare();
        const difference = await entrant.check();
        if (difference !== null) throw otherRows(difference);
        entrants.push(entrant);
      });
    }
    const results = await timed(scenario, entrants, stack, options, refusals, onStep);
    const versions = await worker?.ask<Record<string, string>>({ do: 'versions' }).catch(() => ({}));
    const abouts = candidates.map(({ name, about }) => [name, about] as const);
    return { results, versions: versions ?? {}, checked, abouts };
  } finally {
    // The last first. Nobody's farewell keeps the others running, or hides what went wrong before.
    for (const close of closing.reverse()) await (async () => close())().catch(() => undefined);
  }
}

interface Measured {
  results: Result[];
  versions: Record<string, string>;
  checked: SelfCheck | null;
  abouts: (readonly [string, string])[];
}

function inRepoEntrants(
  stack: Stack,
  data: Dataset,
  refuse: (rival: string, error: unknown) => void,
): Entrant[] {
  return RIVALS.filter((rival) => rival !== cachedScan).flatMap((rival) => {
    const objects =
      rival === flatScan
        ? data.current.length + data.otherRuns
        : rival === objectPerRun
          ? data.current.length
          : 0;
    if (rival === runfold) return [inRepo(rival, stack, data), freshRunfold(stack, data)];
    if (objects <= OBJECTS_MAX) return [inRepo(rival, stack, data)];
    refuse(rival.name, new Error(`${thousands(objects)} objects are too many for the emulator`));
    return [];
  });
}

async function timed(
  scenario: string,
  entrants: readonly Entrant[],
  stack: Stack,
  { latency: profile, prices, quick, seed }: ScenarioOptions,
  refusals: Refusals,
  onStep: (label: string, part?: number) => void,
): Promise<Result[]> {
  const most = quick ? QUICK_ROUNDS : ROUNDS;
  const lines: Line[] = [];
  const failed = new Set<Line>();
  for (const entrant of entrants) {
    onStep(`${entrant.name}, counting`);
    const line = await refusals.unless(scenario, entrant.name, async () => {
      const counted = await countsOf(entrant, stack, quick ? 1 : COUNTS, seed);
      await stack.draw({ profile, seed });
      const { ms } = await entrant.refresh();
      const affordable = Math.max(ROUNDS_MIN, Math.floor(BUDGET_MS / ms));
      const rounds = entrant.name === runfold.name ? most : Math.min(most, affordable);
      return { entrant, ...counted, rounds, samples: new Map<number, number>() };
    });
    if (line !== null) lines.push(line);
  }
  for (let round = 0; round < most; round++) {
    for (const line of inTurn(lines, round)) {
      const { entrant, rounds, samples } = line;
      if (failed.has(line) || !takesPart(round, rounds, most)) continue;
      onStep(`${entrant.name}, round ${round + 1} of ${most}`, PREPARING + ((1 - PREPARING) * round) / most);
      await stack.draw({ profile, seed: seed * 1_000_000 + round });
      const refreshed = await refusals.unless(scenario, entrant.name, () => entrant.refresh());
      if (refreshed === null) failed.add(line);
      else samples.set(round, refreshed.ms);
    }
  }
  const measured = lines.filter((line) => !failed.has(line));
  const own = measured.find(({ entrant }) => entrant.name === runfold.name)?.samples;
  return measured.map(({ entrant, rows, samples, counts }) => {
    const billed = entrant.billed === 'requests' ? counts : null;
    const times = [...samples.values()];
    const owns = [...samples.keys()].map((round) => own?.get(round) ?? Number.NaN);
    return {
      scenario,
      rival: entrant.name,
      rows,
      ms: spread(times),
      samples: times.length,
      ratio: own === undefined ? null : sum(times) / sum(owns),
      requests: billed && billed.get + billed.head + billed.list + billed.put + billed.delete,
      rounds: billed && roundsOf(billed.arrivals, EVEN_MS),
      bytes: billed?.bytesOut ?? null,
      dollarsPerMillion: billed && 1e6 * dollarsOf(billed, prices),
    };
  });
}

/** Of several refreshes in which all requests take equally long, what the one with the fewest rounds asked. */
async function countsOf(
  entrant: Entrant,
  stack: Stack,
  times: number,
  seed: number,
): Promise<{ rows: number; counts: WireCounts }> {
  const all: { rows: number; counts: WireCounts }[] = [];
  for (let time = 0; time < times; time++) {
    await stack.draw({ profile: EVEN, seed });
    await stack.counted();
    const { rows } = await entrant.refresh();
    all.push({ rows, counts: await stack.counted() });
  }
  const roundsIn = ({ counts }: { counts: WireCounts }) => roundsOf(counts.arrivals, EVEN_MS);
  return all.reduce((least, one) => (roundsIn(one) < roundsIn(least) ? one : least));
}

/** `rounds` of `most`, as evenly as they go. */
function takesPart(round: number, rounds: number, most: number): boolean {
  return Math.floor(((round + 1) * rounds) / most) > Math.floor((round * rounds) / most);
}

interface Line {
  entrant: Entrant;
  rows: number;
  counts: WireCounts;
  rounds: number;
  samples: Map<number, number>;
}
