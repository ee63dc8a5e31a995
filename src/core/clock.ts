import { RunfoldError } from './errors.ts';

/** Time as a dependency, so that a simulation can own it. */
export interface Clock {
  /** Wall clock, ms since the epoch, UTC. May jump; never trust it across machines. */
  now(): number;
  /** Monotonic ms for durations; the origin means nothing. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
};

/** Throws the caller's own reason, as a CANCELLED error where it gave none. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw cancelled(signal);
}

export function cancelled(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  if (reason instanceof Error && reason.name !== 'AbortError') return reason;
  return new RunfoldError('CANCELLED', 'The operation was cancelled by the caller.', { cause: reason });
}
