import { crc32c } from '../../src/core/crc32c.ts';
import {
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
} from '../../src/store/object-store.ts';

export interface Keyspace {
  /** The objects' keys: this prefix and a number of nine digits. */
  prefix: string;
  count: number;
  body(number: number): Uint8Array;
}

/** A store that also holds `count` objects which nobody stored: they are made up as they are asked for. */
export function withKeyspace(store: ObjectStore, { prefix, count, body }: Keyspace): ObjectStore {
  const keyOf = (number: number) => `${prefix}${String(number).padStart(9, '0')}`;
  const numberOf = (key: string) => {
    const number = key.startsWith(prefix) ? Number(key.slice(prefix.length)) : Number.NaN;
    return number < count && keyOf(number) === key ? number : null;
  };
  const metaOf = (number: number): ObjectMeta => {
    const bytes = body(number);
    return {
      key: keyOf(number),
      generation: '1',
      sizeBytes: bytes.length,
      crc32c: crc32c(bytes),
      createdAt: 0,
      metadata: {},
    };
  };

  /** Only under the prefix itself: the page of a wider one would have to merge both. */
  async function page({ pageToken, limit = LIST_PAGE_MAX }: ListOptions): Promise<ListPage> {
    const first = pageToken === undefined ? 0 : Number(pageToken);
    const end = Math.min(count, first + limit);
    const { serverTime } = await store.list({ prefix, limit: 1 });
    return {
      items: Array.from({ length: end - first }, (_, i) => metaOf(first + i)),
      prefixes: [],
      next: end < count ? String(end) : null,
      serverTime,
    };
  }

  return {
    url: store.url,
    capabilities: store.capabilities,
    async get(key, options) {
      const number = numberOf(key);
      if (number === null) return store.get(key, options);
      const absent = await store.get(key, options);
      return { outcome: 'found', meta: metaOf(number), body: body(number), serverTime: absent.serverTime };
    },
    head: async (key, options) => {
      const number = numberOf(key);
      return number === null ? store.head(key, options) : metaOf(number);
    },
    put: (key, bytes, options) => store.put(key, bytes, options),
    delete: (key, options) => store.delete(key, options),
    list: (options) => (options.prefix === prefix ? page(options) : store.list(options)),
    close: () => store.close(),
  };
}
