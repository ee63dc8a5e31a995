import { describe, expect, it } from 'vitest';
import { KeyedMutex, mapParallel } from '../../src/core/concurrency.ts';
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
