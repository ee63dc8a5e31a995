import { seededRandom, uniform } from '../../src/core/random.ts';
import type { Setup } from './simulate.ts';
import { pick } from './workload.ts';

/** Runs are sealed and parts merge within minutes; the two ages fit each other as those of the defaults do. */
export const SEALING = {
  headRowsMax: 4,
  mergeFanIn: 3,
  historyGroupRows: 5,
  recordAgeMaxMs: 30_000,
  sealAgeMs: 300_000,
};

/** Much is deferred, or it comes due for one reason now and for another then. */
const LONG_TAILS = { afterMs: 240_000, entries: 200, records: 400 };
const SHORT_TAILS = { afterMs: 90_000, entries: 12, records: 30 };

/** Everything about one simulation follows from its seed. */
export function setupOf(seed: number, changes: Partial<Setup> = {}): Setup {
  const random = seededRandom(seed ^ 0x5eed);
  const severity = pick(random, [0, 0.5, 1, 1, 2]);
  const rate = (most: number) => severity * most * uniform(random);
  const life = pick(random, [0, 1, 1, 3]);
  const chaos = (crash: number, pause: number) => ({ crash: life * crash, pause: life * pause });
  return {
    seed,
    orgs: pick(random, [1, 2, 3]),
    writers: pick(random, [2, 3, 5]),
    operators: pick(random, [1, 2]),
    compactors: pick(random, [1, 2, 3]),
    readers: pick(random, [2, 3, 4]),
    minutes: pick(random, [5, 10, 20]),
    passGapMs: pick(random, [500, 20_000, 60_000, 400_000]),
    runsPerWriter: pick(random, [10, 25]),
    faults: {
      refused: rate(0.02),
      answer_lost: rate(0.02),
      late_write: rate(0.02),
      stall_before: rate(0.004),
      stall_after: rate(0.004),
      burst: rate(0.002),
      truncated: rate(0.01),
      flipped_body: rate(0.01),
      flipped_metadata: rate(0.01),
    },
    lateMs: pick(random, [5_000, 60_000]),
    pageMax: pick(random, [3, 20, 1_000]),
    listMetadata: uniform(random) < 0.7,
    chaos: {
      writer: chaos(0.001, 0.0006),
      operator: chaos(0.001, 0.0006),
      compactor: chaos(0.003, 0.002),
      reader: chaos(0.0005, 0.002),
    },
    limits: {
      orphanAgeMs: 300_000,
      inlineHeadBytesMax: pick(random, [0, 256 * 1024]),
      // Small enough that runs are sealed and parts merge within minutes.
      ...pick(random, [{}, SEALING]),
    },
    rot: uniform(random) < 0.1,
    removals: pick(random, [0, 0, 0.1]),
    upkeep: pick(random, [0, 0, 0.05]),
    retainMs: pick(random, [null, 600_000]),
    fold: pick(random, [null, LONG_TAILS, SHORT_TAILS]),
    hooks: {},
    ...changes,
  };
}
