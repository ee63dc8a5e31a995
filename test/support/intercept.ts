import type { Clock } from '../../src/core/clock.ts';
import type { GetOptions, ListOptions, ObjectStore, PutOptions } from '../../src/store/object-store.ts';

export interface StoreCall {
  readonly operation: 'get' | 'head' | 'put' | 'delete' | 'list';
  /** The key, or the prefix of a list. */
  readonly key: string;
  readonly body?: Uint8Array;
  readonly get?: GetOptions;
  readonly put?: PutOptions;
  readonly list?: ListOptions;
}

/** Decides what becomes of a call; `go` lets it through to the store. */
export type Around = (call: StoreCall, go: () => Promise<unknown>) => Promise<unknown>;

/** A store whose every request passes through the test's hands: to look on, to hold back, to break. */
export function intercept(store: ObjectStore, around: Around): ObjectStore {
  const pass = <T>(call: StoreCall, go: () => Promise<T>) => around(call, go) as Promise<T>;
  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, o) => pass({ operation: 'get', key, ...(o ? { get: o } : {}) }, () => store.get(key, o)),
    head: (key, o) => pass({ operation: 'head', key }, () => store.head(key, o)),
    put: (key, body, o) =>
      pass({ operation: 'put', key, body, ...(o ? { put: o } : {}) }, () => store.put(key, body, o)),
    delete: (key, o) => pass({ operation: 'delete', key }, () => store.delete(key, o)),
    list: (o) => pass({ operation: 'list', key: o.prefix, list: o }, () => store.list(o)),
    close: () => store.close(),
  };
}

/** Runs `rival` once, at the very moment before the first call that `matches`. */
export function planting(
  store: ObjectStore,
  matches: (call: StoreCall) => boolean,
  rival: () => Promise<unknown>,
): ObjectStore {
  let planted = false;
  return intercept(store, async (call, go) => {
    if (!planted && matches(call)) {
      planted = true;
      await rival();
    }
    return go();
  });
}

/** Writes down every call that reaches `store`. */
export function recording(store: ObjectStore, calls: StoreCall[]): ObjectStore {
  return intercept(store, (call, go) => {
    calls.push(call);
    return go();
  });
}

/** Every request takes `ms` of the clock's time: elapsed time over `ms` is the number of dependent rounds. */
export function latent(store: ObjectStore, clock: Clock, ms: number): ObjectStore {
  return intercept(store, async (_, go) => {
    await clock.sleep(ms);
    return go();
  });
}

/** A gate that holds callers until it is opened. */
export function gate(): { opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}
