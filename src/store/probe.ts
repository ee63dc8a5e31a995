import { type Clock, throwIfAborted } from '../core/clock.ts';
import { mapParallel } from '../core/concurrency.ts';
import { errorMessage, isRunfoldError, RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { withDeadline } from '../core/retry.ts';
import { uuidv7 } from '../core/uuid.ts';
import { type LatencyOverrides, OPERATIONS, type Operation } from './latency.ts';
import { ABSENT, type ObjectMeta, type ObjectStore } from './object-store.ts';
import { pagesOf } from './pages.ts';

const SMALL_BYTES = 1_024;
const LARGE_BYTES = 8 * 1024 * 1024;
const LARGE_TRANSFERS = 8;
/** Requests before those that count: connections open, and code is warm. */
const WARMUPS = 3;
const LISTED = 200;
const LISTS = 20;

export interface ProbeOptions {
  /** Of each operation. */
  samples: number;
  /** How long the store lets a name rest between two changes: deletes come later than that. */
  nameRestMs: number;
  clock: Clock;
  random: Random;
  limits: Limits;
  signal?: AbortSignal | undefined;
  onProgress?: (done: number, total: number) => void;
}

export interface Measured {
  samples: number;
  min: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

export interface Probe {
  /** What `parseLatencyProfile` reads. */
  profile: LatencyOverrides;
  /** Time to first byte of objects so small that their bodies take none, ms. */
  first_byte_ms: Record<Operation, Measured>;
  /** Of one request, bytes per second; null where bodies took no time that could be told. */
  download: number | null;
  upload: number | null;
  prefix: string;
}

export type ProbePlan = Record<Operation, number> & { bytes_written: number; bytes_read: number };

/** What a probe asks of a store, retries and the deletes of an aborted one apart. */
export function planProbe(samples: number): ProbePlan {
  const each = samples + WARMUPS;
  return {
    get: each + LARGE_TRANSFERS,
    head: each,
    put: each + LARGE_TRANSFERS + LISTED,
    delete: each + LARGE_TRANSFERS + LISTED,
    list: each + LISTS + 1,
    bytes_written: (each + LISTED) * SMALL_BYTES + LARGE_TRANSFERS * LARGE_BYTES,
    bytes_read: each * SMALL_BYTES + LARGE_TRANSFERS * LARGE_BYTES,
  };
}

/** Times every request that `store` answers. Goes below the retries, so that a wait between two attempts is none of it. */
export class Stopwatch {
  readonly #clock: Clock;
  readonly #running = new Set<Promise<unknown>>();
  #lastMs = Number.NaN;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of the request that was answered last, ms. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /** Resolves when no request is under way, also none that its caller has given up. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  around(store: ObjectStore): ObjectStore {
    const timed = async <T>(call: () => Promise<T>): Promise<T> => {
      const began = this.#clock.monotonic();
      const running = call();
      this.#running.add(running);
      try {
        const answer = await running;
        this.#lastMs = this.#clock.monotonic() - began;
        return answer;
      } finally {
        this.#running.delete(running);
      }
    };
    return {
      url: store.url,
      capabilities: store.capabilities,
      get: (key, options) => timed(() => store.get(key, options)),
      head: (key, options) => timed(() => store.head(key, options)),
      put: (key, body, options) => timed(() => store.put(key, body, options)),
      delete: (key, options) => timed(() => store.delete(key, options)),
      list: (options) => timed(() => store.list(options)),
      close: () => store.close(),
    };
  }
}

/**
 * Measures a store with objects of its own under `probe/<uuid>/`, one request at a time, and removes them, also when
 * it fails or is aborted. `watch` must go around the adapter of `store`. Cost: `planProbe`. Throws what the store
 * throws; STORE_FAILED with the prefix when objects may be left.
 */
export async function probeStore(
  store: ObjectStore,
  watch: Stopwatch,
  options: ProbeOptions,
): Promise<Probe> {
  const { clock, random, nameRestMs, limits } = options;
  const prefix = `probe/${uuidv7(clock.now(), random)}/`;
  const cleared = async () => {
    // A write that was given up may land yet, and what has just been made cannot be deleted yet.
    await withDeadline(clock, limits.requestDeadlineMs, undefined, () => watch.idle()).catch(() => undefined);
    if (nameRestMs > 0) await clock.sleep(nameRestMs);
    await clear(store, prefix, limits);
  };
  let probe: Probe;
  try {
    probe = await measure(store, watch, prefix, options);
  } catch (error) {
    // A store that cannot be written to cannot be cleaned up either: why it cannot is the first of both.
    throw await cleared().then(
      () => error,
      (left: unknown) => withLeft(error, left),
    );
  }
  await cleared();
  return probe;
}

function withLeft(error: unknown, left: unknown): unknown {
  if (!isRunfoldError(error)) return error;
  return new RunfoldError(error.code, `${error.message} ${errorMessage(left)}`, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error,
  });
}

async function measure(
  store: ObjectStore,
  watch: Stopwatch,
  prefix: string,
  { samples, nameRestMs, clock, limits, signal, onProgress = () => undefined }: ProbeOptions,
): Promise<Probe> {
  const measuredAt = clock.now();
  const total = 2 * (samples + WARMUPS) + LARGE_TRANSFERS + LISTS;
  let done = 0;
  const step = () => {
    throwIfAborted(signal);
    onProgress(done++, total);
  };
  const ms: Record<Operation, number[]> = { get: [], head: [], put: [], delete: [], list: [] };
  const timed = async <T>(operation: Operation, call: Promise<T>): Promise<T> => {
    const answer = await call;
    ms[operation].push(watch.lastMs);
    return answer;
  };
  const create = async (key: string, body: Uint8Array) => {
    const put = await timed('put', store.put(key, body, { ifGeneration: ABSENT, signal }));
    if (put.outcome === 'written') return put.meta;
    throw new RunfoldError('OUTCOME_UNKNOWN', `The store did not confirm ${key}.`, {
      cause: put.outcome === 'unknown' ? put.cause : undefined,
    });
  };
  const taken = (operation: Operation) => ms[operation].splice(0).slice(WARMUPS);

  const small = new Uint8Array(SMALL_BYTES);
  const objects: ObjectMeta[] = [];
  for (let i = 0; i < samples + WARMUPS; i++) {
    step();
    const object = await create(`${prefix}small/${i}`, small);
    objects.push(object);
    await timed('get', store.get(object.key, { signal }));
    await timed('head', store.head(object.key, { signal }));
    await timed('list', store.list({ prefix: object.key, limit: 1, signal }));
  }
  if (nameRestMs > 0) await clock.sleep(nameRestMs, signal);
  for (const { key, generation } of objects) {
    step();
    await timed('delete', store.delete(key, { ifGeneration: generation, signal }));
  }
  const firstByte = mapOperations((operation) => summary(taken(operation)));

  const large = new Uint8Array(LARGE_BYTES);
  for (let i = 0; i < LARGE_TRANSFERS; i++) {
    step();
    const { key } = await create(`${prefix}large/${i}`, large);
    await timed('get', store.get(key, { signal }));
  }
  const download = bandwidth(ms.get, firstByte.get);

  const names = Array.from({ length: LISTED }, (_, i) => `${prefix}listed/${String(i).padStart(4, '0')}`);
  await mapParallel(
    names,
    limits.parallelMax,
    (key, stop) => store.put(key, small, { ifGeneration: ABSENT, signal: stop }),
    signal,
  );
  for (let i = 0; i < LISTS; i++) {
    step();
    await timed('list', store.list({ prefix: `${prefix}listed/`, signal }));
  }
  const itemMs = Math.max(0, summary(ms.list).p50 - firstByte.list.p50) / LISTED;
  return {
    profile: {
      name: store.url,
      measured_at: new Date(measuredAt).toISOString(),
      first_byte_ms: mapOperations((operation) => ({
        p50: positive(firstByte[operation].p50),
        p99: positive(firstByte[operation].p99),
      })),
      bandwidth_bytes_per_second: download,
      // Their time on the wire is in it, so they have no bytes of their own.
      list_item_ms: rounded(itemMs, 6),
      list_item_bytes: 0,
      name_interval_ms: nameRestMs,
    },
    first_byte_ms: firstByte,
    download,
    upload: bandwidth(ms.put, firstByte.put),
    prefix,
  };
}

/** Whatever is left under the prefix: nobody else has ever known its name. Not cut short by the caller's signal. */
async function clear(store: ObjectStore, prefix: string, { parallelMax }: Limits): Promise<void> {
  try {
    for await (const page of pagesOf(store, { prefix })) {
      await mapParallel(page.items, parallelMax, async ({ key, generation }) => {
        const { outcome } = await store.delete(key, { ifGeneration: generation });
        if (outcome === 'unknown' || outcome === 'conflict') throw new Error(`${key}: ${outcome}`);
      });
    }
  } catch (cause) {
    throw new RunfoldError('STORE_FAILED', `Objects under ${prefix} may be left.`, {
      hint: 'Nothing reads them: delete what is under that prefix when the store answers again.',
      cause,
    });
  }
}

/** Percentiles by nearest rank. */
function summary(samples: readonly number[]): Measured {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) => rounded(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!, 3);
  return { samples: sorted.length, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

function bandwidth(wholeMs: readonly number[], firstByte: Measured): number | null {
  const transferMs = summary(wholeMs).p50 - firstByte.p50;
  return transferMs <= 0 ? null : Math.round((1_000 * LARGE_BYTES) / transferMs);
}

function mapOperations<T>(of: (operation: Operation) => T): Record<Operation, T> {
  return Object.fromEntries(OPERATIONS.map((operation) => [operation, of(operation)])) as Record<
    Operation,
    T
  >;
}

/** A profile's median is above zero where its p99 is. */
function positive(ms: number): number {
  return Math.max(ms, 0.001);
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
