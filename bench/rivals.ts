import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorMessage, InputError } from '../src/core/errors.ts';
import type { Entrant } from './external/entrant.ts';
import type { WireCounts } from './external/gateway.ts';
import { freshRunfold, inRepo } from './external/in-repo.ts';
import { postgresEntrants } from './external/postgres.ts';
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

const ORG = 'org';
/** The quick get as many rounds as the slow have time for few of: what is drawn scatters by a factor of three. */
const ROUNDS = 60;
const ROUNDS_MIN = 12;
const QUICK_ROUNDS = 3;
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
  ratio: number;
  requests: number | null;
  rounds: number | null;
  bytes: number | null;
  dollarsPerMillion: number | null;
}

interface NotRun {
  scenario: string;
  rival: string;
  why: string;
}

/** Cold refreshes in real time, over HTTP: runfold and its in-repo rivals beside the real packages of others. */
export async function run(options: ScenarioOptions): Promise<Report> {
  const scenarios = scenariosOf(options.quick);
  const results: Result[] = [];
  const notRun: NotRun[] = [];
  const abouts = new Map<string, string>();
  let versions: Record<string, string> = {};
  let checked: SelfCheck | null = null;
  for (const [at, [name, size]] of scenarios.entries()) {
    const step = (label: string, part = 0) =>
      options.onProgress(at + part, scenarios.length, `${name}: ${label}`);
    step('starting');
    const measured = await measure(name, size, options, step);
    checked = measured.checked;
    results.push(...measured.results);
    notRun.push(...measured.notRun);
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
      line.ratio.toFixed(2),
      ...[line.requests, line.rounds, line.bytes].map((value) => (value === null ? '' : thousands(value))),
      line.dollarsPerMillion?.toFixed(2) ?? 'a server',
    ]),
    notes: [
      `Real time, over HTTP to an emulator (fake-gcs-server). A gateway in front of it draws each request's time to first byte from profile ${options.latency.name}, by operation (GET, metadata, LIST, PUT, DELETE); toxiproxy limits each connection to the profile's bandwidth. In one round the n-th request of an operation draws the same for everybody. Connections are opened in real time on one machine; TLS is not in it.`,
      ...(checked === null ? [] : [showSelfCheck(checked)]),
      `Median (least–most) of interleaved rounds, ${options.quick ? QUICK_ROUNDS : `${ROUNDS_MIN} to ${ROUNDS}`} after two to warm up: who takes long gets fewer, spread over all of them. × runfold: the sum of its rounds over the sum of runfold's rounds of the same numbers. Processes are warm where none is named as fresh; every refresh opens its client, table and connections anew, but for the PostgreSQL whose connection stays open.`,
      WHAT_IS_ASKED,
      'Before it was timed, everybody gave exactly the same rows. Requests, rounds and bytes were counted in front of the emulator, in a round of its own in which all requests take equally long.',
      `${Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', ')}.`,
      ...notRun.map(({ scenario, rival, why }) => `Not run: ${rival}, ${scenario}: ${why}.`),
      ...[...abouts].map(([rival, about]) => `${rival}: ${about}.`),
    ],
    data: { selfCheck: checked, versions, results, notRun, settings: Object.fromEntries(abouts) },
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
  onStep: (label: string, part?: number) => void,
) {
  const { latency: profile, seed } = options;
  const data = datasetOf(ORG, size, seed);
  const notRun: NotRun[] = [];
  const refuse = (rival: string, error: unknown) =>
    void notRun.push({ scenario, rival, why: errorMessage(error) });
  const stack = await startStack(profile).catch((cause: unknown) => {
    throw new InputError(`There is no bucket to measure on: ${errorMessage(cause)}.`, {
      hint: 'Install Go, which builds both, or put fake-gcs-server and toxiproxy-server on the PATH.',
      cause,
    });
  });
  const folder = await mkdtemp(join(tmpdir(), 'runfold-rivals-'));
  const worker = await PythonWorker.start().catch((error: unknown) => {
    for (const { name } of PYTHON_RIVALS) refuse(name, error);
    return null;
  });
  const entrants: Entrant[] = [];
  try {
    onStep('writing Parquet');
    await writeRows(folder, data);
    const candidates = inRepoEntrants(stack, data, refuse);
    if (worker !== null) {
      const place = { folder, org: ORG };
      candidates.push(...PYTHON_RIVALS.map((rival) => pythonEntrant(rival, worker, stack, place)));
    }
    const postgres = await postgresEntrants(stack.proxy, data, () => othersOf(data)).catch(
      (error: unknown) => {
        refuse('PostgreSQL', error);
        return [];
      },
    );
    candidates.push(...postgres);
    onStep('checking the way there');
    const checked = await selfCheck(stack, profile, seed);
    for (const entrant of candidates) {
      onStep(`${entrant.name}, preparing`);
      try {
        await entrant.prepare();
        const difference = await entrant.check();
        if (difference !== null) throw new Error(`other rows: ${JSON.stringify(difference).slice(0, 200)}`);
        entrants.push(entrant);
      } catch (error) {
        refuse(entrant.name, error);
        await entrant.close?.();
      }
    }
    const results = await timed(scenario, entrants, stack, options, onStep);
    const versions = worker === null ? {} : await worker.ask<Record<string, string>>({ do: 'versions' });
    const abouts = candidates.map(({ name, about }) => [name, about] as const);
    return { results, notRun, versions, checked, abouts };
  } finally {
    for (const entrant of entrants) await entrant.close?.();
    await worker?.stop();
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
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
  onStep: (label: string, part?: number) => void,
): Promise<Result[]> {
  const most = quick ? QUICK_ROUNDS : ROUNDS;
  const lines: Line[] = [];
  for (const entrant of entrants) {
    onStep(`${entrant.name}, counting`);
    await stack.draw({ profile: EVEN, seed });
    await stack.counted();
    const { rows } = await entrant.refresh();
    const counts = await stack.counted();
    await stack.draw({ profile, seed });
    const { ms } = await entrant.refresh();
    const affordable = Math.max(ROUNDS_MIN, Math.floor(BUDGET_MS / ms));
    const rounds = entrant.name === runfold.name ? most : Math.min(most, affordable);
    lines.push({ entrant, rows, counts, rounds, samples: new Map() });
  }
  for (let round = 0; round < most; round++) {
    for (const { entrant, rounds, samples } of inTurn(lines, round)) {
      if (!takesPart(round, rounds, most)) continue;
      onStep(`${entrant.name}, round ${round + 1} of ${most}`, PREPARING + ((1 - PREPARING) * round) / most);
      await stack.draw({ profile, seed: seed * 1_000_000 + round });
      samples.set(round, (await entrant.refresh()).ms);
    }
  }
  const own = lines.find(({ entrant }) => entrant.name === runfold.name)?.samples;
  return lines.map(({ entrant, rows, samples, counts }) => {
    const billed = entrant.billed === 'requests' ? counts : null;
    const times = [...samples.values()];
    return {
      scenario,
      rival: entrant.name,
      rows,
      ms: spread(times),
      samples: times.length,
      ratio: sum(times) / sum([...samples.keys()].map((round) => own?.get(round) ?? Number.NaN)),
      requests: billed && billed.get + billed.head + billed.list + billed.put + billed.delete,
      rounds: billed && roundsOf(billed.arrivals, EVEN_MS),
      bytes: billed?.bytesOut ?? null,
      dollarsPerMillion: billed && 1e6 * dollarsOf(billed, prices),
    };
  });
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
