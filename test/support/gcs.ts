import { randomUUID } from 'node:crypto';
import { afterAll, describe, inject, it } from 'vitest';
import { openGcsStore } from '../../src/store/gcs.ts';
import { ABSENT, type Capabilities, type ObjectStore } from '../../src/store/object-store.ts';

export interface GcsForTest {
  endpoint: string;
  /** Fresh and empty. */
  bucket: string;
  /** What this emulator was seen to do, not what it says. */
  capabilities: Capabilities;
  /** On the bucket's root; closed when the test file ends. */
  store: ObjectStore;
  /** Another store in the same bucket: its own connections, under `prefix` if given. The caller closes it. */
  open(prefix?: string): Promise<ObjectStore>;
}

/**
 * A fresh bucket on the run's emulator, with capabilities as probed. Call it at the top of a test file, once.
 * Without an emulator: the reason, or, where REQUIRE_GCS=1 (CI), an error.
 */
export async function gcsForTest(): Promise<GcsForTest | { skipped: string }> {
  const provided = inject('gcs');
  if (provided.endpoint === null) {
    if (process.env.REQUIRE_GCS === '1') throw new Error(`REQUIRE_GCS=1, but ${provided.reason}`);
    return { skipped: provided.reason };
  }
  const { endpoint } = provided;
  const bucket = `runfold-${randomUUID()}`;
  await createBucket(endpoint, bucket);
  const probe = await openGcsStore({ bucket, endpoint });
  const capabilities = await probeCapabilities(probe).finally(() => probe.close());
  const open = (prefix?: string) => openGcsStore({ bucket, endpoint, prefix, capabilities });
  const store = await open();
  afterAll(() => store.close());
  return { endpoint, bucket, capabilities, store, open };
}

/** A `describe` over the emulator; without one it is reported as skipped, with the reason. */
export async function describeGcs(name: string, tests: (gcs: GcsForTest) => void): Promise<void> {
  const gcs = await gcsForTest();
  if ('skipped' in gcs) describe(name, () => it.skip(`[skipped: ${gcs.skipped}]`));
  else describe(name, () => tests(gcs));
}

async function createBucket(endpoint: string, bucket: string): Promise<void> {
  const answer = await fetch(new URL('/storage/v1/b?project=test', endpoint), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: bucket }),
  });
  if (!answer.ok)
    throw new Error(`cannot create the bucket ${bucket}: ${answer.status} ${await answer.text()}`);
}

/** Leaves the bucket empty. Preconditions of puts are not probed: a store without them is of no use at all. */
async function probeCapabilities(store: ObjectStore): Promise<Capabilities> {
  const key = 'probe';
  const put = await store.put(key, new Uint8Array([1]), { ifGeneration: ABSENT, metadata: { rf: 'probe' } });
  if (put.outcome !== 'written') throw new Error(`the emulator answers a create with ${put.outcome}`);
  const { generation } = put.meta;
  const got = await store.get(key, { ifGenerationNot: generation });
  const listed = await store.list({ prefix: key });
  const stale = await store.delete(key, { ifGeneration: String(BigInt(generation) - 1n) });
  await store.delete(key, { ifGeneration: generation });
  return {
    listMetadata: listed.items[0]?.metadata.rf === 'probe',
    metadataBytesMax: 8 * 1024,
    conditionalGet: got.outcome === 'unchanged',
    conditionalDelete: stale.outcome === 'conflict',
  };
}
