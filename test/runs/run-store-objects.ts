import { systemClock } from '../../src/core/clock.ts';
import { StoreError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { systemRandom } from '../../src/core/random.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import type { Run } from '../../src/runs/run.ts';
import { runKey } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { verified } from '../../src/store/verified.ts';
import { intercept } from '../support/intercept.ts';
import { runOf } from '../support/runs.ts';
import type { Loss, OpenedRunStore } from './run-store-contract.ts';

/** A canonical run with every field of today's format. */
export function wholeRun(changes: Partial<Run> = {}): Run {
  return runOf({ run_key: null, ...changes });
}

/** Few and short retries: these tests lose every answer on purpose. */
export const bounds = limits({ attemptsMax: 3, backoffBaseMs: 1, backoffMaxMs: 5 });

/** Counts down the answers to lose. */
export class Losses {
  #loss: Loss = 'before';
  #left = 0;

  set(loss: Loss, count: number): void {
    this.#loss = loss;
    this.#left = count;
  }

  next(): Loss | null {
    if (this.#left <= 0) return null;
    this.#left--;
    return this.#loss;
  }
}

export function lostAnswer(): StoreError {
  return new StoreError('STORE_UNAVAILABLE', 'The connection was reset.', { retryable: true });
}

/** Runs as objects of `bare`, whose answers to writes can be lost. */
export function objectRunStore(bare: ObjectStore, close: () => Promise<void>): OpenedRunStore {
  const losses = new Losses();
  const lossy = intercept(bare, async ({ operation }, go) => {
    const loss = operation === 'put' || operation === 'delete' ? losses.next() : null;
    if (loss === 'after') await go();
    return loss === null ? go() : { outcome: 'unknown', cause: lostAnswer() };
  });
  const open = (store: ObjectStore) =>
    new ObjectRunStore(
      // Processes tell their writes by random ids: never one seed for two of them.
      resilient(verified(store), { clock: systemClock, random: systemRandom, limits: bounds }),
      limits(),
    );
  return {
    store: open(lossy),
    another: async () => open(bare),
    lose: (loss, count) => losses.set(loss, count),
    spoil: async (orgId, runId) =>
      void (await bare.put(runKey(orgId, runId), new TextEncoder().encode('{"no'))),
    close,
  };
}
