import { z } from 'zod';
import { type Clock, throwIfAborted } from '../core/clock.ts';
import { InputError, StoreError } from '../core/errors.ts';
import { type Random, seededRandom, uniform } from '../core/random.ts';
import {
  type CallOptions,
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectStore,
} from './object-store.ts';

export const OPERATIONS = ['get', 'head', 'put', 'delete', 'list'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Slower than this is no store, but a slip of units. */
const MS_MAX = 600_000;
const ms = z.number().nonnegative().max(MS_MAX);

const percentiles = z
  .strictObject({ p50: ms, p99: ms })
  .refine(({ p50, p99 }) => p99 >= p50, 'p99 must not be below p50')
  .refine(
    ({ p50, p99 }) => p50 > 0 || p99 === 0,
    'p50 must be above 0 where p99 is: no lognormal distribution has a median of 0',
  );

const firstByte = z.strictObject({
  get: percentiles,
  head: percentiles,
  put: percentiles,
  delete: percentiles,
  list: percentiles,
});

const profileSchema = z.strictObject({
  name: z.string().min(1),
  /** Time to the first byte of an answer, ms: lognormal through these two percentiles. */
  first_byte_ms: firstByte,
  /** Of one request's body, either way; null: bodies take no time. */
  bandwidth_bytes_per_second: z.number().positive().nullable(),
  /** What each item of a LIST page adds: server time, and bytes on the wire besides its custom metadata. */
  list_item_ms: ms,
  list_item_bytes: z.number().nonnegative(),
  /** A name that changed less than this long ago refuses the next change with 429; 0: no such limit. */
  name_interval_ms: ms,
  /** Items of a LIST page at the most, whatever is asked for. */
  list_page_items: z.number().int().positive().max(LIST_PAGE_MAX),
});
/** How slow a store is. Also the format of a file of measured percentiles: see `parseLatencyProfile`. */
export type LatencyProfile = z.infer<typeof profileSchema>;

const overridesSchema = profileSchema
  .partial()
  .extend({ first_byte_ms: firstByte.partial().optional(), measured_at: z.string().optional() });
/** What a file of measured percentiles holds: `runfold probe` writes one. */
export type LatencyOverrides = z.input<typeof overridesSchema>;

const same = (p50: number, p99: number) => ({
  get: { p50, p99 },
  head: { p50, p99 },
  put: { p50, p99 },
  delete: { p50, p99 },
  list: { p50, p99 },
});

export const LATENCY_PROFILES: Readonly<Record<'none' | 'lan' | 'gcs', LatencyProfile>> = {
  /** Every answer at once. */
  none: {
    name: 'none',
    first_byte_ms: same(0, 0),
    bandwidth_bytes_per_second: null,
    list_item_ms: 0,
    list_item_bytes: 0,
    name_interval_ms: 0,
    list_page_items: LIST_PAGE_MAX,
  },
  /** A store on flash in the same building, over 10 GbE. Round figures, not measured on any product. */
  lan: {
    name: 'lan',
    first_byte_ms: {
      get: { p50: 1, p99: 5 },
      head: { p50: 0.5, p99: 3 },
      put: { p50: 3, p99: 15 },
      delete: { p50: 2, p99: 10 },
      list: { p50: 2, p99: 10 },
    },
    bandwidth_bytes_per_second: 1024 ** 3,
    list_item_ms: 0.002,
    list_item_bytes: 700,
    name_interval_ms: 0,
    list_page_items: LIST_PAGE_MAX,
  },
  /**
   * A regional GCS bucket read from the same region. What each figure rests on, as of November 2026, and what is an
   * estimate, stands beside it; docs/PERFORMANCE.md has the links and dates. Ranges are estimates where nothing is
   * named: medians are their geometric middles. Measure your own bucket (`runfold probe`), and pass the figures in a file.
   */
  gcs: {
    name: 'gcs',
    // p99 is three times p50: 62 and 191 ms in the one sample that Cloud Storage's engineers have answered for
    // (googleapis/google-cloud-dotnet#882, 2017).
    first_byte_ms: {
      // 30 to 80; the same sample's 62 lies within.
      get: { p50: 49, p99: 147 },
      // 12 to 18: an estimate.
      head: { p50: 15, p99: 45 },
      // 80 to 200; 150 to 250 for two small objects in googleapis/nodejs-storage#2210 (2023).
      put: { p50: 126, p99: 378 },
      // An assumption: as a GET.
      delete: { p50: 49, p99: 147 },
      // 60 to 100: an estimate.
      list: { p50: 77, p99: 231 },
    },
    // An estimate of one stream's download; an assumption for uploads.
    bandwidth_bytes_per_second: 190 * 1024 ** 2,
    // Assumptions: what an item adds, and the size of its standard fields as JSON.
    list_item_ms: 0.02,
    list_item_bytes: 700,
    // "Quotas & limits" of Cloud Storage (cloud.google.com/storage/quotas): an object takes one update a second.
    name_interval_ms: 1_000,
    // Documented for `maxResults` of objects.list (cloud.google.com/storage/docs/json_api/v1/objects/list).
    list_page_items: LIST_PAGE_MAX,
  },
};

/**
 * A profile from the JSON of a file: any part of one, laid over `base`. Throws InputError that names `source` and the
 * field. `measured_at` is allowed, and ignored.
 */
export function parseLatencyProfile(
  source: string,
  json: unknown,
  base: LatencyProfile = LATENCY_PROFILES.gcs,
): LatencyProfile {
  const parsed = overridesSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new InputError(`${source} is no latency profile: ${issue?.path.join('.')}: ${issue?.message}`, {
      hint: 'See LatencyProfile in src/store/latency.ts for its fields.',
    });
  }
  const { measured_at: _, first_byte_ms = {}, ...others } = parsed.data;
  return profileSchema.parse({
    ...base,
    name: source,
    ...others,
    first_byte_ms: { ...base.first_byte_ms, ...first_byte_ms },
  });
}

export interface LatencyOptions {
  profile: LatencyProfile;
  clock: Clock;
  /** Each operation draws from a sequence of its own, so that its n-th call waits the same whatever the others do. */
  random: Random;
}

/**
 * A store that is as slow as `profile` says. A call takes effect halfway through its time to first byte; bytes that go
 * up take their time before it, those that come down after. Times are met to what `clock.sleep` can do: with the
 * system's clock about 1 ms, so use a virtual one for profiles faster than that.
 */
export function latency(store: ObjectStore, { profile, clock, random }: LatencyOptions): ObjectStore {
  const draws = new Map(OPERATIONS.map((operation) => [operation, sequence(random.u32())]));
  const changed = new Map<string, number>();

  async function call<T>(
    operation: Operation,
    bytesUp: number,
    signal: AbortSignal | undefined,
    effect: () => Promise<T>,
    costAfter: (answer: T) => number = () => 0,
  ): Promise<T> {
    throwIfAborted(signal);
    const began = clock.monotonic();
    const firstByteMs = lognormal(profile.first_byte_ms[operation], draws.get(operation)!);
    const sentMs = transferMs(bytesUp);
    await until(began + sentMs + firstByteMs / 2, signal);
    const answer = await effect();
    await until(began + sentMs + firstByteMs + costAfter(answer), signal);
    return answer;
  }

  /** Towards an absolute time: what one timer oversleeps, the next makes good. */
  async function until(at: number, signal: AbortSignal | undefined): Promise<void> {
    const ms = at - clock.monotonic();
    if (ms > 0) await clock.sleep(ms, signal);
  }

  function transferMs(bytes: number): number {
    const { bandwidth_bytes_per_second: bandwidth } = profile;
    return bandwidth === null ? 0 : (bytes / bandwidth) * 1_000;
  }

  function withPage(options: ListOptions): ListOptions {
    return { ...options, limit: Math.min(options.limit ?? LIST_PAGE_MAX, profile.list_page_items) };
  }

  function pageMs(page: ListPage): number {
    let bytes = 0;
    for (const { key, metadata } of page.items) {
      bytes += profile.list_item_bytes + key.length;
      for (const [name, value] of Object.entries(metadata)) bytes += name.length + value.length;
    }
    return page.items.length * profile.list_item_ms + transferMs(bytes);
  }

  /** Strict where GCS lets short bursts through: what holds here holds there. */
  async function change<T extends { outcome: string }>(key: string, effect: () => Promise<T>): Promise<T> {
    const { name_interval_ms: interval } = profile;
    if (interval === 0) return effect();
    const now = clock.monotonic();
    const before = changed.get(key) ?? Number.NEGATIVE_INFINITY;
    if (now - before < interval) {
      throw new StoreError('STORE_THROTTLED', `The rate of changes of ${key} is too high.`, {
        retryable: true,
      });
    }
    if (changed.size >= NAMES_MAX) forget(changed, now - interval);
    // Before the effect, so that of two at once only one gets through.
    changed.set(key, now);
    const answer = await effect();
    if (answer.outcome === 'conflict' || answer.outcome === 'absent') changed.set(key, before);
    return answer;
  }

  /** A write that took effect is never reported as cancelled: its answer is awaited. */
  async function write<T extends { outcome: string }>(
    operation: Operation,
    key: string,
    bytes: number,
    { signal }: CallOptions,
    effect: () => Promise<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    return call(operation, bytes, undefined, () => change(key, effect));
  }

  return {
    url: store.url,
    capabilities: store.capabilities,
    get: (key, o = {}) =>
      call(
        'get',
        0,
        o.signal,
        () => store.get(key, o),
        (got) => (got.outcome === 'found' ? transferMs(got.body.length) : 0),
      ),
    head: (key, o = {}) => call('head', 0, o.signal, () => store.head(key, o)),
    put: (key, body, o = {}) =>
      write('put', key, body.length, o, () => store.put(key, body, { ...o, signal: undefined })),
    delete: (key, o) => write('delete', key, 0, o, () => store.delete(key, { ...o, signal: undefined })),
    list: (o) => call('list', 0, o.signal, () => store.list(withPage(o)), pageMs),
    close: () => store.close(),
  };
}

const NAMES_MAX = 10_000;

function forget(changed: Map<string, number>, before: number): void {
  for (const [key, at] of changed) if (at <= before) changed.delete(key);
}

/** Of the standard normal distribution. */
const Z99 = 2.326_347_874;

/** The mean time to first byte of one operation, ms. */
export function meanFirstByteMs({ first_byte_ms }: LatencyProfile, operation: Operation): number {
  const { p50, p99 } = first_byte_ms[operation];
  return p50 === 0 ? 0 : p50 * Math.exp((Math.log(p99 / p50) / Z99) ** 2 / 2);
}

/** e^(ln p50 + σz), σ such that the 99th percentile is p99. */
function lognormal({ p50, p99 }: { p50: number; p99: number }, normal: () => number): number {
  const z = normal();
  return p50 === 0 ? 0 : p50 * (p99 / p50) ** (z / Z99);
}

/** Normal variates (Box and Muller 1958). */
function sequence(seed: number): () => number {
  const random = seededRandom(seed);
  return () => Math.sqrt(-2 * Math.log(1 - uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
}
