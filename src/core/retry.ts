import type { Clock } from './clock.ts';
import { throwIfAborted } from './clock.ts';
import { StoreError } from './errors.ts';
import type { Limits } from './limits.ts';
import { type Random, uniform } from './random.ts';

/**
 * Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): a uniform wait in [0, base · 2^attempt),
 * bounded. `attempt` starts at 0.
 */
export function backoffMs(attempt: number, limits: Limits, random: Random): number {
  const bound = Math.min(limits.backoffMaxMs, limits.backoffBaseMs * 2 ** attempt);
  return Math.ceil(uniform(random) * bound);
}

/**
 * Runs `call` with a signal that fires after `ms`, and stops waiting then even where `call` ignores its signal.
 * The late result of such a call is dropped: the caller must treat a write as unknown.
 */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal | undefined,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const controller = new AbortController();
  const timer = new AbortController();
  const stop = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
  });
  stop.catch(() => undefined);
  const onAbort = () => controller.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  clock.sleep(ms, timer.signal).then(
    () =>
      controller.abort(
        new StoreError('DEADLINE_EXCEEDED', `No answer within ${ms} ms.`, { retryable: true }),
      ),
    () => undefined,
  );
  try {
    return await Promise.race([call(controller.signal), stop]);
  } finally {
    timer.abort(null);
    signal?.removeEventListener('abort', onAbort);
  }
}
