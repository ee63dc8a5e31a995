import { type Clock, systemClock, throwIfAborted } from '../core/clock.ts';
import { crc32c } from '../core/crc32c.ts';
import { StoreError } from '../core/errors.ts';
import {
  ABSENT,
  type CallOptions,
  type Capabilities,
  type DeleteOptions,
  type GetOptions,
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
  type PutOptions,
  type PutOutcome,
} from './object-store.ts';
import { SortedKeys } from './sorted-keys.ts';

interface StoredObject {
  meta: ObjectMeta;
  body: Uint8Array;
}

/**
 * Objects in this process, with the semantics and limits of GCS. For tests, demos and simulations.
 * `clock` is the server's clock.
 */
export class MemoryStore implements ObjectStore {
  readonly url = 'memory:';
  readonly capabilities: Capabilities;
  readonly #objects = new Map<string, StoredObject>();
  readonly #clock: Clock;
  readonly #keys = new SortedKeys();
  #generation = 0;

  constructor(options: { clock?: Clock; capabilities?: Partial<Capabilities> } = {}) {
    this.#clock = options.clock ?? systemClock;
    this.capabilities = {
      listMetadata: true,
      metadataBytesMax: 8 * 1024,
      conditionalGet: true,
      conditionalDelete: true,
      ...options.capabilities,
    };
  }

  async get(key: string, options: GetOptions = {}) {
    throwIfAborted(options.signal);
    const found = this.#objects.get(key);
    const serverTime = this.#clock.now();
    if (!found) return { outcome: 'absent', serverTime } as const;
    if (options.ifGenerationNot === found.meta.generation)
      return { outcome: 'unchanged', serverTime } as const;
    const body = options.range
      ? found.body.slice(options.range.start, options.range.end)
      : found.body.slice();
    return { outcome: 'found', meta: found.meta, body, serverTime } as const;
  }

  async head(key: string, options: CallOptions = {}) {
    throwIfAborted(options.signal);
    return this.#objects.get(key)?.meta ?? null;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutOutcome> {
    throwIfAborted(options.signal);
    this.#checkMetadata(key, options.metadata ?? {});
    const found = this.#objects.get(key);
    const { ifGeneration } = options;
    if (
      ifGeneration === ABSENT
        ? found !== undefined
        : ifGeneration !== undefined && found?.meta.generation !== ifGeneration
    ) {
      return { outcome: 'conflict' };
    }
    const meta: ObjectMeta = {
      key,
      generation: String(++this.#generation),
      sizeBytes: body.length,
      crc32c: crc32c(body),
      createdAt: this.#clock.now(),
      metadata: { ...options.metadata },
    };
    if (!found) this.#keys.add(key);
    // Not `slice`, which of a Buffer is no copy.
    this.#objects.set(key, { meta, body: new Uint8Array(body) });
    return { outcome: 'written', meta };
  }

  async delete(key: string, options: DeleteOptions) {
    throwIfAborted(options.signal);
    const found = this.#objects.get(key);
    if (!found) return { outcome: 'absent' } as const;
    if (found.meta.generation !== options.ifGeneration) return { outcome: 'conflict' } as const;
    this.#objects.delete(key);
    this.#keys.delete(key);
    return { outcome: 'deleted' } as const;
  }

  async list(options: ListOptions): Promise<ListPage> {
    throwIfAborted(options.signal);
    const { prefix, delimiter, end } = options;
    const pageMax = Math.min(options.limit ?? LIST_PAGE_MAX, LIST_PAGE_MAX);
    const from = [prefix, options.start ?? '', options.pageToken ?? ''].sort(compareKeys).at(-1)!;
    const items: ObjectMeta[] = [];
    const prefixes: string[] = [];
    let next: string | null = null;
    let last = '';
    for (const key of this.#keys.from(from)) {
      if (!key.startsWith(prefix) || (end !== undefined && key >= end)) break;
      const cut = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
      const group = cut < 0 ? null : key.slice(0, cut + 1);
      if (group !== null && group === prefixes.at(-1)) continue;
      const found = this.#objects.get(key)!;
      if (items.length + prefixes.length === pageMax) {
        // Behind the last one shown, so that a key which appears right after it is not passed over.
        next = last;
        break;
      }
      last = group === null ? `${key}\0` : `${group}\uffff`;
      if (group !== null) prefixes.push(group);
      else items.push(this.capabilities.listMetadata ? found.meta : { ...found.meta, metadata: {} });
    }
    return { items, prefixes, next, serverTime: this.#clock.now() };
  }

  async close() {}

  #checkMetadata(key: string, metadata: Readonly<Record<string, string>>): void {
    const max = this.capabilities.metadataBytesMax;
    const bytes = Object.entries(metadata).reduce((n, [name, value]) => n + name.length + value.length, 0);
    if (bytes <= max) return;
    throw new StoreError('STORE_FAILED', `${key} has ${bytes} bytes of metadata; ${max} are allowed.`, {
      retryable: false,
    });
  }
}

/** UTF-8 byte order; keys of runfold are ASCII, where it equals code unit order. */
export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
