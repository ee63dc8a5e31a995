import type { ObjectStore } from './object-store.ts';

/** Hands every call on: for wrappers that spread it and say what they do otherwise. */
export function passThrough(store: ObjectStore): ObjectStore {
  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, options) => store.get(key, options),
    head: (key, options) => store.head(key, options),
    put: (key, body, options) => store.put(key, body, options),
    delete: (key, options) => store.delete(key, options),
    list: (options) => store.list(options),
    close: () => store.close(),
  };
}
