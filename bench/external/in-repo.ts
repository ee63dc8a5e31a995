import { systemClock } from '../../src/core/clock.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { Dataset, Rival } from '../rivals/rival.ts';
import { SkippingClock } from '../support/clock.ts';
import { copyObjects } from '../support/copy.ts';
import { firstDifference } from '../support/same-rows.ts';
import type { Entrant } from './entrant.ts';
import { BUCKET, type Stack } from './stack.ts';

/** Folds of the preparation skip time: they begin this long ago, so that they end before now. */
const PREPARED_BEFORE_MS = 24 * 3_600_000;

/** A rival of the repository over HTTP: the same code as in `cold-refresh`, on the `gs://` adapter. */
export function inRepo(rival: Rival, stack: Stack, data: Dataset): Entrant {
  const open = (endpoint: string) => openGcsStore({ bucket: BUCKET, endpoint });
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
      const clock = new SkippingClock({ start: Date.now() - PREPARED_BEFORE_MS });
      const memory = new MemoryStore({ clock });
      await rival.prepare(memory, data, clock);
      await using store = closing(await open(stack.direct));
      await copyObjects(memory, store.store);
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

function closing(store: ObjectStore) {
  return { store, [Symbol.asyncDispose]: () => store.close() };
}
