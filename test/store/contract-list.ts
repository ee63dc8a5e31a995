import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { mapParallel } from '../../src/core/concurrency.ts';
import {
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
} from '../../src/store/object-store.ts';
import { type Contract, write } from './contract-kit.ts';

/** A store excepted from this test gets no small pages with a delimiter in the model test either. */
export const DELIMITER_PAGES = 'delimiter pages name each prefix once';

/** Every page of one listing; `between` runs before each page but the first. */
export async function listPages(
  store: ObjectStore,
  options: ListOptions,
  between?: (pages: ListPage[]) => Promise<void>,
): Promise<ListPage[]> {
  const pages: ListPage[] = [];
  for (let pageToken: string | undefined; ; ) {
    const page = await store.list({ ...options, pageToken });
    pages.push(page);
    if (page.next === null) return pages;
    if (pages.length > 10_000) throw new Error('the listing does not end');
    pageToken = page.next;
    await between?.(pages);
  }
}

const keysOf = (pages: readonly ListPage[]) => pages.flatMap((page) => page.items.map((item) => item.key));
const prefixesOf = (pages: readonly ListPage[]) => pages.flatMap((page) => page.prefixes);

export function describeLists(contract: Contract): void {
  const { test } = contract;

  async function fill(names: readonly string[]): Promise<string> {
    const prefix = contract.prefix();
    for (const name of names) await write(contract.store, prefix + name);
    return prefix;
  }

  test('a prefix without objects is an empty page', async () => {
    const page = await contract.store.list({ prefix: `${contract.prefix()}none/` });
    expect(page).toMatchObject({ items: [], prefixes: [], next: null });
  });

  test('keys come in byte order, also across the slash', async () => {
    const names = ['a/z', 'a-b', 'a.b', 'a/a', 'a/b/c', 'a0', 'A', 'ab', 'a/b.c', 'a.c/x', '_', '~', 'a%2Fb'];
    const prefix = await fill(names);
    const pages = await listPages(contract.store, { prefix });
    expect(keysOf(pages)).toEqual(names.map((name) => prefix + name).sort());
  });

  test('a prefix need not end at a slash', async () => {
    const prefix = await fill(['log/1', 'log/2', 'log-x', 'lo', 'm/1']);
    const under = async (part: string) => keysOf(await listPages(contract.store, { prefix: prefix + part }));
    expect(await under('lo')).toEqual(['lo', 'log-x', 'log/1', 'log/2'].map((name) => prefix + name));
    expect(await under('log')).toEqual(['log-x', 'log/1', 'log/2'].map((name) => prefix + name));
    expect(await under('log/')).toEqual(['log/1', 'log/2'].map((name) => prefix + name));
    expect(await under('log/2')).toEqual([`${prefix}log/2`]);
    expect(await under('log/2/')).toEqual([]);
  });

  test('start is inclusive, end is exclusive', async () => {
    const prefix = await fill(['a', 'b', 'c/1', 'c/2', 'd', 'e']);
    const between = async (start?: string, end?: string) => {
      const bounds = {
        start: start === undefined ? undefined : prefix + start,
        end: end === undefined ? undefined : prefix + end,
      };
      const keys = keysOf(await listPages(contract.store, { prefix, ...bounds }));
      return keys.map((key) => key.slice(prefix.length));
    };
    expect(await between('b', 'd')).toEqual(['b', 'c/1', 'c/2']);
    expect(await between('bb', 'c/2')).toEqual(['c/1']);
    expect(await between('c/2')).toEqual(['c/2', 'd', 'e']);
    expect(await between(undefined, 'b')).toEqual(['a']);
    expect(await between('c', 'c')).toEqual([]);
    expect(await between('d', 'b')).toEqual([]);
    expect(await between('x')).toEqual([]);
  });

  test('bounds outside the prefix do not widen it', async () => {
    const prefix = await fill(['p/1', 'p/2', 'q/1']);
    const bounds = { start: prefix, end: `${prefix}z` };
    const keys = keysOf(await listPages(contract.store, { prefix: `${prefix}p/`, ...bounds }));
    expect(keys).toEqual([`${prefix}p/1`, `${prefix}p/2`]);
  });

  test('delimiter groups keys into prefixes', async () => {
    const prefix = await fill(['a', 'b/1', 'b/2/3', 'b.x', 'c/1', 'd']);
    const pages = await listPages(contract.store, { prefix, delimiter: '/' });
    expect(keysOf(pages)).toEqual(['a', 'b.x', 'd'].map((name) => prefix + name));
    expect(prefixesOf(pages)).toEqual(['b/', 'c/'].map((name) => prefix + name));
    const below = await listPages(contract.store, { prefix: `${prefix}b/`, delimiter: '/' });
    expect(keysOf(below)).toEqual([`${prefix}b/1`]);
    expect(prefixesOf(below)).toEqual([`${prefix}b/2/`]);
  });

  test(DELIMITER_PAGES, async () => {
    const prefix = await fill(['a', 'b/1', 'b/2', 'b/3', 'c', 'd/1', 'd/2', 'e/1']);
    const pages = await listPages(contract.store, { prefix, delimiter: '/', limit: 2 });
    expect(keysOf(pages)).toEqual(['a', 'c'].map((name) => prefix + name));
    expect(prefixesOf(pages)).toEqual(['b/', 'd/', 'e/'].map((name) => prefix + name));
    for (const page of pages) expect(page.items.length + page.prefixes.length).toBeLessThanOrEqual(2);
  });

  test('a prefix whose objects are all deleted is not listed', async () => {
    const prefix = contract.prefix();
    const { generation } = await write(contract.store, `${prefix}gone/x/1`);
    await write(contract.store, `${prefix}kept/1`);
    await contract.store.delete(`${prefix}gone/x/1`, { ifGeneration: generation });
    const pages = await listPages(contract.store, { prefix, delimiter: '/' });
    expect(prefixesOf(pages)).toEqual([`${prefix}kept/`]);
  });

  test('more than one page of objects', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const names = Array.from({ length: contract.options.pagingObjects }, (_, i) => `${(i * 7919) % 100_003}`);
    const written = await mapParallel(names, 32, (name) => write(store, prefix + name, name));
    const expected = written.map((meta) => meta.key).sort();

    const pages = await listPages(store, { prefix });
    expect(keysOf(pages)).toEqual(expected);
    for (const page of pages) expect(page.items.length).toBeLessThanOrEqual(LIST_PAGE_MAX);
    const byKey = new Map(pages.flatMap((page) => page.items.map((item) => [item.key, item] as const)));
    for (const meta of written) expect(byKey.get(meta.key)).toEqual(meta);

    const small = await listPages(store, { prefix, limit: 100 });
    expect(keysOf(small)).toEqual(expected);
    for (const page of small) expect(page.items.length).toBeLessThanOrEqual(100);

    const [from, to] = [expected[100]!, expected[250]!];
    const part = await listPages(store, { prefix, start: from, end: to, limit: 40 });
    expect(keysOf(part)).toEqual(expected.slice(100, 250));
  });

  test('pages go on past concurrent inserts and deletes', async () => {
    const { store } = contract;
    const names = Array.from({ length: 20 }, (_, i) => String(100 + i * 10));
    const prefix = await fill(names);
    const inserted: string[] = [];
    let removed = '';
    const pages = await listPages(store, { prefix, limit: 5 }, async (before) => {
      const last = Number.parseInt(before.at(-1)!.items.at(-1)!.key.slice(prefix.length), 10);
      await write(store, `${prefix}0${before.length}`);
      const ahead = `${prefix}${last + 40}x`;
      await write(store, ahead);
      inserted.push(ahead);
      if (removed !== '') return;
      removed = `${prefix}${last + 30}`;
      const meta = await store.head(removed);
      await store.delete(removed, { ifGeneration: meta!.generation });
    });
    const keys = keysOf(pages);
    expect(keys).toEqual([...new Set(keys)].sort());
    for (const name of names) expect(keys.includes(prefix + name)).toBe(prefix + name !== removed);
    // Written before the page that covers them was asked for, so consistency puts them there.
    for (const key of inserted) expect(keys).toContain(key);
  });

  test('every write is in the next list, every delete is not', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const live = new Map<string, ObjectMeta>();
    for (let i = 0; i < 30; i++) {
      const key = `${prefix}${(i * 37) % 101}`;
      live.set(key, await write(store, key));
      if (i % 3 === 2) {
        const [oldest, meta] = live.entries().next().value!;
        await store.delete(oldest, { ifGeneration: meta.generation });
        live.delete(oldest);
      }
      const page = await store.list({ prefix });
      expect(page.items.map((item) => item.key)).toEqual([...live.keys()].sort());
    }
  });

  test('the server time of a list is no later than what comes after it', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    for (let i = 0; i < 5; i++) {
      const page = await store.list({ prefix });
      const meta = await write(store, `${prefix}${i}`);
      expect(page.serverTime).toBeLessThanOrEqual(meta.createdAt);
    }
  });

  /**
   * Readers list on from an earlier serverTime, compactors fold up to one. An append is acknowledged by the time
   * `createdAt` + what the put took, the latest at which the object can have become visible.
   */
  test('whatever was visible before the server time of a list is in it', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    let writing = true;
    const pages: ListPage[] = [];
    const lister = (async () => {
      while (writing) {
        pages.push(await store.list({ prefix }));
        await sleep(1);
      }
    })();
    const keys = Array.from({ length: 120 }, (_, i) => `${prefix}${1000 + i}`);
    const written = await mapParallel(keys, 8, async (key) => {
      const began = performance.now();
      const meta = await write(store, key);
      return { key, visibleBy: meta.createdAt + (performance.now() - began) };
    });
    writing = false;
    await lister;
    for (const page of pages) {
      const shown = new Set(page.items.map((item) => item.key));
      expect(written.filter((one) => one.visibleBy < page.serverTime && !shown.has(one.key))).toEqual([]);
    }
  });
}
