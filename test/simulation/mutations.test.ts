import { describe, expect, it } from 'vitest';
import { hunt } from './mutate.ts';
import { MUTATIONS } from './mutations.ts';

/**
 * Who checks the checker: each rule of the protocol is taken away in turn, and the simulator must notice. A rule
 * that nothing notices is dead or untested; those that are a second line of defence say so.
 */
describe('mutations', () => {
  for (const mutation of MUTATIONS) {
    const { rule, unnoticed } = mutation;
    if (unnoticed !== undefined) {
      it(`nobody notices the loss of: ${rule}`, { timeout: 60_000 }, async () => {
        expect((await hunt(mutation, 1)).caught).toBeNull();
      });
      continue;
    }
    it(`notices the loss of: ${rule}`, { timeout: 120_000 }, async () => {
      expect((await hunt(mutation, SEEDS_MAX)).caught).not.toBeNull();
    });
  }
});

const SEEDS_MAX = 20;
