import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { seededRandom } from '../../src/core/random.ts';
import {
  FAULTS,
  type Fault,
  FaultPlan,
  type FaultPlanOptions,
  faulty,
  skewed,
} from '../../src/store/faults.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { Scheduler } from '../simulation/scheduler.ts';

const BODY = new TextEncoder().encode('{"a":1}');

async function planned(options: Omit<FaultPlanOptions, 'random' | 'clock'>) {
  const scheduler = new Scheduler();
  const { clock } = scheduler;
  const plan = new FaultPlan({ random: seededRandom(1), clock, nameIntervalMs: 0, ...options });
  const memory = new MemoryStore({ clock });
  const put = await memory.put('k', BODY, { metadata: { x: 'AAAA' } });
  if (put.outcome !== 'written') throw new Error('unreachable');
  return { scheduler, plan, memory, store: faulty(memory, plan), generation: put.meta.generation };
}

describe('faults', () => {
  it('none: the store as it is', async () => {
    const { store, plan } = await planned({});
    expect(await store.get('k')).toMatchObject({ outcome: 'found', body: BODY });
    expect((await store.list({ prefix: '' })).items).toHaveLength(1);
    expect(Object.values(plan.counts).every((count) => count === 0)).toBe(true);
    expect(Object.keys(plan.counts)).toEqual([...FAULTS]);
  });

  it('refused: nothing happened, and the same call may be repeated', async () => {
    const { store, memory, plan } = await planned({ rates: { refused: 1 } });
    await expect(store.put('new', BODY)).rejects.toMatchObject({ retryable: true });
    expect(await memory.head('new')).toBeNull();
    expect(plan.counts.refused).toBe(1);
  });

  it('answer_lost: a write took effect and says unknown; a read fails', async () => {
    const { store, memory } = await planned({ rates: { answer_lost: 1 } });
    expect(await store.put('new', BODY, { ifGeneration: ABSENT })).toMatchObject({ outcome: 'unknown' });
    expect(await memory.head('new')).not.toBeNull();
    await expect(store.get('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
  });

  it('late_write: takes effect after its caller gave up, within lateMs, its precondition judged then', async () => {
    const { store, memory, scheduler, generation } = await planned({
      rates: { late_write: 1 },
      lateMs: 5_000,
    });
    expect(await store.put('new', BODY)).toMatchObject({ outcome: 'unknown' });
    expect(await store.delete('k', { ifGeneration: generation })).toMatchObject({ outcome: 'unknown' });
    expect(await memory.head('new')).toBeNull();
    await memory.put('k', BODY);
    await scheduler.run(() => false, 5_000);
    expect(await memory.head('new')).not.toBeNull();
    expect(await memory.head('k')).not.toBeNull();
  });

  it.each<[Fault, boolean]>([
    ['stall_before', false],
    ['stall_after', true],
  ])('%s: no answer for stallMs', async (fault, effectFirst) => {
    const { store, memory, scheduler } = await planned({ rates: { [fault]: 1 }, stallMs: 1_000 });
    let answered = false;
    store.put('new', BODY).then(() => {
      answered = true;
    });
    await scheduler.run(() => false, 999);
    expect([answered, (await memory.head('new')) !== null]).toEqual([false, effectFirst]);
    await scheduler.run(() => false, 1_001);
    expect([answered, (await memory.head('new')) !== null]).toEqual([true, true]);
  });

  it('burst: 429 to everybody until it is over', async () => {
    const { store, scheduler, plan } = await planned({ rates: { burst: 1 }, burstMs: 500 });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'STORE_THROTTLED', retryAfterMs: 500 });
    await expect(store.get('other')).rejects.toMatchObject({ code: 'STORE_THROTTLED' });
    plan.calm();
    await scheduler.run(() => false, 600);
    expect((await store.get('k')).outcome).toBe('found');
  });

  it('name_throttled: one change a second of each name', async () => {
    const { store, scheduler } = await planned({ nameIntervalMs: 1_000 });
    await store.put('a', BODY);
    await expect(store.put('a', BODY)).rejects.toMatchObject({ code: 'STORE_THROTTLED', retryable: true });
    expect((await store.put('b', BODY)).outcome).toBe('written');
    await scheduler.run(() => false, 1_000);
    expect((await store.put('a', BODY)).outcome).toBe('written');
  });

  it('truncated, flipped_body: spoilt once, then whole again for minutes', async () => {
    for (const fault of ['truncated', 'flipped_body'] as const) {
      const { store } = await planned({ rates: { [fault]: 1 } });
      const bodies = [await store.get('k'), await store.get('k')].map((got) => 'body' in got && got.body);
      expect(bodies[0]).not.toEqual(BODY);
      expect(bodies[1]).toEqual(BODY);
    }
  });

  it('flipped_metadata, short_page', async () => {
    const { store } = await planned({ rates: { flipped_metadata: 1 }, pageMax: 1 });
    await store.put('l', BODY);
    const page = await store.list({ prefix: '' });
    expect(page.items).toHaveLength(1);
    expect(page.next).not.toBeNull();
    expect(page.items[0]!.metadata['x']).toMatch(/^A*BA*$/);
  });

  it('a skewed clock is wrong from the start and drifts', async () => {
    const scheduler = new Scheduler();
    const clock = skewed(scheduler.clock, { offsetMs: -300_000, driftPpm: 1_000 });
    const [now, monotonic] = [clock.now(), clock.monotonic()];
    expect(now).toBe(scheduler.clock.now() - 300_000);
    await scheduler.run(() => false, 1_000_000);
    expect(clock.now() - now).toBe(1_001_000);
    expect(clock.monotonic() - monotonic).toBeCloseTo(1_001_000);
    expect(skewed(systemClock, {}).now()).toBeGreaterThan(0);
  });
});
