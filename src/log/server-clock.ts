import type { Clock } from '../core/clock.ts';

/**
 * An estimate of the store's clock, learned from its answers. Entries are named by it, and `updated_at` is taken
 * from it, so that machines with wrong clocks agree.
 */
export class ServerClock {
  readonly #clock: Clock;
  #offsetMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return Math.floor(this.#clock.now() + this.#offsetMs);
  }

  /** `serverTime` was true at some instant while the request that began at `sentAt` (local) ran until now. */
  learn(serverTime: number, sentAt: number): void {
    const receivedAt = this.#clock.now();
    this.#offsetMs = serverTime - (sentAt + receivedAt) / 2;
  }
}
