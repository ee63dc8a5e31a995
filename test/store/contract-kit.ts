import { expect } from 'vitest';
import {
  ABSENT,
  type Capabilities,
  type ObjectMeta,
  type ObjectStore,
  type PutOptions,
} from '../../src/store/object-store.ts';

export interface OpenedStore {
  store: ObjectStore;
  close(): Promise<void>;
}

export interface ContractOptions {
  /** What the store must state; decides which tests run. A test that cannot run says so in its title. */
  capabilities: Capabilities;
  /** Test name → why this store (an old emulator, say) cannot pass it. Skipped with the reason in the title. */
  except?: Readonly<Record<string, string>>;
  /** Objects of the paging tests; above 1000, so that a full page is not the end. */
  pagingObjects?: number;
  /** Random operation sequences of the model test. */
  modelRuns?: number;
  /** `get` may tell `createdAt` more coarsely than `put`, rounded down by less than this (GCS: a second). */
  getCreatedAtMs?: number;
  /** |server clock − this host's clock| that still counts as sane. */
  clockSkewMsMax?: number;
}

/** What the parts of the suite share. Every test works under its own fresh prefix. */
export interface Contract {
  readonly store: ObjectStore;
  readonly options: Required<ContractOptions>;
  prefix(): string;
  test(name: string, fn: () => Promise<void>, needs?: keyof Capabilities): void;
}

export const text = (value: string) => new TextEncoder().encode(value);

/** Puts and insists that it was written. */
export async function write(
  store: ObjectStore,
  key: string,
  body: Uint8Array | string = key,
  options: PutOptions = { ifGeneration: ABSENT },
): Promise<ObjectMeta> {
  const put = await store.put(key, typeof body === 'string' ? text(body) : body, options);
  if (put.outcome !== 'written') throw new Error(`${key}: expected written, got ${put.outcome}`);
  return put.meta;
}

/** What `get` must tell of an object that `put` told this of. */
export function asGot(contract: Contract, put: ObjectMeta): ObjectMeta {
  const lateMsMax = contract.options.getCreatedAtMs;
  const close = (time: number) => time <= put.createdAt && put.createdAt - time < lateMsMax;
  return { ...put, createdAt: expect.toSatisfy(close) };
}

export async function read(store: ObjectStore, key: string) {
  const got = await store.get(key);
  if (got.outcome !== 'found') throw new Error(`${key}: expected found, got ${got.outcome}`);
  return got;
}
