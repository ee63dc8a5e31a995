import { describe, expect, it } from 'vitest';
import { KeyedMutex, mapAhead, mapParallel } from '../../src/core/concurrency.ts';
import { settle } from '../support/fake-clock.ts';
import { gate } from '../support/intercept.ts';

describe('mapParallel', () => {
  it('keeps the order whatever finishes first', async () => {
    const gates = [gate(), gate(), gate()];
    const mapping = mapParallel([0, 1, 2], 3, async (i) => {
      await gates[i]!.opened;
      return i * 10;
    });
    for (const i of [2, 0, 1]) {
      gates[i]!.open();
      await settle();
    }
    expect(await mapping).toEqual([0, 10, 20]);
  });

  it('never has more than the limit in flight, and uses all of it', async () => {
    let running = 0;
    let most = 0;
    await mapParallel(Array.from({ length: 50 }), 4, async () => {
      most = Math.max(most, ++running);
      await settle();
      running--;
    });
    expect(most).toBe(4);
  });

  it('the first failure cancels those that run, starts no other, and waits for them', async () => {
    const started: number[] = [];
    const ended: number[] = [];
    const mapping = mapParallel([0, 1, 2, 3], 2, async (i, signal) => {
      started.push(i);
      if (i === 0) {
        await settle();
        throw new Error('first');
      }
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      await settle();
      ended.push(i);
      throw new Error('second, because it was cancelled');
    });
    await expect(mapping).rejects.toThrow('first');
    expect(started).toEqual([0, 1]);
    expect(ended).toEqual([1]);
  });

  it('an abort of the caller reaches the calls and stops new ones', async () => {
    const caller = new AbortController();
    const started: number[] = [];
    const mapping = mapParallel(
      [0, 1, 2, 3],
      1,
      async (i, signal) => {
        started.push(i);
        if (i === 1) caller.abort(new Error('stop'));
        expect(signal.aborted).toBe(i === 1);
      },
      caller.signal,
    );
    await expect(mapping).rejects.toThrow('stop');
    expect(started).toEqual([0, 1]);
  });

  it('nothing to do is done', async () => {
    expect(await mapParallel([], 4, async () => 1)).toEqual([]);
  });

  it('a call that throws before its first await fails like any other', async () => {
    const mapping = mapParallel([1], 4, () => {
      throw new Error('at once');
    });
    await expect(mapping).rejects.toThrow('at once');
  });
});

describe('KeyedMutex', () => {
  it('one key one after another, also after a failure; keys side by side', async () => {
    const mutex = new KeyedMutex();
    const order: string[] = [];
    const hold = gate();
    const task = (name: string, until?: Promise<void>) => async () => {
      order.push(`${name} begins`);
      await until;
      order.push(`${name} ends`);
      if (name === 'a1') throw new Error('a1');
    };
    const first = mutex.run('a', task('a1', hold.opened));
    const second = mutex.run('a', task('a2'));
    await mutex.run('b', task('b1'));
    hold.open();
    await expect(first).rejects.toThrow('a1');
    await second;
    expect(order).toEqual(['a1 begins', 'b1 begins', 'b1 ends', 'a1 ends', 'a2 begins', 'a2 ends']);
  });
});

describe('mapAhead', () => {
  async function* counted(until: number, taken: number[] = []) {
    for (let i = 0; i < until; i++) {
      taken.push(i);
      yield i;
    }
  }

  async function all<T>(results: AsyncIterable<T>): Promise<T[]> {
    const list: T[] = [];
    for await (const one of results) list.push(one);
    return list;
  }

  it('keeps the order whatever finishes first, and begins the next call as one ends', async () => {
    const gates = Array.from({ length: 6 }, gate);
    const started: number[] = [];
    const results = all(
      mapAhead(counted(6), 2, async (i) => {
        started.push(i);
        await gates[i]!.opened;
        return i * 10;
      }),
    );
    for (const i of [1, 2, 3, 0, 5, 4]) {
      await settle();
      gates[i]!.open();
    }
    expect(await results).toEqual([0, 10, 20, 30, 40, 50]);
    expect(started).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('never has more than the limit in flight, and waits for a caller who takes his time', async () => {
    let running = 0;
    let most = 0;
    const taken: number[] = [];
    const results = mapAhead(counted(100, taken), 3, async (i) => {
      most = Math.max(most, ++running);
      await settle();
      running--;
      return i;
    });
    expect((await results.next()).value).toBe(0);
    for (let i = 0; i < 50; i++) await settle();
    expect(taken.length).toBeLessThan(20);
    expect(await all(results)).toHaveLength(99);
    expect(most).toBe(3);
  });

  it('a failure is thrown in its place; what runs is cancelled and waited for', async () => {
    const ended: number[] = [];
    const seen: number[] = [];
    const results = mapAhead(counted(100), 4, async (i, signal) => {
      if (i === 2) throw new Error('third');
      if (i < 2) return i;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      ended.push(i);
      throw new Error('cancelled');
    });
    const taking = (async () => {
      for await (const one of results) seen.push(one);
    })();
    await expect(taking).rejects.toThrow('third');
    expect(seen).toEqual([0, 1]);
    expect(ended).toEqual([3, 4, 5].slice(0, ended.length));
    expect(ended.length).toBeGreaterThan(0);
  });

  it('so is a failure of what it maps; a caller who stops early, or aborts, leaves nothing behind', async () => {
    async function* broken() {
      yield 1;
      throw new Error('no more');
    }
    await expect(all(mapAhead(broken(), 2, async (i) => i))).rejects.toThrow('no more');

    const taken: number[] = [];
    for await (const one of mapAhead(counted(1_000, taken), 2, async (i) => i)) if (one === 5) break;
    const before = taken.length;
    await settle();
    expect(taken).toHaveLength(before);
    expect(before).toBeLessThan(30);

    const caller = new AbortController();
    const aborted = mapAhead(
      counted(1_000),
      2,
      async (i) => {
        if (i === 3) caller.abort(new Error('enough'));
        return i;
      },
      caller.signal,
    );
    await expect(all(aborted)).rejects.toThrow();
  });
});
