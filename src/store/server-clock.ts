import type { Clock } from '../core/clock.ts';
import type { ObjectStore } from './object-store.ts';

/** Some stores tell the time in whole seconds. */
const RESOLUTION_MS = 1_000;

/**
 * An estimate of the store's clock, learned from its answers. Entries are named by it and lifecycle times are taken
 * from it, so that machines with wrong clocks agree. It errs by no more than the last request took, plus a second.
 */
export class ServerClock {
  readonly #clock: Clock;
  #offsetMs = 0;
  #isKnown = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return Math.floor(this.#clock.now() + this.#offsetMs);
  }

  /** Whether any answer has told the time from both sides; before, `now` is local time. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /**
   * At some instant since `sentAt` (local time) the server's clock stood between `serverTime` and `serverTime +
   * spreadMs`. The estimate moves only as far as that demands (Marzullo's idea for one source), so that it does
   * not jitter.
   */
  learn(serverTime: number, spreadMs: number, sentAt: number): void {
    const least = serverTime - this.#clock.now();
    const most = serverTime + spreadMs - sentAt;
    if (Number.isFinite(spreadMs)) this.#isKnown = true;
    this.#offsetMs = Math.min(Math.max(this.#offsetMs, least), Math.max(least, most));
  }
}

/** Nobody's key: an answer that it is not there tells the time as well. */
const CLOCK_KEY = 'catalog/clock';

/**
 * Asks a calibrated store for the time, where no answer has told it yet: one GET, shared by all who come meanwhile. A
 * LIST would not do: it only says how late it is at least.
 */
export function timeAsked(store: ObjectStore, serverClock: ServerClock): () => Promise<void> {
  let asking: Promise<unknown> | null = null;
  return async () => {
    if (serverClock.isKnown) return;
    asking ??= store.get(CLOCK_KEY).finally(() => {
      asking = null;
    });
    await asking;
  };
}

/** Lets `serverClock` learn from every answer that tells the server's time. */
export function calibrating(store: ObjectStore, clock: Clock, serverClock: ServerClock): ObjectStore {
  return {
    url: store.url,
    capabilities: store.capabilities,
    async get(key, options) {
      const sentAt = clock.now();
      const got = await store.get(key, options);
      serverClock.learn(got.serverTime, RESOLUTION_MS + clock.now() - sentAt, sentAt);
      return got;
    },
    head: (key, options) => store.head(key, options),
    async put(key, body, options) {
      const sentAt = clock.now();
      const put = await store.put(key, body, options);
      if (put.outcome === 'written') serverClock.learn(put.meta.createdAt, 0, sentAt);
      return put;
    },
    delete: (key, options) => store.delete(key, options),
    async list(options) {
      const page = await store.list(options);
      // Only a lower bound: the page may show a later instant.
      serverClock.learn(page.serverTime, Number.POSITIVE_INFINITY, 0);
      return page;
    },
    close: () => store.close(),
  };
}
