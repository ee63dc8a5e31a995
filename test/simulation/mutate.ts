import type { Mutation } from './mutations.ts';
import { setupOf } from './setups.ts';
import { type Outcome, type Setup, simulate } from './simulate.ts';

/** The common ground of all mutations: small, busy, mildly faulty; each one changes what it needs. */
const GROUND: Partial<Setup> = {
  orgs: 1,
  writers: 2,
  operators: 1,
  compactors: 1,
  readers: 3,
  minutes: 10,
  passGapMs: 20_000,
  runsPerWriter: 10,
  faults: { refused: 0.01, answer_lost: 0.01, late_write: 0.01 },
  lateMs: 60_000,
  pageMax: 1_000,
  listMetadata: true,
  chaos: {},
  limits: {},
  rot: false,
  removals: 0,
  upkeep: 0,
  retainMs: null,
  fold: null,
};

export interface Hunt {
  /** Null: no seed noticed. */
  caught: Outcome | null;
  seeds: number;
  operations: number;
}

/** Simulates `mutation` from seed after seed until the laws notice or the budget is over. */
export async function hunt(mutation: Mutation, seedsMax: number): Promise<Hunt> {
  let operations = 0;
  const undo = mutation.patch?.() ?? (() => undefined);
  try {
    for (let seed = 1; seed <= seedsMax; seed++) {
      const hooks = typeof mutation.hooks === 'function' ? mutation.hooks() : mutation.hooks;
      const outcome = await simulate(setupOf(seed, { ...GROUND, ...mutation.setup, hooks }));
      operations += outcome.operations;
      if (outcome.violations.length > 0) return { caught: outcome, seeds: seed, operations };
    }
    return { caught: null, seeds: seedsMax, operations };
  } finally {
    undo();
  }
}
