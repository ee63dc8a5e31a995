import { type Clock, systemClock } from '../../src/core/clock.ts';
import { seededRandom } from '../../src/core/random.ts';
import { type LatencyProfile, latency, type Operation } from '../../src/store/latency.ts';
import type { CallOptions, ListPage, ObjectMeta, ObjectStore } from '../../src/store/object-store.ts';

/** Does `effect` halfway through the time to first byte that `operation` draws, and resolves once that time is over. */
export type Hold = (operation: Operation, effect: () => Promise<Effect>) => Promise<void>;

interface Effect {
  /** Of the page that a LIST gave: each takes the store some time. */
  items: number;
}

interface WithEffect extends CallOptions {
  effect: () => Promise<Effect>;
}

/**
 * Requests held back by the law of `latency` itself, which wraps a store whose every call is somebody's effect: the same
 * distributions, and the n-th call of an operation draws the same for everybody who begins with the same seed. Bandwidth
 * is the proxy's, and the limit of changes per name is not in it: a refresh changes nothing.
 */
export function holding(profile: LatencyProfile, seed: number, clock: Clock = systemClock): Hold {
  const slow = latency(EFFECTS, {
    profile: { ...profile, bandwidth_bytes_per_second: null, name_interval_ms: 0 },
    clock,
    random: seededRandom(seed),
  });
  const calls: Record<Operation, (options: WithEffect) => Promise<unknown>> = {
    get: (options) => slow.get('', options),
    head: (options) => slow.head('', options),
    put: (options) => slow.put('', NOTHING, options),
    delete: (options) => slow.delete('', { ...options, ifGeneration: '' }),
    list: (options) => slow.list({ ...options, prefix: '' }),
  };
  return async (operation, effect) => void (await calls[operation]({ effect }));
}

/** Everybody at once. */
export const atOnce: Hold = async (_, effect) => void (await effect());

const NOTHING = new Uint8Array();
const ITEM: ObjectMeta = { key: '', generation: '', sizeBytes: 0, crc32c: 0, createdAt: 0, metadata: {} };

const run = (options: CallOptions | undefined) => (options as WithEffect).effect();

const EFFECTS: ObjectStore = {
  url: 'effects:',
  capabilities: {
    listMetadata: false,
    metadataBytesMax: 0,
    conditionalGet: false,
    conditionalDelete: false,
  },
  get: async (_, options) => {
    await run(options);
    return { outcome: 'absent', serverTime: 0 };
  },
  head: async (_, options) => {
    await run(options);
    return null;
  },
  put: async (_, __, options) => {
    await run(options);
    return { outcome: 'conflict' };
  },
  delete: async (_, options) => {
    await run(options);
    return { outcome: 'deleted' };
  },
  list: async (options): Promise<ListPage> => {
    const { items } = await run(options);
    return { items: Array.from({ length: items }, () => ITEM), prefixes: [], next: null, serverTime: 0 };
  },
  close: async () => undefined,
};
