import { type Clock, cancelled, throwIfAborted } from '../core/clock.ts';
import { StoreError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { backoffMs } from '../core/retry.ts';
import type { DocumentKey, Documents, DocumentWrite } from './sql-documents.ts';

export interface SettlingOptions {
  clock: Clock;
  random: Random;
  limits: Limits;
}

/**
 * Deadline, retries with jitter, settled outcomes and draining around every call of `documents`.
 *
 * A write whose attempt got no clear answer is repeated with the same write id. When the repeat then meets another
 * state, the database is asked whose it is: ours counts as `written`. Another's leaves it `unknown`, for ours may
 * have been there and been replaced.
 */
export function settling(documents: Documents, options: SettlingOptions): Documents {
  const { clock, random, limits } = options;
  const inFlight = new Set<Promise<unknown>>();
  let closing: Promise<void> | null = null;

  /** One attempt: the adapter itself gives up when the signal fires, and says what it then knows. */
  async function attempt<T>(signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    const late = new AbortController();
    const timer = new AbortController();
    clock.sleep(limits.requestDeadlineMs, timer.signal).then(
      () => late.abort(deadlineExceeded(limits.requestDeadlineMs)),
      () => undefined,
    );
    try {
      return await call(AbortSignal.any([signal, late.signal]));
    } finally {
      timer.abort();
    }
  }

  /** Waits before the next attempt; false when none may follow. */
  async function again(n: number, deadline: number, problem: unknown, signal: AbortSignal): Promise<boolean> {
    const retryable = !(problem instanceof StoreError) || problem.retryable;
    if (!retryable || n + 1 >= limits.attemptsMax || signal.aborted) return false;
    const ms = backoffMs(n, limits, random);
    if (clock.monotonic() + ms >= deadline) return false;
    await clock.sleep(ms, signal).catch(() => undefined);
    // A process that was stopped meanwhile must not send a write that everybody has given up on.
    return !signal.aborted && clock.monotonic() < deadline;
  }

  async function read<T>(signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadline = clock.monotonic() + limits.operationDeadlineMs;
    for (let n = 0; ; n++) {
      try {
        return await attempt(signal, call);
      } catch (error) {
        if (signal.aborted) throw cancelled(signal);
        if (!(error instanceof StoreError) || !(await again(n, deadline, error, signal))) throw error;
      }
    }
  }

  async function write(
    signal: AbortSignal,
    call: (signal: AbortSignal) => Promise<DocumentWrite>,
  ): Promise<{ answer: DocumentWrite; doubted: boolean }> {
    const deadline = clock.monotonic() + limits.operationDeadlineMs;
    let doubt: DocumentWrite | null = null;
    for (let n = 0; ; n++) {
      let problem: unknown;
      try {
        const answer = await attempt(signal, call);
        if (answer.outcome !== 'unknown') return { answer, doubted: doubt !== null };
        doubt = answer;
        problem = answer.cause;
      } catch (error) {
        problem = error;
        if (doubt === null && signal.aborted) throw cancelled(signal);
        if (doubt === null && !(error instanceof StoreError)) throw error;
      }
      // After a doubt everything is worth another look, even what would be hopeless as a first answer.
      const retry = await again(n, deadline, doubt === null ? problem : null, signal);
      if (retry) continue;
      if (doubt !== null) return { answer: doubt, doubted: true };
      if (signal.aborted) throw cancelled(signal);
      throw problem;
    }
  }

  /** After a doubt: whose state is there? */
  async function settled(
    key: DocumentKey,
    writeId: string | null,
    { answer, doubted }: { answer: DocumentWrite; doubted: boolean },
    signal: AbortSignal,
  ): Promise<DocumentWrite> {
    if (!doubted || answer.outcome === 'written') return answer;
    const found = await read(signal, (stop) => documents.read(key, stop)).catch(() => undefined);
    if (found === undefined) return unknown(answer);
    if (writeId === null ? found === null : found?.writeId === writeId) return { outcome: 'written' };
    return unknown(answer);
  }

  function tracked<T>(work: () => Promise<T>): Promise<T> {
    if (closing !== null) return Promise.reject(closed(documents.url));
    const running = work();
    const settledWork = running.then(
      () => undefined,
      () => undefined,
    );
    inFlight.add(settledWork);
    settledWork.then(() => inFlight.delete(settledWork));
    return running;
  }

  return {
    url: documents.url,
    read: (key, signal) => tracked(() => read(signal, (stop) => documents.read(key, stop))),
    page: (query, signal) => tracked(() => read(signal, (stop) => documents.page(query, stop))),
    identity: (signal) => tracked(() => read(signal, (stop) => documents.identity(stop))),
    insert: (document, signal) =>
      tracked(async () => {
        const wrote = await write(signal, (stop) => documents.insert(document, stop));
        return settled(document, document.writeId, wrote, signal);
      }),
    update: (document, expected, signal) =>
      tracked(async () => {
        const wrote = await write(signal, (stop) => documents.update(document, expected, stop));
        return settled(document, document.writeId, wrote, signal);
      }),
    delete: (key, expected, signal) =>
      tracked(async () => {
        const wrote = await write(signal, (stop) => documents.delete(key, expected, stop));
        return settled(key, null, wrote, signal);
      }),
    close() {
      closing ??= (async () => {
        await Promise.all(inFlight);
        await documents.close();
      })();
      return closing;
    },
  };
}

function unknown(answer: DocumentWrite): DocumentWrite {
  return answer.outcome === 'unknown'
    ? answer
    : { outcome: 'unknown', cause: new Error('another write is there now') };
}

function deadlineExceeded(ms: number): StoreError {
  return new StoreError('DEADLINE_EXCEEDED', `No answer within ${ms} ms.`, { retryable: true });
}

function closed(url: string): StoreError {
  return new StoreError('STORE_FAILED', `The run store ${url} is closed.`, { retryable: false });
}
