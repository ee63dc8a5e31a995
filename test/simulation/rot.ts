import { type Random, uniform } from '../../src/core/random.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';

/** One object in a hundred rots: a bit of its stored body is another from then on; its checksum is what it was. */
export function rotting(store: ObjectStore, { random }: { random: Random }): ObjectStore {
  const rotten = new Map<string, { at: number; bit: number }>();
  return {
    ...passThrough(store),
    async put(key, body, options) {
      const put = await store.put(key, body, options);
      if (put.outcome === 'written' && /\/log\/|\/snapshots\//.test(key) && uniform(random) < 0.01)
        rotten.set(key, { at: uniform(random), bit: random.u32() % 8 });
      return put;
    },
    async get(key, options) {
      const got = await store.get(key, options);
      const rot = rotten.get(key);
      if (got.outcome !== 'found' || rot === undefined) return got;
      const body = got.body.slice();
      body[Math.floor(rot.at * body.length)]! ^= 1 << rot.bit;
      return { ...got, body };
    },
  };
}
