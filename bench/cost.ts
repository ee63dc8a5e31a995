import { type FoldPolicy, foldPolicy } from '../compactor/due.ts';
import { defaultLimits } from '../src/core/limits.ts';
import { type Counted, runSlice, type Slice } from './cost/slice.ts';
import { dollarsOf, type Prices } from './support/prices.ts';
import { type Report, type ScenarioOptions, thousands } from './support/report.ts';

interface Deployment {
  name: string;
  orgs: number;
  /** Of each org. */
  runs: number;
  /** Of all orgs together. Refreshes are cold ones. */
  refreshesPerSecond: number;
  transitionsPerSecond: number;
  passIntervalSeconds: number;
  /** When folds are worth it; null: at every pass. */
  fold: FoldPolicy | null;
}

/** What runfold-compactor does on a schedule. */
const POLICY = foldPolicy(defaultLimits);

/** Reference points, not anybody's measured load: near which of them is yours? */
const DEPLOYMENTS: readonly Deployment[] = [
  {
    name: 'small',
    orgs: 20,
    runs: 1_000,
    refreshesPerSecond: 0.1,
    transitionsPerSecond: 0.05,
    passIntervalSeconds: 60,
    fold: POLICY,
  },
  {
    name: 'medium',
    orgs: 500,
    runs: 5_000,
    refreshesPerSecond: 5,
    transitionsPerSecond: 2,
    passIntervalSeconds: 60,
    fold: POLICY,
  },
  {
    name: 'large',
    orgs: 10_000,
    runs: 10_000,
    refreshesPerSecond: 200,
    transitionsPerSecond: 100,
    passIntervalSeconds: 60,
    fold: POLICY,
  },
  {
    name: 'large, every pass folds',
    orgs: 10_000,
    runs: 10_000,
    refreshesPerSecond: 200,
    transitionsPerSecond: 100,
    passIntervalSeconds: 60,
    fold: null,
  },
  {
    name: 'large, every pass folds, less often',
    orgs: 10_000,
    runs: 10_000,
    refreshesPerSecond: 200,
    transitionsPerSecond: 100,
    passIntervalSeconds: 600,
    fold: null,
  },
  {
    name: 'large, a pass every five minutes',
    orgs: 10_000,
    runs: 10_000,
    refreshesPerSecond: 200,
    transitionsPerSecond: 100,
    passIntervalSeconds: 300,
    fold: POLICY,
  },
];

const MONTH_SECONDS = 730 * 3_600;
const MILLION = 1_000_000;
const SLICE_ORGS = 20;
const SLICE_RUNS = 1_000;
const MARKERS_PER_PAGE = 1_000;

export interface Result extends Deployment {
  scenario: string;
  dollarsPerMillionColdRefreshes: number;
  dollarsPerMillionWarmRefreshes: number;
  dollarsPerMillionTransitions: number;
  /** Of folding alone, for as many transitions as came in between. */
  dollarsPerMillionTransitionsFolded: number;
  foldsPerOrgAndHour: number;
  month: { refreshes: number; transitions: number; folding: number; storage: number; total: number };
  /** What the slice counted. */
  slice: Slice;
}

/** Dollars from counted requests: some orgs of each deployment run through the real code, and are scaled up. */
export async function run(options: ScenarioOptions): Promise<Report> {
  const deployments = options.quick ? DEPLOYMENTS.slice(0, 1) : DEPLOYMENTS;
  const results: Result[] = [];
  const size = options.quick ? { orgs: 4, rows: 50 } : { orgs: SLICE_ORGS, rows: SLICE_RUNS };
  for (const [at, deployment] of deployments.entries()) {
    options.onProgress(at, deployments.length, deployment.name);
    const slice = await runSlice({
      ...size,
      transitionsPerSecond: deployment.transitionsPerSecond / deployment.orgs,
      passIntervalMs: deployment.passIntervalSeconds * 1_000,
      fold: deployment.fold,
      // Markers and garbage have a life of minutes: in the window as many go as come.
      warmupMs: 1_800_000,
      windowMs: options.quick ? 1_800_000 : 2 * 3_600_000,
      refreshes: 60,
      seed: options.seed,
    });
    results.push(resultOf(deployment, slice, options.prices, size));
  }
  return {
    title: 'What runfold costs a month',
    head: [
      'deployment',
      '$ per 10⁶ cold refreshes',
      '$ per 10⁶ transitions',
      'folds per org and hour',
      'refreshes',
      'transitions',
      'folding',
      'storage',
      '$ a month',
    ],
    rows: results.map((result) => [
      result.name,
      result.dollarsPerMillionColdRefreshes.toFixed(2),
      `${result.dollarsPerMillionTransitions.toFixed(2)} + ${result.dollarsPerMillionTransitionsFolded.toFixed(2)}`,
      result.foldsPerOrgAndHour.toFixed(1),
      ...[result.month.refreshes, result.month.transitions, result.month.folding, result.month.storage].map(
        dollars,
      ),
      dollars(result.month.total),
    ]),
    notes: [
      `Prices: ${options.prices.name}, ${options.prices.date} (${options.prices.source}).`,
      ...results.map(
        ({ name, orgs, runs, refreshesPerSecond, transitionsPerSecond, passIntervalSeconds, fold }) =>
          `${name}: ${thousands(orgs)} orgs of ${thousands(runs)} runs, ${refreshesPerSecond} cold refreshes/s and ${transitionsPerSecond} transitions/s in all, a pass every ${passIntervalSeconds} s that ${fold === null ? 'folds whatever there is' : `folds from ${fold.entries} entries, ${fold.records} records or ${fold.afterMs / 60_000} minutes on`}.`,
      ),
      `Counted on ${size.orgs} orgs of ${thousands(size.rows)} runs over ${options.quick ? 'half an hour' : 'two hours'} of simulated time, scaled by orgs and time; bytes by runs. A third each of the transitions are creations, starts and ends of runs. "+": what folding them adds.`,
      'One process writes for an org, and nothing arrives at the same moment: more processes send more dirty markers, bursts share entries. Heads are inline (some 33 000 runs); merges of history are not in it, nor what a compactor does besides folding (sweeps, logs, artifacts). A warm refresh costs one LIST. Machines, bytes to other regions and free tiers are not in it.',
    ],
    data: { prices: options.prices, results },
  };
}

function resultOf(
  deployment: Deployment,
  slice: Slice,
  prices: Prices,
  size: { orgs: number; rows: number },
): Result {
  const perMillion = ({ count, bill }: Counted) => (MILLION * dollarsOf(bill, prices)) / count;
  const cold = perMillion(slice.coldRefreshes);
  const transitions = perMillion(slice.transitions);
  const passes = MONTH_SECONDS / deployment.passIntervalSeconds;
  const orgsPerPass = (slice.orgsPerPass / size.orgs) * deployment.orgs;
  const pages = Math.max(1, Math.ceil(orgsPerPass / MARKERS_PER_PAGE));
  const folding =
    (passes * orgsPerPass * perMillion(slice.folds)) / MILLION + dollarsOf({ list: passes * pages }, prices);
  const gib = (deployment.orgs * slice.bytesPerOrg * (deployment.runs / size.rows)) / 1024 ** 3;
  const month = {
    refreshes: (MONTH_SECONDS * deployment.refreshesPerSecond * cold) / MILLION,
    transitions: (MONTH_SECONDS * deployment.transitionsPerSecond * transitions) / MILLION,
    folding,
    storage: gib * prices.per_gib_month,
  };
  return {
    ...deployment,
    scenario: deployment.name,
    dollarsPerMillionColdRefreshes: cold,
    dollarsPerMillionWarmRefreshes: perMillion(slice.warmRefreshes),
    dollarsPerMillionTransitions: transitions,
    dollarsPerMillionTransitionsFolded:
      (MILLION * folding) / (MONTH_SECONDS * deployment.transitionsPerSecond),
    foldsPerOrgAndHour: (slice.foldedPerPass / size.orgs) * (3_600 / deployment.passIntervalSeconds),
    month: { ...month, total: month.refreshes + month.transitions + month.folding + month.storage },
    slice,
  };
}

function dollars(value: number): string {
  return value < 100 ? value.toFixed(2) : thousands(value);
}
