import { expect } from 'vitest';
import { mapParallel } from '../../src/core/concurrency.ts';
import { ABSENT, type PutOutcome } from '../../src/store/object-store.ts';
import { asGot, type Contract, read, text, write } from './contract-kit.ts';

export function describeWrites(contract: Contract): void {
  const { test } = contract;

  test('parallel creates: exactly one is written', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}race`;
    const puts = await mapParallel(
      Array.from({ length: 16 }, (_, i) => `writer ${i}`),
      16,
      (body) => store.put(key, text(body), { ifGeneration: ABSENT }),
    );
    expect(puts.map((put) => put.outcome).sort()).toEqual([...Array(15).fill('conflict'), 'written']);
    const winner = puts.findIndex((put) => put.outcome === 'written');
    const got = await read(store, key);
    expect(got.body).toEqual(text(`writer ${winner}`));
    const won = puts[winner] as PutOutcome & { outcome: 'written' };
    expect(got.meta).toEqual(asGot(contract, won.meta));
  });

  test('parallel compare-and-swaps: exactly one is written', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}race`;
    const { generation } = await write(store, key, 'before');
    const puts = await mapParallel(
      Array.from({ length: 16 }, (_, i) => `writer ${i}`),
      16,
      (body) => store.put(key, text(body), { ifGeneration: generation }),
    );
    expect(puts.map((put) => put.outcome).sort()).toEqual([...Array(15).fill('conflict'), 'written']);
    const winner = puts.findIndex((put) => put.outcome === 'written');
    expect((await read(store, key)).body).toEqual(text(`writer ${winner}`));
  });

  test('a stale generation is a conflict and changes nothing', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}k`;
    const first = await write(store, key, 'one', { ifGeneration: ABSENT, metadata: { n: '1' } });
    const second = await write(store, key, 'two', { ifGeneration: first.generation });
    expect(second.generation).not.toBe(first.generation);
    expect(second.metadata).toEqual({});
    expect(await store.put(key, text('three'), { ifGeneration: first.generation })).toEqual({
      outcome: 'conflict',
    });
    expect(await read(store, key)).toMatchObject({ body: text('two'), meta: asGot(contract, second) });
  });

  test('replacing an absent object is a conflict', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}k`;
    const other = await write(store, `${key}-other`);
    expect(await store.put(key, text('x'), { ifGeneration: other.generation })).toEqual({
      outcome: 'conflict',
    });
    expect(await store.head(key)).toBeNull();
  });

  test('without a precondition a put creates and replaces', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}k`;
    const first = await write(store, key, 'one', {});
    const second = await write(store, key, 'two', {});
    expect(second.generation).not.toBe(first.generation);
    expect(await read(store, key)).toMatchObject({ body: text('two'), meta: asGot(contract, second) });
  });

  test('the body belongs to the caller again once put returns', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}k`;
    const body = text('before');
    await write(store, key, body);
    body.fill(0);
    expect((await read(store, key)).body).toEqual(text('before'));
  });
}

export function describeDeletes(contract: Contract): void {
  const { test } = contract;

  test('deleted objects are gone from get, head and list', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const { generation } = await write(store, `${prefix}k`);
    expect(await store.delete(`${prefix}k`, { ifGeneration: generation })).toEqual({ outcome: 'deleted' });
    expect(await store.get(`${prefix}k`)).toMatchObject({ outcome: 'absent' });
    expect(await store.head(`${prefix}k`)).toBeNull();
    expect(await store.list({ prefix })).toMatchObject({ items: [], prefixes: [], next: null });
    expect(await store.delete(`${prefix}k`, { ifGeneration: generation })).toEqual({ outcome: 'absent' });
  });

  test(
    'deleting another generation is a conflict and deletes nothing',
    async () => {
      const { store } = contract;
      const key = `${contract.prefix()}k`;
      const first = await write(store, key, 'one');
      const second = await write(store, key, 'two', { ifGeneration: first.generation });
      expect(await store.delete(key, { ifGeneration: first.generation })).toEqual({ outcome: 'conflict' });
      expect(await store.head(key)).toEqual(second);
    },
    'conditionalDelete',
  );

  test('a generation never returns, not even for the same bytes', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}k`;
    const seen = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const { generation } = await write(store, key, 'same');
      expect(seen.has(generation)).toBe(false);
      for (const old of seen) {
        expect(await store.put(key, text('stale'), { ifGeneration: old })).toEqual({ outcome: 'conflict' });
      }
      seen.add(generation);
      await store.delete(key, { ifGeneration: generation });
    }
  });
}
