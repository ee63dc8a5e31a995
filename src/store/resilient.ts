import { type Clock, cancelled, throwIfAborted } from '../core/clock.ts';
import { StoreError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { backoffMs, withDeadline } from '../core/retry.ts';
import type { DeleteOptions, DeleteOutcome, ObjectStore, PutOptions, PutOutcome } from './object-store.ts';

/** Custom metadata that tells our own write from another's after a lost response. */
export const WRITE_ID = 'rf-write';

export interface ResilientOptions {
  clock: Clock;
  random: Random;
  limits: Limits;
  onRetry?: (operation: string, key: string, error: unknown) => void;
}

/**
 * Deadline, retry with jitter and cancellation around every call: the only retry loop there is.
 *
 * A put whose attempt got no clear answer is repeated with the same bytes and precondition. When the repeat
 * then meets a conflict, the store is asked whose write it is: ours counts as `written`; another's as `conflict`
 * where ours can never have been there, else `unknown`.
 */
export function resilient(store: ObjectStore, options: ResilientOptions): ObjectStore {
  const { clock, random, limits } = options;

  async function pause(attempt: number, deadline: number, error: unknown, signal: AbortSignal | undefined) {
    const asked = error instanceof StoreError ? (error.retryAfterMs ?? 0) : 0;
    const ms = Math.max(asked, backoffMs(attempt, limits, random));
    if (clock.monotonic() + ms >= deadline) return false;
    await clock.sleep(ms, signal);
    // A process that was stopped meanwhile must not send a write that everybody has given up on.
    return clock.monotonic() < deadline;
  }

  async function read<T>(
    operation: string,
    key: string,
    signal: AbortSignal | undefined,
    call: (signal: AbortSignal) => Promise<T>,
  ) {
    const deadline = clock.monotonic() + limits.operationDeadlineMs;
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await withDeadline(clock, limits.requestDeadlineMs, signal, call);
      } catch (error) {
        if (signal?.aborted) throw cancelled(signal);
        if (!isRetryable(error) || attempt + 1 >= limits.attemptsMax) throw error;
        options.onRetry?.(operation, key, error);
        if (!(await pause(attempt, deadline, error, signal))) throw error;
      }
    }
  }

  /** One attempt of a write: no answer in time, or none because the caller gave up, is `unknown`. */
  async function attemptWrite<T extends { outcome: string }>(
    signal: AbortSignal | undefined,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | { outcome: 'unknown'; cause: unknown }> {
    try {
      return await withDeadline(clock, limits.requestDeadlineMs, signal, call);
    } catch (error) {
      const cutShort = signal?.aborted || (error instanceof StoreError && error.code === 'DEADLINE_EXCEEDED');
      if (cutShort) return { outcome: 'unknown', cause: error };
      throw error;
    }
  }

  async function write<T extends { outcome: string }>(
    operation: string,
    key: string,
    signal: AbortSignal | undefined,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ answer: T | { outcome: 'unknown'; cause: unknown }; doubted: boolean }> {
    const deadline = clock.monotonic() + limits.operationDeadlineMs;
    let doubt: { outcome: 'unknown'; cause: unknown } | null = null;
    throwIfAborted(signal);
    for (let attempt = 0; ; attempt++) {
      let problem: unknown;
      try {
        const answer = await attemptWrite(signal, call);
        if (answer.outcome !== 'unknown') return { answer, doubted: doubt !== null };
        doubt = answer as { outcome: 'unknown'; cause: unknown };
        problem = doubt.cause;
      } catch (error) {
        if (!isRetryable(error)) {
          if (doubt) return { answer: doubt, doubted: true };
          throw error;
        }
        problem = error;
      }
      options.onRetry?.(operation, key, problem);
      const again =
        attempt + 1 < limits.attemptsMax &&
        !signal?.aborted &&
        (await pause(attempt, deadline, problem, signal).catch(() => false));
      if (again) continue;
      if (doubt) return { answer: doubt, doubted: true };
      if (signal?.aborted) throw cancelled(signal);
      throw problem;
    }
  }

  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, o = {}) => read('get', key, o.signal, (signal) => store.get(key, { ...o, signal })),
    head: (key, o = {}) => read('head', key, o.signal, (signal) => store.head(key, { ...o, signal })),
    list: (o) => read('list', o.prefix, o.signal, (signal) => store.list({ ...o, signal })),
    close: () => store.close(),

    async put(key: string, body: Uint8Array, o: PutOptions = {}): Promise<PutOutcome> {
      const id = `${random.u32().toString(36)}-${random.u32().toString(36)}`;
      const metadata = { ...o.metadata, [WRITE_ID]: id };
      const { answer, doubted } = await write('put', key, o.signal, (signal) =>
        store.put(key, body, { ...o, metadata, signal }),
      );
      if (!doubted || answer.outcome === 'written') return answer;
      const meta = await read('head', key, o.signal, (signal) => store.head(key, { signal })).catch(
        () => undefined,
      );
      if (meta?.metadata[WRITE_ID] === id) return { outcome: 'written', meta };
      return answer.outcome === 'conflict'
        ? { outcome: 'unknown', cause: new Error('another write is there now') }
        : answer;
    },

    async delete(key: string, o: DeleteOptions): Promise<DeleteOutcome> {
      const { answer } = await write('delete', key, o.signal, (signal) =>
        store.delete(key, { ...o, signal }),
      );
      return answer;
    },
  };
}

function isRetryable(error: unknown): boolean {
  return error instanceof StoreError && error.retryable;
}
