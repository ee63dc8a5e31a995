import { describe, expect, it } from 'vitest';
import { openGcsStore } from '../../src/store/gcs.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { describeGcs, gcsForTest } from '../support/gcs.ts';
import { describeStore } from './contract.ts';
import { DELIMITER_PAGES } from './contract-list.ts';

const gcs = await gcsForTest();

// https://github.com/fsouza/fake-gcs-server, 1.56.1: groups are not counted, and every page names all that follow.
const except = { [DELIMITER_PAGES]: 'the emulator does not page groups' };

if ('skipped' in gcs) {
  describe('object store contract: gcs', () => it.skip(`[skipped: ${gcs.skipped}]`));
} else {
  const { capabilities } = gcs;
  for (const [name, prefix] of [
    ['gcs', undefined],
    ['gcs with a prefix', 'pre fix/é'],
  ] as const) {
    const open = async () => {
      const store = await gcs.open(prefix);
      return { store, close: () => store.close() };
    };
    describeStore(name, open, { capabilities, getCreatedAtMs: 1_000, except });
  }
}

await describeGcs('gcs buckets and prefixes', (gcs) => {
  it('stores with different prefixes do not see each other', async () => {
    const stores = await Promise.all(['a', 'a/b', '/c//'].map((prefix) => gcs.open(prefix)));
    for (const store of stores)
      await store.put('k', new TextEncoder().encode(store.url), { ifGeneration: ABSENT });
    const urls = ['a', 'a/b', 'c'].map((prefix) => `gs://${gcs.bucket}/${prefix}`);
    expect(stores.map((store) => store.url)).toEqual(urls);
    const all = await gcs.store.list({ prefix: '' });
    expect(all.items.map((item) => item.key)).toEqual(['a/b/k', 'a/k', 'c/k']);
    const got = await stores[1]!.get('k');
    expect(got).toMatchObject({
      outcome: 'found',
      meta: { key: 'k' },
      body: new TextEncoder().encode(urls[1]),
    });
    await Promise.all(stores.map((store) => store.close()));
  });

  it('a missing bucket is an error of put and list', async () => {
    const store = await openGcsStore({ bucket: 'no-such-bucket', endpoint: gcs.endpoint });
    const missing = { code: 'STORE_FAILED', retryable: false, hint: expect.stringContaining('bucket') };
    await expect(store.put('k', new Uint8Array())).rejects.toMatchObject(missing);
    await expect(store.list({ prefix: '' })).rejects.toMatchObject(missing);
    await store.close();
  });

  it('bytes damaged on the way are refused by the server', async () => {
    const body = new Uint8Array(100_000);
    const put = gcs.store.put('damaged', body, { ifGeneration: ABSENT });
    body.fill(1); // what is above the size that gets copied goes out only now
    await expect(put).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: true });
    expect(await gcs.store.head('damaged')).toBeNull();
  });
});
