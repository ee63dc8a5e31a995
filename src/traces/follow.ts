import type { Clock } from '../core/clock.ts';
import { abortable } from '../core/concurrency.ts';
import { endOf, type TraceSlice } from './slice.ts';

/** Reads at most so many bytes from there on. */
export type ReadSlice = (from: number, signal: AbortSignal) => Promise<TraceSlice>;

/** What a shared tail keeps for those who are a little behind. */
const KEPT_BYTES_MAX = 1024 * 1024;
const KEPT_LINKS_MAX = 256;

/** A slice that was read for all, and the next one once somebody wants it. */
interface Link {
  readonly slice: TraceSlice;
  next: Promise<Link> | null;
  /** Dropped: who is still here goes on alone, so that nobody's slowness holds memory. */
  isOld: boolean;
}

interface TailOptions {
  clock: Clock;
  pollMs: number;
  read: ReadSlice;
}

/**
 * Who has come to the end of a live log waits there together with all others of this process: one look at the store per
 * pause, however many follow. Each leaves when it wants; a look ends with the last who waits for it.
 */
export class SharedTails {
  readonly #tails = new Map<string, Set<Tail>>();

  /**
   * A place where the log of that name is waited on, for who has all of it up to the end of `slice`: with others who
   * are there, or, where nobody is near, with those who come later.
   */
  join(name: string, slice: TraceSlice, options: TailOptions, signal: AbortSignal | undefined): Place {
    const tails = this.#tails.get(name) ?? new Set();
    this.#tails.set(name, tails);
    for (const tail of tails) {
      const link = tail.near(endOf(slice));
      if (link !== null) return new Place(tail, link, signal);
    }
    const tail = new Tail(slice, options, () => {
      tails.delete(tail);
      if (tails.size === 0) this.#tails.delete(name);
    });
    tails.add(tail);
    return new Place(tail, tail.near(endOf(slice))!, signal);
  }

  /** Logs that somebody waits on. */
  get size(): number {
    return this.#tails.size;
  }
}

/** One follower's place in a tail. */
class Place {
  readonly #tail: Tail;
  #link: Link;
  readonly #signal: AbortSignal | undefined;
  #left = false;

  constructor(tail: Tail, link: Link, signal: AbortSignal | undefined) {
    this.#tail = tail;
    this.#link = link;
    this.#signal = signal;
    tail.members++;
    // Who is not waiting just now must not be counted for ever.
    if (signal?.aborted) this.leave();
    else signal?.addEventListener('abort', this.leave, { once: true });
  }

  /** What comes next, for all alike; null: this follower was too slow, and reads on alone. Rejects as the look does. */
  async next(): Promise<TraceSlice | null> {
    if (this.#link.isOld) return null;
    this.#link = await abortable(this.#tail.after(this.#link), this.#signal);
    return this.#link.slice;
  }

  /** May be called again. */
  readonly leave = (): void => {
    if (this.#left) return;
    this.#left = true;
    this.#signal?.removeEventListener('abort', this.leave);
    this.#tail.members--;
    this.#tail.endIfEmpty();
  };
}

class Tail {
  members = 0;
  readonly #options: TailOptions;
  readonly #onEnd: () => void;
  readonly #stop = new AbortController();
  readonly #links: Link[] = [];

  constructor(slice: TraceSlice, options: TailOptions, onEnd: () => void) {
    this.#options = options;
    this.#onEnd = onEnd;
    this.#keep({ slice, next: null, isOld: false });
  }

  /** Where to go on for who has all bytes before `at`; null: nobody here is near. */
  near(at: number): Link | null {
    return (
      this.#links.findLast((link) => {
        const end = endOf(link.slice);
        return end <= at && at - end <= KEPT_BYTES_MAX;
      }) ?? null
    );
  }

  after(link: Link): Promise<Link> {
    link.next ??= this.#look(link);
    return link.next;
  }

  endIfEmpty(): void {
    if (this.members > 0) return;
    this.#stop.abort();
    this.#onEnd();
  }

  async #look(link: Link): Promise<Link> {
    const { clock, pollMs, read } = this.#options;
    const { signal } = this.#stop;
    try {
      if (link.slice.body.length === 0) await clock.sleep(pollMs, signal);
      const next: Link = { slice: await read(endOf(link.slice), signal), next: null, isOld: false };
      this.#keep(next);
      return next;
    } catch (error) {
      // All who wait are told; who asks later looks anew.
      link.next = null;
      throw error;
    }
  }

  #keep(link: Link): void {
    this.#links.push(link);
    let bytes = this.#links.reduce((sum, { slice }) => sum + slice.body.length, 0);
    while (this.#links.length > 1 && (bytes > KEPT_BYTES_MAX || this.#links.length > KEPT_LINKS_MAX)) {
      const dropped = this.#links.shift()!;
      bytes -= dropped.slice.body.length;
      dropped.isOld = true;
      dropped.next = null;
    }
  }
}
