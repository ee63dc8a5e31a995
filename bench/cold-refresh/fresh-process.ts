import { MemoryStore } from '../../src/store/memory.ts';
import { flatScan } from '../rivals/flat-scan.ts';
import { jsonIndex } from '../rivals/json-index.ts';
import { objectPerRun } from '../rivals/object-per-run.ts';
import { plainSnapshot } from '../rivals/plain-snapshot.ts';
import type { Rival } from '../rivals/rival.ts';
import { runfold } from '../rivals/runfold.ts';
import { type DatasetSize, datasetOf } from '../support/dataset.ts';
import { type Cost, costOf } from '../support/meter.ts';
import type { Refusals } from '../support/not-run.ts';
import { prepareOn } from '../support/prepare.ts';
import { dollarsOf } from '../support/prices.ts';
import { type ScenarioOptions, spread, sum } from '../support/report.ts';
import { placeFor } from './place.ts';
import type { Result } from './result.ts';
import { type FreshSamples, freshProcesses } from './spawn.ts';

const ROUNDS = 11;
const SCENARIO = 'a fresh process, 1 000 runs in all';

export function freshRounds({ quick }: Pick<ScenarioOptions, 'quick'>): number {
  return quick ? 2 : ROUNDS;
}

/** Module and export of the rivals that run in processes of their own. */
const MODULES: readonly [Rival, module: string, exported: string][] = [
  [runfold, 'runfold', 'runfold'],
  [plainSnapshot, 'plain-snapshot', 'plainSnapshot'],
  [jsonIndex, 'json-index', 'jsonIndex'],
  [objectPerRun, 'object-per-run', 'objectPerRun'],
  [flatScan, 'flat-scan', 'flatScan'],
];

/** One data set, and for every sample a process that has just begun. */
export async function measureProcesses(
  orgId: string,
  { quick, seed, latency: profile, prices }: ScenarioOptions,
  refusals: Refusals,
  onStep: (label: string, part?: number) => void,
): Promise<{ results: Result[]; about: string }> {
  const size: DatasetSize = { totalRuns: 1_000, orgRuns: quick ? 200 : 980, tables: 50, tailEntries: 20 };
  const data = datasetOf(orgId, size, seed);
  const memory = new MemoryStore();
  const costs = new Map<string, Cost>();
  onStep('preparing');
  for (const [rival] of MODULES) {
    await prepareOn(memory, rival, data);
    costs.set(rival.name, await costOf(memory, (store, clock) => rival.refresh(store, orgId, clock)));
  }
  onStep('copying');
  const place = await placeFor(memory, profile);
  try {
    const seedOf = (round: number) => seed * 1_000_000 + round;
    const samples = await freshProcesses(
      MODULES.map(([{ name }, module, rival]) => ({
        name,
        before: (round) => place.before(seedOf(round)),
        asked: (round) => ({ module, rival, orgId, ...place.asked(seedOf(round)) }),
      })),
      data.current,
      freshRounds({ quick }),
      { onStep, onFailed: (name, error) => refusals.add(SCENARIO, name, error) },
    );
    const own = samples.find(({ name }) => name === runfold.name);
    const lines = (what: string, ms: (sample: FreshSamples) => number[]) =>
      samples.map((sample) => {
        const cost = costs.get(sample.name)!;
        return {
          ...size,
          group: 'process',
          scenario: `${SCENARIO}: ${what}`,
          rival: sample.name,
          rows: sample.rows,
          ms: spread(ms(sample)),
          ratio: own === undefined ? null : sum(ms(sample)) / sum(ms(own)),
          samples: ms(sample).length,
          requests: cost.requests,
          rounds: cost.rounds,
          bytes: cost.bytesRead,
          dollarsPerMillion: 1e6 * dollarsOf(cost, prices),
        };
      });
    const results = [
      ...lines('start to answer', ({ totalMs }) => totalMs),
      ...lines('of that, the refresh', ({ refreshMs }) => refreshMs),
    ];
    return { results, about: place.about };
  } finally {
    await place.close();
  }
}
