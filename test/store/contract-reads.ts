import { expect } from 'vitest';
import { crc32c } from '../../src/core/crc32c.ts';
import { encodeSegment } from '../../src/core/ids.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { asGot, type Contract, read, text, write } from './contract-kit.ts';

export function describeReads(contract: Contract): void {
  const { test } = contract;

  test('get, head and list agree with the put', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const key = `${prefix}a.json`;
    const body = text('{"hello":"wörld"}');
    const written = await write(store, key, body, {
      ifGeneration: ABSENT,
      metadata: { rf: 'v1', 'second-name': 'a b=c/d+e' },
      contentType: 'application/json',
      cacheControl: 'no-store',
    });
    const got = await read(store, key);
    expect(got.body).toEqual(body);
    expect(got.meta).toEqual(asGot(contract, written));
    expect(got.meta).toMatchObject({
      key,
      sizeBytes: body.length,
      crc32c: crc32c(body),
      metadata: { rf: 'v1', 'second-name': 'a b=c/d+e' },
    });
    expect(await store.head(key)).toEqual(written);
    const page = await store.list({ prefix });
    const metadata = contract.options.capabilities.listMetadata ? written.metadata : {};
    expect(page).toMatchObject({ items: [{ ...written, metadata }], prefixes: [], next: null });
  });

  test('absent objects are an outcome, not an error', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}none`;
    expect(await store.get(key)).toMatchObject({ outcome: 'absent', serverTime: expect.any(Number) });
    expect(await store.get(key, { range: { start: 0, end: 10 } })).toMatchObject({ outcome: 'absent' });
    expect(await store.head(key)).toBeNull();
  });

  test('empty and binary bodies', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const binary = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
    const bodies = {
      empty: new Uint8Array(),
      newline: text('\n'),
      nul: new Uint8Array([0, 10, 13, 0]),
      binary,
    };
    for (const [name, body] of Object.entries(bodies)) {
      const meta = await write(store, prefix + name, body);
      expect(meta).toMatchObject({ sizeBytes: body.length, crc32c: crc32c(body) });
      const got = await read(store, prefix + name);
      expect(Buffer.compare(got.body, body)).toBe(0);
      expect(got.meta).toEqual(asGot(contract, meta));
    }
  });

  test('ranges: inside, to the end, past the end, empty', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}r`;
    const meta = await write(store, key, '0123456789');
    const range = async (start: number, end: number) => {
      const got = await store.get(key, { range: { start, end } });
      if (got.outcome !== 'found') throw new Error(got.outcome);
      expect(got.meta.generation).toBe(meta.generation);
      expect(got.meta.sizeBytes).toBe(10);
      return Buffer.from(got.body).toString();
    };
    expect(await range(0, 1)).toBe('0');
    expect(await range(2, 5)).toBe('234');
    expect(await range(7, 10)).toBe('789');
    expect(await range(7, 1_000)).toBe('789');
    expect(await range(3, 3)).toBe('');
    expect(await range(10, 20)).toBe('');
    expect(await range(50, 60)).toBe('');
  });

  test('ranges deep inside a large object', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}r`;
    const body = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
    await write(store, key, body);
    for (const [start, end] of [
      [0, 300_000],
      [1_000, 5_000],
      [70_000, 70_001],
      [65_000, 299_999],
      [299_990, 400_000],
    ] as const) {
      const got = await store.get(key, { range: { start, end } });
      expect(got.outcome === 'found' && Buffer.compare(got.body, body.subarray(start, end))).toBe(0);
    }
  });

  test(
    'conditional get of the same generation is unchanged',
    async () => {
      const { store } = contract;
      const key = `${contract.prefix()}c`;
      const first = await write(store, key, 'one');
      expect(await store.get(key, { ifGenerationNot: first.generation })).toMatchObject({
        outcome: 'unchanged',
      });
      await write(store, key, 'two', { ifGeneration: first.generation });
      const got = await store.get(key, { ifGenerationNot: first.generation });
      expect(got).toMatchObject({ outcome: 'found', body: text('two') });
    },
    'conditionalGet',
  );

  test(
    'base64 metadata up to the stated limit',
    async () => {
      const { store } = contract;
      const key = `${contract.prefix()}m`;
      const max = store.capabilities.metadataBytesMax;
      const bytes = Buffer.from(Uint8Array.from({ length: max }, (_, i) => (i * 7 + 0xfb) & 0xff));
      const value = bytes.toString('base64').slice(0, max - 'rf'.length);
      const written = await write(store, key, 'x', { ifGeneration: ABSENT, metadata: { rf: value } });
      expect(written.metadata).toEqual({ rf: value });
      expect((await store.head(key))?.metadata).toEqual({ rf: value });
      expect((await read(store, key)).meta.metadata).toEqual({ rf: value });
    },
    'metadataBytesMax',
  );

  test('createdAt and serverTime are the time of this host, more or less', async () => {
    const { store } = contract;
    const skew = contract.options.clockSkewMsMax;
    const key = `${contract.prefix()}t`;
    const from = Date.now() - skew;
    const meta = await write(store, key);
    const got = await read(store, key);
    const until = Date.now() + skew;
    for (const time of [meta.createdAt, got.meta.createdAt, got.serverTime]) {
      expect(time).toBeGreaterThanOrEqual(from);
      expect(time).toBeLessThanOrEqual(until);
    }
  });

  test('an already aborted signal rejects', async () => {
    const { store } = contract;
    const key = `${contract.prefix()}s`;
    const signal = AbortSignal.abort();
    const cancelled = { code: 'CANCELLED' };
    await expect(store.get(key, { signal })).rejects.toMatchObject(cancelled);
    await expect(store.put(key, text('x'), { signal })).rejects.toMatchObject(cancelled);
    await expect(store.delete(key, { ifGeneration: '1', signal })).rejects.toMatchObject(cancelled);
    await expect(store.list({ prefix: key, signal })).rejects.toMatchObject(cancelled);
    expect(await store.head(key)).toBeNull();
  });

  test('an already aborted signal rejects head', async () => {
    const { store } = contract;
    const call = store.head(`${contract.prefix()}s`, { signal: AbortSignal.abort() });
    await expect(call).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('keys of encoded segments round trip', async () => {
    const { store } = contract;
    const prefix = contract.prefix();
    const ids = ['abcxyzABCXYZ0189._:@~+=-_', 'a:b', 'a@b', 'a+b', 'a=b', 'a~b', 'a.b', 'a%b', '00', 'A-'];
    const keys = ids.map((id) => `${prefix}${encodeSegment(id)}/${encodeSegment(id)}.json`);
    for (const key of keys) await write(store, key);
    for (const key of keys) expect((await read(store, key)).body).toEqual(text(key));
    const listed = await store.list({ prefix });
    expect(listed.items.map((item) => item.key)).toEqual([...keys].sort());
  });
}
