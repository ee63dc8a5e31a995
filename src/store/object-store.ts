/**
 * The object store port. Semantics that every adapter must give (test/store/contract.ts holds them to it):
 * strongly consistent reads, lists and deletes; writes are atomic; a generation names one write of one object
 * and never returns; keys list in UTF-8 byte order.
 *
 * Reads throw StoreError. Writes return their outcome, because "perhaps" is an answer that callers must handle:
 * a StoreError from a write means that it definitely had no effect.
 */
export interface ObjectStore {
  /** As the user would name it: `memory:`, `file:/data`, `gs://bucket/prefix`. */
  readonly url: string;
  readonly capabilities: Capabilities;

  /** One request. The body is as it came: `verified` checks it. With `range` the checksum cannot be checked here: the caller must have its own. */
  get(key: string, options?: GetOptions): Promise<GetOutcome>;
  /** One request, no body. */
  head(key: string, options?: CallOptions): Promise<ObjectMeta | null>;
  /** One request. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutOutcome>;
  /** One request. */
  delete(key: string, options: DeleteOptions): Promise<DeleteOutcome>;
  /** One request: one page, ascending, at most 1000 items. A page may be empty and still have a `next`. */
  list(options: ListOptions): Promise<ListPage>;
  /** Lets go of connections and files. Calls in flight may fail. */
  close(): Promise<void>;
}

export interface Capabilities {
  /** LIST items carry custom metadata at no extra request, so that payloads may travel in it. */
  readonly listMetadata: boolean;
  /** Bytes of custom metadata (names and values together) that one object may carry. */
  readonly metadataBytesMax: number;
  /** `get` with `ifGenerationNot` answers `unchanged`; without it the body comes every time. */
  readonly conditionalGet: boolean;
  /** `delete` honours `ifGeneration`. A store without it must not be used in production. */
  readonly conditionalDelete: boolean;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

export interface GetOptions extends CallOptions {
  /** Bytes [start, end). `end` past the object is cut to its size. */
  range?: { start: number; end: number } | undefined;
  ifGenerationNot?: string | undefined;
}

export interface PutOptions extends CallOptions {
  /** `ABSENT`: create only. A generation: replace exactly that one. Missing: replace whatever is there. */
  ifGeneration?: string | typeof ABSENT | undefined;
  /** Custom metadata; names are lower-case ASCII. */
  metadata?: Readonly<Record<string, string>> | undefined;
  contentType?: string | undefined;
  cacheControl?: string | undefined;
}

export interface DeleteOptions extends CallOptions {
  /** Required: nothing is ever deleted without saying which write of it is meant. */
  ifGeneration: string;
}

export interface ListOptions extends CallOptions {
  prefix: string;
  /** Inclusive lower bound of the full key. */
  start?: string | undefined;
  /** Exclusive upper bound of the full key. */
  end?: string | undefined;
  /** Group keys by the first `/` after the prefix: groups come back as `prefixes`. */
  delimiter?: '/' | undefined;
  pageToken?: string | undefined;
  limit?: number | undefined;
}

/** The generation of an object that does not exist. */
export const ABSENT: unique symbol = Symbol.for('runfold.absent');

export interface ObjectMeta {
  readonly key: string;
  readonly generation: string;
  readonly sizeBytes: number;
  readonly crc32c: number;
  /**
   * Server time of this generation's creation, ms since the epoch; `get` may cut it to whole seconds. The object
   * became visible at or after it, and before its put returned.
   */
  readonly createdAt: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** `serverTime`: ms, no later than the answer, and no earlier than the request by more than a second. */
export type GetOutcome =
  | {
      readonly outcome: 'found';
      readonly meta: ObjectMeta;
      readonly body: Uint8Array;
      readonly serverTime: number;
    }
  | { readonly outcome: 'absent'; readonly serverTime: number }
  | { readonly outcome: 'unchanged'; readonly serverTime: number };

export type PutOutcome =
  | { readonly outcome: 'written'; readonly meta: ObjectMeta }
  /** The precondition did not hold; nothing was written. */
  | { readonly outcome: 'conflict' }
  /** It may have been written, may be written later, or never. */
  | { readonly outcome: 'unknown'; readonly cause: unknown };

export type DeleteOutcome =
  | { readonly outcome: 'deleted' }
  | { readonly outcome: 'absent' }
  | { readonly outcome: 'conflict' }
  | { readonly outcome: 'unknown'; readonly cause: unknown };

export interface ListPage {
  readonly items: readonly ObjectMeta[];
  readonly prefixes: readonly string[];
  readonly next: string | null;
  /** Server time, ms, no later than the instant the page shows: everything written before it is in the page. */
  readonly serverTime: number;
}

export const LIST_PAGE_MAX = 1000;
