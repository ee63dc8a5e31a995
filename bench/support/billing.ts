import type { Operation } from '../../src/store/latency.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';

/** What a store did for somebody, and what it refused (conflict, too often, absent): that is not charged for. */
export type Bill = Record<Operation, number> & { refused: number };

export function noBill(): Bill {
  return { get: 0, head: 0, put: 0, delete: 0, list: 0, refused: 0 };
}

/** Writes every request that comes to `store` on one bill. */
export function billing(store: ObjectStore, bill: Bill): ObjectStore {
  async function on<T>(operation: Operation, call: Promise<T>, granted: (answer: T) => boolean): Promise<T> {
    try {
      const answer = await call;
      bill[granted(answer) ? operation : 'refused']++;
      return answer;
    } catch (error) {
      bill.refused++;
      throw error;
    }
  }
  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, options) => on('get', store.get(key, options), ({ outcome }) => outcome === 'found'),
    head: (key, options) => on('head', store.head(key, options), (meta) => meta !== null),
    put: (key, body, options) =>
      on('put', store.put(key, body, options), ({ outcome }) => outcome === 'written'),
    delete: (key, options) => on('delete', store.delete(key, options), () => true),
    list: (options) => on('list', store.list(options), () => true),
    close: () => store.close(),
  };
}
