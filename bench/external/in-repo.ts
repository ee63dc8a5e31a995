import { systemClock } from '../../src/core/clock.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import type { Asked } from '../cold-refresh/child.ts';
import { differenceInFreshProcess, inFreshProcess } from '../cold-refresh/spawn.ts';
import type { Dataset, Rival } from '../rivals/rival.ts';
import { prepareOn } from '../support/prepare.ts';
import { firstDifference } from '../support/same-rows.ts';
import type { Entrant } from './entrant.ts';
import type { Stack } from './stack.ts';

/** A rival of the repository over HTTP: the same code as in `cold-refresh`, on the `gs://` adapter. */
export function inRepo(rival: Rival, stack: Stack, data: Dataset): Entrant {
  const open = (endpoint: string) => openGcsStore({ bucket: stack.bucket, endpoint });
  const refresh = async (endpoint: string) => {
    // A client of its own: its connections are opened within what is measured.
    const began = performance.now();
    const store = await open(endpoint);
    const answer = await rival.refresh(store, data.orgId, systemClock);
    const ms = performance.now() - began;
    return { answer, ms, store };
  };
  return {
    name: rival.name,
    about: rival.about,
    billed: 'requests',
    async prepare() {
      const store = await open(stack.direct);
      await prepareOn(store, rival, data);
      await store.close();
    },
    async check() {
      const { answer, store } = await refresh(stack.direct);
      const found = await answer.projections();
      await store.close();
      return firstDifference(found, data.current);
    },
    async refresh() {
      const { answer, ms, store } = await refresh(stack.slow);
      await store.close();
      return { ms, rows: answer.rows };
    },
  };
}

export const FRESH_RUNFOLD = 'runfold, fresh process';

/** What `runfold` prepared, refreshed by a process of its own for every sample: Node's start and new connections are in it. */
export function freshRunfold(stack: Stack, { orgId, current }: Dataset): Entrant {
  const asked = (endpoint: string): Asked => ({
    module: 'runfold',
    rival: 'runfold',
    orgId,
    store: { bucket: stack.bucket, endpoint },
    latency: null,
  });
  return {
    name: FRESH_RUNFOLD,
    about: 'the same from the start of a Node process to its answer, compiled code at hand',
    billed: 'requests',
    prepare: async () => undefined,
    check: () => differenceInFreshProcess(asked(stack.direct), current),
    async refresh() {
      const { told, totalMs } = await inFreshProcess(asked(stack.slow));
      return { ms: totalMs, rows: told.rows };
    },
  };
}
