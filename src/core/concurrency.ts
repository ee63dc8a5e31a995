import { throwIfAborted } from './clock.ts';

/**
 * Maps with at most `parallel` calls in flight, keeping order. The first failure stops new calls, aborts the
 * signal that running ones hold, waits for them and is rethrown.
 */
export async function mapParallel<T, R>(
  items: readonly T[],
  parallel: number,
  fn: (item: T, signal: AbortSignal, index: number) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  const stop = new AbortController();
  const joined = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  let next = 0;
  let failure: { error: unknown } | null = null;
  const worker = async () => {
    while (next < items.length && failure === null) {
      const index = next++;
      try {
        throwIfAborted(signal);
        results[index] = await fn(items[index]!, joined, index);
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallel, items.length) }, worker));
  if (failure !== null) throw (failure as { error: unknown }).error;
  return results;
}

/** Runs both at once; the first failure cancels the other. */
export async function both<A, B>(
  calls: readonly [(signal: AbortSignal) => Promise<A>, (signal: AbortSignal) => Promise<B>],
  signal: AbortSignal | undefined,
): Promise<[A, B]> {
  const results = await mapParallel<(signal: AbortSignal) => Promise<A | B>, A | B>(
    calls,
    2,
    (call, stop) => call(stop),
    signal,
  );
  return results as [A, B];
}

/** Runs tasks of one key one after another; different keys run side by side. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const mine = before.then(task);
    const tail = mine.then(
      () => undefined,
      () => undefined,
    );
    this.#tails.set(key, tail);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
