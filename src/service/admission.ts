import { LRUCache } from 'lru-cache';
import { type Clock, cancelled, throwIfAborted } from '../core/clock.ts';
import type { ServiceLimits } from './limits.ts';
import { Problem } from './problem.ts';

/** Buckets of orgs that have been quiet are full again, so forgetting the oldest is harmless. */
const ORGS_MAX = 10_000;

interface Bucket {
  tokens: number;
  at: number;
}

/** A token bucket per org. */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #buckets = new LRUCache<string, Bucket>({ max: ORGS_MAX });

  constructor(clock: Clock, { orgRequestsPerSecond, orgBurst }: ServiceLimits) {
    this.#clock = clock;
    this.#perSecond = orgRequestsPerSecond;
    this.#burst = orgBurst;
  }

  /** Throws RATE_LIMITED, saying when to come again. */
  take(org: string): void {
    const bucket = this.#refilled(org);
    if (bucket.tokens < 1) {
      const seconds = Math.max(1, Math.ceil((1 - bucket.tokens) / this.#perSecond));
      throw new Problem('RATE_LIMITED', `The org sends more than ${this.#perSecond} requests per second.`, {
        hint: `Wait ${seconds} s, and spread requests.`,
        headers: { 'retry-after': String(seconds) },
      });
    }
    bucket.tokens -= 1;
  }

  /** What a request that was let in turns out to be worth besides itself: the org's next requests wait for it. */
  charge(org: string, cost: number): void {
    this.#refilled(org).tokens -= cost;
  }

  #refilled(org: string): Bucket {
    const now = this.#clock.monotonic();
    const bucket = this.#buckets.get(org) ?? { tokens: this.#burst, at: now };
    bucket.tokens = Math.min(this.#burst, bucket.tokens + ((now - bucket.at) / 1_000) * this.#perSecond);
    bucket.at = now;
    this.#buckets.set(org, bucket);
    return bucket;
  }
}

interface Places {
  inFlight: number;
  readonly waiting: (() => void)[];
}

/**
 * At most so many requests of one org are worked on, and so many wait, first come first served: an org that floods
 * the service waits for itself, not others for it.
 */
export class Admission {
  readonly #limits: ServiceLimits;
  readonly #orgs = new Map<string, Places>();
  readonly #exports = new Map<string, number>();
  #inFlight = 0;

  constructor(limits: ServiceLimits) {
    this.#limits = limits;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests that wait for a place of their org. */
  get waiting(): number {
    let waiting = 0;
    for (const places of this.#orgs.values()) waiting += places.waiting.length;
    return waiting;
  }

  /** Throws OVERLOADED when the process is full. The function must be called when the request is done. */
  enter(): () => void {
    if (this.#inFlight >= this.#limits.inFlightMax) {
      throw new Problem('OVERLOADED', 'The service has too much to do.', {
        hint: 'Repeat the request later.',
      });
    }
    this.#inFlight++;
    return once(() => this.#inFlight--);
  }

  /** Waits for a place of the org; throws RATE_LIMITED when too many wait already. */
  async enterOrg(org: string, signal: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    const places = this.#orgs.get(org) ?? { inFlight: 0, waiting: [] };
    this.#orgs.set(org, places);
    if (places.inFlight >= this.#limits.orgInFlightMax) await this.#wait(places, signal);
    else places.inFlight++;
    return once(() => {
      const next = places.waiting.shift();
      // The place goes to the next in line without ever being free.
      if (next !== undefined) next();
      else if (--places.inFlight === 0) this.#orgs.delete(org);
    });
  }

  /**
   * For an export, which takes as long as its reader does. Throws RATE_LIMITED when the org has too many under way,
   * OVERLOADED when the process has. The function must be called when it ends; a drain waits for that.
   */
  enterExport(org: string): () => void {
    const { orgExportsMax, exportsMax } = this.#limits;
    const own = this.#exports.get(org) ?? 0;
    if (own >= orgExportsMax) {
      throw new Problem('RATE_LIMITED', `The org has ${orgExportsMax} exports under way.`, {
        hint: 'Wait until one of them has ended.',
      });
    }
    if (this.exports >= exportsMax) {
      throw new Problem('OVERLOADED', 'The service has too many exports under way.', {
        hint: 'Repeat the request later.',
      });
    }
    const leave = this.enter();
    this.#exports.set(org, own + 1);
    return once(() => {
      leave();
      const left = this.#exports.get(org)! - 1;
      if (left === 0) this.#exports.delete(org);
      else this.#exports.set(org, left);
    });
  }

  get exports(): number {
    let exports = 0;
    for (const own of this.#exports.values()) exports += own;
    return exports;
  }

  #wait(places: Places, signal: AbortSignal): Promise<void> {
    if (places.waiting.length >= this.#limits.orgWaitingMax) {
      throw new Problem('RATE_LIMITED', 'Too many requests of the org wait already.', {
        hint: 'Send fewer requests at a time.',
      });
    }
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      const stop = () => {
        places.waiting.splice(places.waiting.indexOf(go), 1);
        reject(cancelled(signal));
      };
      places.waiting.push(go);
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}

function once(release: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    release();
  };
}
