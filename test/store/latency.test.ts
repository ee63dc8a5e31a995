import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/core/random.ts';
import {
  LATENCY_PROFILES,
  type LatencyProfile,
  latency,
  parseLatencyProfile,
} from '../../src/store/latency.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { describeStore } from './contract.ts';

const { gcs, none } = LATENCY_PROFILES;

function world(profile: LatencyProfile, seed = 1) {
  const clock = new FakeClock();
  const memory = new MemoryStore({ clock });
  const store = latency(memory, { profile, clock, random: seededRandom(seed) });
  const timed = async (work: () => Promise<unknown>) => {
    const began = clock.monotonic();
    await clock.run(work());
    return clock.monotonic() - began;
  };
  return { clock, memory, store, timed };
}

const percentile = (samples: readonly number[], p: number) =>
  [...samples].sort((a, b) => a - b)[Math.floor(samples.length * p)]!;
/** The profile of a store without chance, for exact times. */
const steady: LatencyProfile = {
  ...gcs,
  first_byte_ms: {
    get: { p50: 40, p99: 40 },
    head: { p50: 10, p99: 10 },
    put: { p50: 100, p99: 100 },
    delete: { p50: 30, p99: 30 },
    list: { p50: 60, p99: 60 },
  },
  bandwidth_bytes_per_second: 1_000_000,
  list_item_ms: 1,
  list_item_bytes: 500,
};

describe('the latency store', () => {
  it('meets the percentiles of its profile', async () => {
    const { store, timed } = world(gcs);
    const samples: number[] = [];
    for (let i = 0; i < 1_000; i++) samples.push(await timed(() => store.head('x')));
    expect(percentile(samples, 0.5)).toBeGreaterThan(13.5);
    expect(percentile(samples, 0.5)).toBeLessThan(16.5);
    expect(percentile(samples, 0.99)).toBeGreaterThan(36);
    expect(percentile(samples, 0.99)).toBeLessThan(60);
  });

  it('gives the same times for the same seed, whatever other operations did in between', async () => {
    const times = async (mixed: boolean) => {
      const { store, timed } = world(gcs, 7);
      const found: number[] = [];
      for (let i = 0; i < 5; i++) {
        if (mixed) await timed(() => store.list({ prefix: '' }));
        found.push(await timed(() => store.get('x')));
      }
      return found.map((ms) => ms.toFixed(6));
    };
    expect(await times(true)).toEqual(await times(false));
    expect(new Set(await times(false)).size).toBe(5);
  });

  it('charges bodies to the bandwidth of their own stream', async () => {
    const { store, timed } = world(steady);
    expect(await timed(() => store.put('x', new Uint8Array(50_000)))).toBeCloseTo(150, 6);
    expect(await timed(() => store.get('x'))).toBeCloseTo(90, 6);
    expect(await timed(() => store.get('x', { range: { start: 0, end: 10_000 } }))).toBeCloseTo(50, 6);
    expect(await timed(() => Promise.all([store.get('x'), store.get('x')]))).toBeCloseTo(90, 6);
  });

  it('charges pages by item, and custom metadata by byte', async () => {
    const { memory, store, timed } = world(steady);
    await memory.put('a', new Uint8Array(), { metadata: { k: 'v'.repeat(498) } });
    expect(await timed(() => store.list({ prefix: '' }))).toBeCloseTo(60 + 1 + 1, 6);
    await memory.put('b', new Uint8Array());
    expect(await timed(() => store.list({ prefix: 'b' }))).toBeCloseTo(60 + 1 + 0.501, 6);
  });

  it('takes effect halfway: a reader never sees a write before it could have arrived', async () => {
    const { clock, memory, store } = world(steady);
    const put = store.put('x', new Uint8Array());
    await clock.advance(49);
    expect(await memory.head('x')).toBeNull();
    await clock.advance(2);
    expect(await memory.head('x')).not.toBeNull();
    await clock.run(put);
    expect(clock.monotonic()).toBe(100);
  });

  it('refuses a second change of one name within its interval, and only that', async () => {
    const { clock, store } = world(steady);
    const first = await clock.run(store.put('x', new Uint8Array()));
    if (first.outcome !== 'written') throw new Error('not written');
    await expect(clock.run(store.put('x', new Uint8Array([1])))).rejects.toMatchObject({
      code: 'STORE_THROTTLED',
      retryable: true,
    });
    await expect(clock.run(store.delete('x', { ifGeneration: first.meta.generation }))).rejects.toMatchObject(
      { code: 'STORE_THROTTLED' },
    );
    expect(await clock.run(store.put('y', new Uint8Array()))).toMatchObject({ outcome: 'written' });
    await clock.advance(1_000);
    expect(await clock.run(store.put('x', new Uint8Array([1])))).toMatchObject({ outcome: 'written' });
  });

  it('a refused precondition is no change of the name', async () => {
    const { clock, memory, store } = world(steady);
    await memory.put('x', new Uint8Array());
    const conflict = await clock.run(store.put('x', new Uint8Array(), { ifGeneration: ABSENT }));
    expect(conflict.outcome).toBe('conflict');
    expect((await clock.run(store.put('x', new Uint8Array()))).outcome).toBe('written');
  });

  it('a read stops waiting when its caller does', async () => {
    const { clock, store } = world(steady);
    const controller = new AbortController();
    const get = store.get('x', { signal: controller.signal });
    get.catch(() => undefined);
    await clock.advance(10);
    controller.abort(new Error('enough'));
    await expect(get).rejects.toThrow('enough');
    expect(clock.sleeping).toBe(0);
  });

  it('gives pages of as many items as the profile says, and fewer where fewer are asked for', async () => {
    const { store } = world({ ...none, list_page_items: 2 });
    for (const key of ['a', 'b', 'c']) await store.put(key, new Uint8Array());
    const first = await store.list({ prefix: '' });
    expect(first.items.map(({ key }) => key)).toEqual(['a', 'b']);
    expect((await store.list({ prefix: '', pageToken: first.next! })).items).toHaveLength(1);
    expect((await store.list({ prefix: '', limit: 1 })).items).toHaveLength(1);
  });

  it('without latency no time passes', async () => {
    const { store, timed } = world(none);
    expect(await timed(() => store.list({ prefix: '' }))).toBe(0);
  });
});

describe('a latency profile from a file', () => {
  it('lays what was measured over the profile that it refines', () => {
    const profile = parseLatencyProfile('probe.json', {
      measured_at: '2026-11-20T12:00:00Z',
      first_byte_ms: { get: { p50: 20, p99: 90 } },
      bandwidth_bytes_per_second: 1e8,
    });
    expect(profile).toEqual({
      ...gcs,
      name: 'probe.json',
      bandwidth_bytes_per_second: 1e8,
      first_byte_ms: { ...gcs.first_byte_ms, get: { p50: 20, p99: 90 } },
    });
  });

  it.each([
    ['a field it does not know', { first_byte: {} }],
    ['percentiles the wrong way round', { first_byte_ms: { get: { p50: 20, p99: 10 } } }],
    ['text for a number', { list_item_ms: '1' }],
    ['no object', null],
    ['a p99 of more than ten minutes', { first_byte_ms: { put: { p50: 1, p99: 1e300 } } }],
    [
      'a median of 0 below a p99 that is not',
      { first_byte_ms: { put: { p50: 0, p99: 10 } } },
      /p50 must be above 0/,
    ],
    ['pages of more items than a store gives', { list_page_items: 5_000 }],
  ])('refuses %s, and names the file', (_, json, message = /./) => {
    expect(() => parseLatencyProfile('probe.json', json)).toThrow(/^probe\.json is no latency profile/);
    expect(() => parseLatencyProfile('probe.json', json)).toThrow(message);
  });
});

describeStore(
  'latency over memory',
  async () => {
    const clock = { now: Date.now, monotonic: () => performance.now(), sleep: async () => undefined };
    const store = latency(new MemoryStore(), {
      profile: { ...gcs, name_interval_ms: 0 },
      clock,
      random: seededRandom(1),
    });
    return { store, close: () => store.close() };
  },
  {
    capabilities: {
      listMetadata: true,
      metadataBytesMax: 8 * 1024,
      conditionalGet: true,
      conditionalDelete: true,
    },
    except: {},
  },
);
