import type { ObjectStore } from './object-store.ts';

export interface RequestCounts {
  get: number;
  head: number;
  put: number;
  delete: number;
  list: number;
  /** Body bytes read and written; of lists, the custom metadata that came along. */
  bytesRead: number;
  bytesWritten: number;
}

export function noRequests(): RequestCounts {
  return { get: 0, head: 0, put: 0, delete: 0, list: 0, bytesRead: 0, bytesWritten: 0 };
}

export function requestsOf(counts: RequestCounts): number {
  return counts.get + counts.head + counts.put + counts.delete + counts.list;
}

/** Counts every request that really goes to `store`, retries included when it is the innermost wrapper. */
export function counting(store: ObjectStore, counts: RequestCounts): ObjectStore {
  return {
    url: store.url,
    capabilities: store.capabilities,
    async get(key, options) {
      counts.get++;
      const got = await store.get(key, options);
      if (got.outcome === 'found') counts.bytesRead += got.body.length;
      return got;
    },
    head(key, options) {
      counts.head++;
      return store.head(key, options);
    },
    put(key, body, options) {
      counts.put++;
      counts.bytesWritten += body.length;
      return store.put(key, body, options);
    },
    delete(key, options) {
      counts.delete++;
      return store.delete(key, options);
    },
    async list(options) {
      counts.list++;
      const page = await store.list(options);
      for (const item of page.items) {
        counts.bytesRead += item.key.length;
        for (const [name, value] of Object.entries(item.metadata))
          counts.bytesRead += name.length + value.length;
      }
      return page;
    },
    close: () => store.close(),
  };
}
