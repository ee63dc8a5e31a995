import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorMessage, InputError } from '../src/core/errors.ts';
import { meanFirstByteMs } from '../src/store/latency.ts';
import type { Entrant } from './external/entrant.ts';
import { freshRunfold, inRepo } from './external/in-repo.ts';
import { postgresEntrant } from './external/postgres.ts';
import { PythonWorker } from './external/python.ts';
import { PYTHON_RIVALS, pythonEntrant } from './external/python-rivals.ts';
import { othersOf, writeRows } from './external/rows.ts';
import { roundsOf, type Stack, startStack } from './external/stack.ts';
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
const ROUNDS = 15;
const WARMUPS = 2;
/** The emulator looks at every object on every insert: more of them take longer to load than to measure. */
const OBJECTS_MAX = 5_000;

export interface Result {
  scenario: string;
  rival: string;
  rows: number;
  ms: Spread;
  /** The sum of all rounds over the sum of runfold's. */
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
  const latencyMs = Math.round(meanFirstByteMs(options.latency, 'get'));
  const results: Result[] = [];
  const notRun: NotRun[] = [];
  const abouts = new Map<string, string>();
  let versions: Record<string, string> = {};
  for (const [at, [name, size]] of scenarios.entries()) {
    const step = (label: string) => options.onProgress(at, scenarios.length, `${name}: ${label}`);
    step('starting');
    const measured = await measure(name, size, latencyMs, options, step);
    results.push(...measured.results);
    notRun.push(...measured.notRun);
    for (const [rival, about] of measured.abouts) abouts.set(rival, about);
    versions = { ...versions, ...measured.versions };
  }
  return {
    title: 'Cold refresh over HTTP, beside the real packages of others',
    head: ['scenario', 'rival', 'rows', 'ms', '× runfold', 'requests', 'rounds', 'bytes', '$ per 10⁶'],
    rows: results.map((line) => [
      line.scenario,
      line.rival,
      thousands(line.rows),
      showSpread(line.ms, 0),
      line.ratio.toFixed(2),
      ...[line.requests, line.rounds, line.bytes].map((value) => (value === null ? '' : thousands(value))),
      line.dollarsPerMillion?.toFixed(2) ?? 'a server',
    ]),
    notes: [
      `Real time. An emulator (fake-gcs-server) behind toxiproxy, which holds back every answer by ${latencyMs} ms: the mean time to first byte of a GET of profile ${options.latency.name}, for every operation alike. Not in it: opening connections, TLS, bandwidth, and that a LIST or PUT of that profile takes longer.`,
      `Median (least–most) of ${options.quick ? 3 : ROUNDS} interleaved rounds after ${WARMUPS} to warm up; × runfold: the sum of all rounds over the sum of runfold's. Processes are warm where none is named as fresh; every refresh opens its client, table and connections anew, but for PostgreSQL.`,
      WHAT_IS_ASKED,
      'Before it was timed, everybody gave exactly the same rows. Requests, rounds and bytes were counted in front of the emulator.',
      `${Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', ')}.`,
      ...notRun.map(({ scenario, rival, why }) => `Not run: ${rival}, ${scenario}: ${why}.`),
      ...[...abouts].map(([rival, about]) => `${rival}: ${about}.`),
    ],
    data: { latencyMs, versions, results, notRun, settings: Object.fromEntries(abouts) },
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
  latencyMs: number,
  { quick, seed, prices }: ScenarioOptions,
  onStep: (label: string) => void,
) {
  const data = datasetOf(ORG, size, seed);
  const notRun: NotRun[] = [];
  const refuse = (rival: string, error: unknown) =>
    void notRun.push({ scenario, rival, why: errorMessage(error) });
  const stack = await startStack(latencyMs).catch((cause: unknown) => {
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
    const postgres = await postgresEntrant(stack.proxy, data, () => othersOf(data)).catch((error: unknown) =>
      refuse('PostgreSQL', error),
    );
    if (postgres !== undefined) candidates.push(postgres);
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
    const results = await timed(scenario, entrants, stack, quick ? 3 : ROUNDS, latencyMs, prices, onStep);
    const versions = worker === null ? {} : await worker.ask<Record<string, string>>({ do: 'versions' });
    return { results, notRun, versions, abouts: candidates.map(({ name, about }) => [name, about] as const) };
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
  rounds: number,
  latencyMs: number,
  prices: ScenarioOptions['prices'],
  onStep: (label: string) => void,
): Promise<Result[]> {
  const lines = entrants.map((entrant) => ({
    entrant,
    rows: 0,
    samples: [] as number[],
    counts: null as Awaited<ReturnType<Stack['counted']>> | null,
  }));
  for (let round = -WARMUPS; round < rounds; round++) {
    for (const line of inTurn(lines, round + WARMUPS)) {
      onStep(`${line.entrant.name}, round ${round}`);
      await stack.counted();
      const { ms, rows } = await line.entrant.refresh();
      line.counts = await stack.counted();
      line.rows = rows;
      if (round >= 0) line.samples.push(ms);
    }
  }
  const own = lines.find(({ entrant }) => entrant.name === runfold.name)?.samples ?? [];
  return lines.map(({ entrant, rows, samples, counts }) => {
    const billed = entrant.billed === 'requests' ? counts : null;
    return {
      scenario,
      rival: entrant.name,
      rows,
      ms: spread(samples),
      ratio: sum(samples) / sum(own),
      requests: billed && billed.get + billed.head + billed.list + billed.put + billed.delete,
      rounds: billed && roundsOf(billed.arrivals, latencyMs),
      bytes: billed?.bytesOut ?? null,
      dollarsPerMillion: billed && 1e6 * dollarsOf(billed, prices),
    };
  });
}
