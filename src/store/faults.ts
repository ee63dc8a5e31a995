import { type Clock, throwIfAborted } from '../core/clock.ts';
import { StoreError } from '../core/errors.ts';
import { type Random, uniform } from '../core/random.ts';
import type { GetOutcome, ListPage, ObjectStore } from './object-store.ts';

/** Everything that can go wrong between a client and a store, one kind each. */
export const FAULTS = [
  /** An error; the call had no effect. */
  'refused',
  /** An error after the call took effect: a write's outcome is unknown. */
  'answer_lost',
  /** A write that takes effect only after its caller was told nothing is known; at most `lateMs` later. */
  'late_write',
  /** No answer for `stallMs`, then the call takes effect. */
  'stall_before',
  /** The call takes effect, then no answer for `stallMs`. */
  'stall_after',
  /** 429 to everybody for `burstMs`. */
  'burst',
  /** 429 to a second change of one name within `nameIntervalMs`. */
  'name_throttled',
  /** A body that ends early. */
  'truncated',
  /** One bit of a body is flipped. */
  'flipped_body',
  /** One character of custom metadata in a LIST item is another. */
  'flipped_metadata',
  /** A LIST answers with at most `pageMax` items. */
  'short_page',
] as const;
export type Fault = (typeof FAULTS)[number];

const NAMES_MAX = 1_000;
const SPOIL_AGAIN_MS = 300_000;

export interface FaultPlanOptions {
  random: Random;
  clock: Clock;
  /** Probability per call to which the fault applies. `name_throttled` and `short_page` are rules, not chances. */
  rates?: Partial<Record<Exclude<Fault, 'name_throttled' | 'short_page'>, number>>;
  lateMs?: number;
  stallMs?: number;
  burstMs?: number;
  /** 0: the rule is off. GCS: 1000. */
  nameIntervalMs?: number;
  pageMax?: number;
}

/** Which fault strikes which call, drawn from one seeded source, and how often each did. */
export class FaultPlan {
  readonly counts: Record<Fault, number> = noFaults();
  readonly options: Required<FaultPlanOptions>;
  #calm = false;
  #burstUntil = Number.NEGATIVE_INFINITY;
  readonly #changed: Recently;
  readonly #spoilt: Recently;

  constructor(options: FaultPlanOptions) {
    this.options = {
      rates: {},
      lateMs: 60_000,
      stallMs: 60_000,
      burstMs: 2_000,
      nameIntervalMs: 1_000,
      pageMax: 1_000,
      ...options,
    };
    this.#changed = new Recently(options.clock);
    this.#spoilt = new Recently(options.clock);
  }

  /** No further fault strikes. Writes that are late already still land. */
  calm(): void {
    this.#calm = true;
  }

  strikes(fault: keyof NonNullable<FaultPlanOptions['rates']>): boolean {
    const rate = this.options.rates[fault] ?? 0;
    if (this.#calm || rate === 0 || uniform(this.options.random) >= rate) return false;
    this.counts[fault]++;
    return true;
  }

  /** A uniform integer in [0, n). */
  below(n: number): number {
    return Math.floor(uniform(this.options.random) * n);
  }

  /** Throws where the store is, or becomes, too busy for anybody. */
  throttle(): void {
    const { clock, burstMs } = this.options;
    const now = clock.monotonic();
    if (this.#calm) return;
    if (now < this.#burstUntil) this.counts.burst++;
    else if (this.strikes('burst')) this.#burstUntil = now + burstMs;
    else return;
    throw throttled('Too many requests.', this.#burstUntil - now);
  }

  /** Throws where `key` was changed less than `nameIntervalMs` ago; `changed` says when it was. */
  throttleName(key: string): void {
    const { nameIntervalMs } = this.options;
    const since = this.#changed.since(key);
    if (this.#calm || since >= nameIntervalMs) return;
    this.counts.name_throttled++;
    throw throttled(`The rate of changes of ${key} is too high.`, nameIntervalMs - since);
  }

  changed(key: string): void {
    const { nameIntervalMs } = this.options;
    if (nameIntervalMs > 0) this.#changed.note(key, nameIntervalMs);
  }

  pageLimit(limit: number | undefined): number | undefined {
    const { pageMax } = this.options;
    if (this.#calm || (limit ?? 1_000) <= pageMax) return limit;
    this.counts.short_page++;
    return pageMax;
  }

  /**
   * The wire spoils a body now and then, but never that of one object twice within minutes: two spoilt answers are
   * how a reader tells an object that is corrupt where it is stored.
   */
  spoil(key: string, body: Uint8Array): Uint8Array {
    if (body.length === 0 || this.#spoilt.within(key, SPOIL_AGAIN_MS)) return body;
    const cut = this.strikes('truncated');
    if (!cut && !this.strikes('flipped_body')) return body;
    this.#spoilt.note(key, SPOIL_AGAIN_MS);
    if (cut) return body.slice(0, this.below(body.length));
    const spoilt = body.slice();
    spoilt[this.below(body.length)]! ^= 1 << this.below(8);
    return spoilt;
  }
}

/** When something last happened to a name, for a while. */
class Recently {
  readonly #clock: Clock;
  readonly #at = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ms since; infinite where it never happened or is forgotten. */
  since(key: string): number {
    return this.#clock.monotonic() - (this.#at.get(key) ?? Number.NEGATIVE_INFINITY);
  }

  within(key: string, ms: number): boolean {
    return this.since(key) < ms;
  }

  note(key: string, keptMs: number): void {
    const now = this.#clock.monotonic();
    if (this.#at.size >= NAMES_MAX) {
      for (const [name, at] of this.#at) if (now - at >= keptMs) this.#at.delete(name);
    }
    this.#at.set(key, now);
  }
}

/**
 * A store that fails in every way a real one does, as `plan` says. It keeps the port's contract: a StoreError from a
 * write means that it had no effect, `unknown` that it may have one, now or later. For tests of whatever is built on
 * runfold: put it around an adapter, below `resilient` and `verified` (`openStore(url, { wrap })`).
 */
export function faulty(store: ObjectStore, plan: FaultPlan): ObjectStore {
  const { clock, lateMs, stallMs } = plan.options;

  async function before(key: string, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    plan.throttle();
    if (plan.strikes('refused')) throw unavailable(`${key}: 503 before anything was done.`);
    if (plan.strikes('stall_before')) await clock.sleep(stallMs);
  }

  async function read<T>(key: string, signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    await before(key, signal);
    const answer = await call();
    if (plan.strikes('answer_lost')) throw unavailable(`${key}: the answer was lost.`);
    if (plan.strikes('stall_after')) await clock.sleep(stallMs);
    return answer;
  }

  /** Late and stalled writes go on without their caller, as a request does that is on its way. */
  async function write<T extends { outcome: string }>(
    key: string,
    signal: AbortSignal | undefined,
    call: () => Promise<T>,
  ): Promise<T | { outcome: 'unknown'; cause: unknown }> {
    await before(key, signal);
    plan.throttleName(key);
    if (plan.strikes('late_write')) {
      clock
        .sleep(plan.below(lateMs))
        .then(call)
        .catch(() => undefined);
      return { outcome: 'unknown', cause: unavailable(`${key}: the connection was reset.`) };
    }
    const answer = await call();
    if (answer.outcome === 'written' || answer.outcome === 'deleted') plan.changed(key);
    if (plan.strikes('answer_lost'))
      return { outcome: 'unknown', cause: unavailable(`${key}: the answer was lost.`) };
    if (plan.strikes('stall_after')) await clock.sleep(stallMs);
    return answer;
  }

  function spoilPage(page: ListPage): ListPage {
    const items = page.items.map((item) => {
      const [name, value] = Object.entries(item.metadata).find(([, text]) => text.length > 0) ?? [];
      if (name === undefined || value === undefined || !plan.strikes('flipped_metadata')) return item;
      const at = plan.below(value.length);
      const other = value[at] === 'A' ? 'B' : 'A';
      return {
        ...item,
        metadata: { ...item.metadata, [name]: value.slice(0, at) + other + value.slice(at + 1) },
      };
    });
    return { ...page, items };
  }

  return {
    url: store.url,
    capabilities: store.capabilities,
    async get(key, o = {}): Promise<GetOutcome> {
      const got = await read(key, o.signal, () => store.get(key, o));
      return got.outcome === 'found' ? { ...got, body: plan.spoil(key, got.body) } : got;
    },
    head: (key, o = {}) => read(key, o.signal, () => store.head(key, o)),
    put: (key, body, o = {}) => write(key, o.signal, () => store.put(key, body, { ...o, signal: undefined })),
    delete: (key, o) => write(key, o.signal, () => store.delete(key, { ...o, signal: undefined })),
    list: async (o) =>
      spoilPage(await read(o.prefix, o.signal, () => store.list({ ...o, limit: plan.pageLimit(o.limit) }))),
    close: () => store.close(),
  };
}

/** A clock that is wrong by `offsetMs` at `clock`'s start and goes on drifting, in parts per million. */
export function skewed(clock: Clock, { offsetMs = 0, driftPpm = 0 }): Clock {
  const rate = 1 + driftPpm / 1e6;
  const origin = clock.monotonic();
  return {
    now: () => Math.floor(clock.now() + offsetMs + (clock.monotonic() - origin) * (rate - 1)),
    monotonic: () => clock.monotonic() * rate,
    sleep: (ms, signal) => clock.sleep(ms / rate, signal),
  };
}

function noFaults(): Record<Fault, number> {
  return Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
}

function unavailable(message: string): StoreError {
  return new StoreError('STORE_UNAVAILABLE', message, { retryable: true });
}

function throttled(message: string, retryAfterMs: number): StoreError {
  return new StoreError('STORE_THROTTLED', message, { retryable: true, retryAfterMs });
}
