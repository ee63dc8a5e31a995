import type { Clock } from '../core/clock.ts';
import { isRunfoldError } from '../core/errors.ts';
import type { Happenings, Telemetry } from '../core/telemetry.ts';
import type { ObjectStore } from './object-store.ts';

type Operation = Happenings['store']['operation'];

/** Tells `telemetry` of every call: what it was, how it ended and how long it took. Never of which object. */
export function watched(store: ObjectStore, clock: Clock, telemetry: Telemetry): ObjectStore {
  async function timed<T>(
    operation: Operation,
    call: () => Promise<T>,
    outcomeOf: (answer: T) => string,
  ): Promise<T> {
    const began = clock.monotonic();
    let outcome = 'failed';
    try {
      const answer = await call();
      outcome = outcomeOf(answer);
      return answer;
    } catch (error) {
      if (isRunfoldError(error)) outcome = error.code;
      throw error;
    } finally {
      telemetry.tell('store', { operation, outcome, ms: clock.monotonic() - began });
    }
  }
  // While nobody watches the call goes through as it is, without so much as another turn.
  const watch = <T>(operation: Operation, call: () => Promise<T>, outcomeOf: (answer: T) => string) =>
    telemetry.watched ? timed(operation, call, outcomeOf) : call();
  const outcome = (answer: { outcome: string }) => answer.outcome;
  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, options) => watch('get', () => store.get(key, options), outcome),
    head: (key, options) => watch('head', () => store.head(key, options), foundOrAbsent),
    put: (key, body, options) => watch('put', () => store.put(key, body, options), outcome),
    delete: (key, options) => watch('delete', () => store.delete(key, options), outcome),
    list: (options) =>
      watch(
        'list',
        () => store.list(options),
        () => 'listed',
      ),
    close: () => store.close(),
  };
}

function foundOrAbsent(meta: object | null): string {
  return meta === null ? 'absent' : 'found';
}
