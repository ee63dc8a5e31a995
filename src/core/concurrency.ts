import { cancelled, throwIfAborted } from './clock.ts';

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

/** Results that may wait for a caller who takes them one by one, per call in flight. */
const AHEAD = 4;

/**
 * Maps what comes by and by, with at most `parallel` calls in flight, and gives the results in order: unlike waves of
 * `mapParallel`, the next calls do not wait for the slowest of the last. A failure, of a call or of `items`, is thrown in
 * its place; then, and when the caller stops early, running calls are aborted and waited for.
 */
export async function* mapAhead<T, R>(
  items: AsyncIterable<T>,
  parallel: number,
  fn: (item: T, signal: AbortSignal) => Promise<R>,
  signal?: AbortSignal,
): AsyncGenerator<R, void, void> {
  const stop = new AbortController();
  const joined = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const queue: Promise<R>[] = [];
  let running = 0;
  let isDone = false;
  let change = Promise.withResolvers<void>();
  const changed = () => {
    change.resolve();
    change = Promise.withResolvers();
  };
  const call = async (item: T): Promise<R> => {
    running++;
    try {
      throwIfAborted(joined);
      return await fn(item, joined);
    } finally {
      running--;
      changed();
    }
  };
  const put = (result: Promise<R>) => {
    // Whoever takes it meets the failure; until then it must not end the process.
    result.catch(() => undefined);
    queue.push(result);
    changed();
  };
  const producing = (async () => {
    try {
      for await (const item of items) {
        while (!joined.aborted && (running >= parallel || queue.length >= AHEAD * parallel))
          await change.promise;
        if (stop.signal.aborted) return;
        put(call(item));
      }
    } catch (error) {
      put(Promise.reject(error));
    } finally {
      isDone = true;
      changed();
    }
  })();
  try {
    for (;;) {
      const next = queue[0];
      if (next === undefined) {
        if (isDone) return;
        await change.promise;
        continue;
      }
      const result = await next;
      queue.shift();
      changed();
      yield result;
    }
  } finally {
    stop.abort();
    changed();
    await producing;
    await Promise.allSettled(queue);
  }
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

/** Stops waiting when the caller gives up; what others wait for goes on. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(cancelled(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
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

/**
 * A look at something that changes, shared by all who ask before it begins: calls of one turn share one, and a call that
 * comes while one runs waits for the next, because the running one may have looked too early. So N callers cost at most
 * two looks at a time. What fails, fails for those who share it.
 */
export class SharedLook {
  readonly #look: () => Promise<void>;
  #running: Promise<void> | null = null;
  /** The next one, shared by all callers that came while one was running. */
  #waiting: Promise<void> | null = null;

  constructor(look: () => Promise<void>) {
    this.#look = look;
  }

  /** Resolves when a look has ended that began after this call. Who aborts stops waiting; others do not notice. */
  next(signal?: AbortSignal): Promise<void> {
    this.#waiting ??= this.#begin();
    return abortable(this.#waiting, signal);
  }

  #begin(): Promise<void> {
    const before = this.#running ?? Promise.resolve();
    const mine: Promise<void> = before
      .catch(() => undefined)
      .then(() => {
        this.#waiting = null;
        this.#running = mine;
        return this.#look();
      })
      .finally(() => {
        if (this.#running === mine) this.#running = null;
      });
    return mine;
  }
}
