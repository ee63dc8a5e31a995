import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { Dataset, Rival } from '../rivals/rival.ts';
import { SkippingClock } from './clock.ts';
import { copyObjects } from './copy.ts';

/** Folds skip time between them: they begin this long ago, so that they end before now. */
const BEFORE_MS = 24 * 3_600_000;

/** Arranges the data in memory, in a time of its own, and copies it to a store whose time is the real one. */
export async function prepareOn(store: ObjectStore, rival: Rival, data: Dataset): Promise<void> {
  const clock = new SkippingClock({ start: Date.now() - BEFORE_MS });
  const memory = new MemoryStore({ clock });
  await rival.prepare(memory, data, clock);
  await copyObjects(memory, store);
}
