import { describe, expect, it } from 'vitest';
import { SkippingClock } from '../../bench/support/clock.ts';
import { StoreError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { counting, noRequests, type RequestCounts } from '../../src/store/counting.ts';
import { LATENCY_PROFILES, latency, parseLatencyProfile } from '../../src/store/latency.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import { planProbe, probeStore, Stopwatch } from '../../src/store/probe.ts';
import { resilient } from '../../src/store/resilient.ts';

const { gcs } = LATENCY_PROFILES;

function slowStore(counts: RequestCounts = noRequests(), change = (store: ObjectStore) => store) {
  const clock = new SkippingClock({ computing: false });
  const memory = new MemoryStore({ clock });
  const watch = new Stopwatch(clock);
  const slow = latency(counting(change(memory), counts), { profile: gcs, clock, random: seededRandom(4) });
  const random = seededRandom(2);
  // As openStore wires it: retries are above the watch.
  const store = resilient(watch.around(slow), { clock, random, limits: limits() });
  const probe = (samples: number, signal?: AbortSignal) =>
    probeStore(store, watch, {
      samples,
      nameRestMs: gcs.name_interval_ms,
      clock,
      random: seededRandom(1),
      limits: limits(),
      signal,
    });
  return { memory, probe };
}

const keysOf = async (store: ObjectStore) => (await store.list({ prefix: '' })).items.map(({ key }) => key);

describe('probing a store', () => {
  it('finds the latencies that it was given', async () => {
    const { probe } = slowStore();
    const { profile, first_byte_ms, upload } = await probe(1_000);
    for (const operation of ['get', 'head', 'put', 'delete', 'list'] as const) {
      const { p50, p99 } = gcs.first_byte_ms[operation];
      expect(first_byte_ms[operation].p50 / p50).toBeCloseTo(1, 1);
      expect(Math.abs(first_byte_ms[operation].p99 / p99 - 1)).toBeLessThan(0.2);
      expect(first_byte_ms[operation].samples).toBe(1_000);
    }
    const given = gcs.bandwidth_bytes_per_second!;
    // The first byte's share is taken out by its median, and few transfers are measured.
    expect(profile.bandwidth_bytes_per_second! / given).toBeGreaterThan(0.4);
    expect(profile.bandwidth_bytes_per_second! / given).toBeLessThan(2.5);
    expect(upload).toBeGreaterThan(0);
  });

  it('writes what the latency store reads', async () => {
    const { probe } = slowStore();
    const { profile } = await probe(50);
    const parsed = parseLatencyProfile('measured.json', JSON.parse(JSON.stringify(profile)));
    expect(parsed.first_byte_ms).toEqual(profile.first_byte_ms);
    expect(parsed).toMatchObject({ name: 'memory:', name_interval_ms: 1_000, list_item_bytes: 0 });
    // Nothing takes time in memory: still a profile.
    const watch = new Stopwatch(new SkippingClock({ computing: false }));
    const clock = new SkippingClock({ computing: false });
    const none = await probeStore(watch.around(new MemoryStore({ clock })), watch, {
      samples: 2,
      nameRestMs: 0,
      clock,
      random: seededRandom(1),
      limits: limits(),
    });
    expect(parseLatencyProfile('m', none.profile).bandwidth_bytes_per_second).toBeNull();
  });

  it('sends what its plan says, and leaves nothing and touches nothing', async () => {
    const counts = noRequests();
    const { memory, probe } = slowStore(counts);
    await memory.put('probe/other', new Uint8Array([1]));
    const progress = await probe(20);
    const { get, head, put, delete: deleted, list, bytesWritten } = counts;
    const { bytes_written, bytes_read: _, ...plan } = planProbe(20);
    expect({ get, head, put, delete: deleted, list }).toEqual(plan);
    expect(bytesWritten).toBe(bytes_written);
    expect(progress.prefix).toMatch(/^probe\/[0-9a-f-]{36}\/$/);
    expect(await keysOf(memory)).toEqual(['probe/other']);
  });

  it('removes its objects when it is aborted, and when the store fails', async () => {
    const stop = new AbortController();
    let puts = 0;
    const aborting = slowStore(noRequests(), (store) => ({
      ...passThrough(store),
      put: (key, body, options) => {
        if (++puts === 40) stop.abort(new Error('enough'));
        return store.put(key, body, options);
      },
    }));
    await expect(aborting.probe(10, stop.signal)).rejects.toThrow('enough');
    expect(await keysOf(aborting.memory)).toEqual([]);

    const failing = slowStore(noRequests(), (store) => ({
      ...passThrough(store),
      head: async () => {
        throw new Error('no heads today');
      },
    }));
    await expect(failing.probe(10)).rejects.toThrow('no heads today');
    expect(await keysOf(failing.memory)).toEqual([]);
  });

  it('says where objects may be left when it cannot remove them', async () => {
    const { probe } = slowStore(noRequests(), (store) => ({
      ...passThrough(store),
      delete: async () => ({ outcome: 'unknown', cause: new Error('lost') }),
    }));
    await expect(probe(1)).rejects.toThrow(/Objects under probe\/.* may be left/);
    const missing = slowStore(noRequests(), (store) => ({
      ...passThrough(store),
      put: () =>
        Promise.reject(new StoreError('STORE_FAILED', 'There is no such bucket.', { retryable: false })),
      list: () =>
        Promise.reject(new StoreError('STORE_FAILED', 'There is no such bucket.', { retryable: false })),
    }));
    await expect(missing.probe(1)).rejects.toThrow(
      /^There is no such bucket\. Objects under probe\/.* may be left/,
    );
  });
});
