import type { Clock } from '../../src/core/clock.ts';
import { seededRandom } from '../../src/core/random.ts';
import { counting, noRequests, type RequestCounts } from '../../src/store/counting.ts';
import { LATENCY_PROFILES, type LatencyProfile, latency } from '../../src/store/latency.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { SkippingClock } from './clock.ts';

const one = { p50: 1, p99: 1 };

/** Every request takes one ms, so that in a time of nothing but waiting the ms are rounds. */
const ROUNDS: LatencyProfile = {
  ...LATENCY_PROFILES.none,
  name: 'rounds',
  first_byte_ms: { get: one, head: one, put: one, delete: one, list: one },
};

export interface Cost extends RequestCounts {
  requests: number;
  /** Requests one after the other on the longest way through the operation. */
  rounds: number;
}

/** A note of every report whose requests were counted here. `rivals` counts on the wire, and says so. */
export const WHAT_BYTES_ARE =
  'Bytes are bodies that were read and, of LISTs, keys and custom metadata; `rivals` counts bodies of HTTP, so that LISTs come there with their standard fields.';

/** What an operation asks of a store, its rounds measured and not claimed. Nothing of it depends on the machine. */
export async function costOf(
  store: ObjectStore,
  operation: (store: ObjectStore, clock: Clock) => Promise<unknown>,
): Promise<Cost> {
  const clock = new SkippingClock({ computing: false });
  const counts = noRequests();
  const slow = latency(counting(store, counts), { profile: ROUNDS, clock, random: seededRandom(1) });
  const began = clock.monotonic();
  await operation(slow, clock);
  const rounds = Math.round(clock.monotonic() - began);
  const { get, head, put, delete: deleted, list } = counts;
  return { ...counts, requests: get + head + put + deleted + list, rounds };
}
