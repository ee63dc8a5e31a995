import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/core/crc32c.ts';
import { CorruptError, FormatError } from '../../src/core/errors.ts';
import { DICTIONARY_V1 } from '../../src/log/dictionary.ts';
import { decodeEntry, encodeEntry, INLINE_KEY, inlineBody, inlinePayload } from '../../src/log/entry.ts';
import { readEntries } from '../../src/log/tail.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT, type ObjectMeta } from '../../src/store/object-store.ts';
import { WRITE_ID } from '../../src/store/resilient.ts';
import { projections } from '../snapshot/arbitrary.ts';
import { START } from '../support/fake-clock.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { dataset, ORG, put, rowOf } from '../support/runs.ts';

const KEY = 'catalog/orgs/acme/log/x.json';
const METADATA_MAX = 8 * 1024;
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

const rows = projections(ORG);
const records: fc.Arbitrary<LogRecord> = fc.oneof(
  fc.record({ kind: fc.constant('put' as const), row: rows }),
  fc.record({ kind: fc.constant('intent' as const), row: rows }),
  fc.record({
    kind: fc.constant('delete' as const),
    run_id: fc.string(),
    revision: fc.integer({ min: 1 }),
    deleted_at: fc.nat(),
  }),
);
const entries = fc.array(records, { minLength: 1, maxLength: 8 });

function itemOf(body: Uint8Array, metadata: Record<string, string>): ObjectMeta {
  const meta = { key: KEY, generation: '1', sizeBytes: body.length, createdAt: START };
  return { ...meta, crc32c: crc32c(body), metadata };
}

describe('an entry', () => {
  it('comes back as it was, by its body and by its inline payload', () => {
    fc.assert(
      fc.property(entries, (all) => {
        const body = encodeEntry({ org_id: ORG, records: all });
        const decoded = decodeEntry(KEY, ORG, body);
        expect(JSON.stringify(decoded.records)).toBe(JSON.stringify(all));
        const inlined = inlineBody(itemOf(body, inlinePayload(body, METADATA_MAX)));
        if (inlined !== null) expect(Buffer.compare(inlined, body)).toBe(0);
      }),
    );
  });

  it('of another org is corrupt, also where only a row is', () => {
    const body = encodeEntry({ org_id: ORG, records: [put()] });
    expect(() => decodeEntry(KEY, 'other', body)).toThrow(CorruptError);
    const mixed = encodeEntry({ org_id: ORG, records: [put(), put({ org_id: 'other' })] });
    expect(() => decodeEntry(KEY, ORG, mixed)).toThrow(CorruptError);
  });

  it('of a newer format is refused, not half read', () => {
    const newer = text({ format: 2, org_id: ORG, records: [{ kind: 'from the future' }] });
    expect(() => decodeEntry(KEY, ORG, newer)).toThrow(FormatError);
  });

  it.each([
    ['nothing', new Uint8Array()],
    ['no JSON', text('x').slice(1)],
    ['null', text(null)],
    ['a list', text([])],
    ['no format', text({ org_id: ORG, records: [put()] })],
    ['format 0', text({ format: 0, org_id: ORG, records: [put()] })],
    ['no records', text({ format: 1, org_id: ORG, records: [] })],
    ['a record of no kind', text({ format: 1, org_id: ORG, records: [{ row: rowOf() }] })],
    [
      'a row without a revision',
      text({ format: 1, org_id: ORG, records: [put({ revision: undefined as never })] }),
    ],
    ['revision 0', text({ format: 1, org_id: ORG, records: [put({ revision: 0 })] })],
    ['an unknown status', text({ format: 1, org_id: ORG, records: [put({ status: 'LOST' as never })] })],
    ['a time that is none', text({ format: 1, org_id: ORG, records: [put({ updated_at: 1.5 })] })],
  ])('garbage (%s) is corrupt', (_, body) => {
    expect(() => decodeEntry(KEY, ORG, body)).toThrow(CorruptError);
  });

  it('cut short or with a bit flipped never passes for whole', () => {
    const body = encodeEntry({ org_id: ORG, records: [put()] });
    const item = itemOf(body, inlinePayload(body, METADATA_MAX));
    const payload = Buffer.from(item.metadata[INLINE_KEY]!, 'base64');
    for (let bit = 0; bit < payload.length * 8; bit++) {
      const damaged = Buffer.from(payload);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const got = inlineBody({ ...item, metadata: { [INLINE_KEY]: damaged.toString('base64') } });
      // Bits after the end of the deflate stream carry nothing: what comes out is whole, or nothing does.
      if (got !== null) expect(Buffer.compare(got, body)).toBe(0);
    }
    for (let length = 0; length < body.length; length++)
      expect(() => decodeEntry(KEY, ORG, body.slice(0, length))).toThrow(CorruptError);
  });
});

describe('the inline payload', () => {
  const bodyOf = (count: number, filler: (i: number) => string) =>
    encodeEntry({
      org_id: ORG,
      records: Array.from({ length: count }, (_, i) =>
        put({ run_id: `0190-${i}`, outputs: [dataset(`public.orders_${i % 7}`)], reference_id: filler(i) }),
      ),
    });
  const sizeOf = (metadata: Record<string, string>) =>
    Object.entries(metadata).reduce((n, [name, value]) => n + name.length + value.length, 0);
  const noise = (i: number) =>
    Array.from({ length: 40 }, (_, j) => (((i + 1) * (j + 7919) * 2654435761) % 4294967296) | 0).join();

  it('makes one record small, and twenty fit', () => {
    expect(
      sizeOf(
        inlinePayload(
          bodyOf(1, () => 'etl/daily'),
          METADATA_MAX,
        ),
      ),
    ).toBeLessThan(300);
    expect(
      sizeOf(
        inlinePayload(
          bodyOf(20, () => 'etl/daily'),
          METADATA_MAX,
        ),
      ),
    ).toBeLessThan(1_500);
  });

  it("leaves room for the store's own metadata under the limit, whatever the body", () => {
    for (const count of [1, 10, 20, 30, 40, 60, 80, 1_000]) {
      const payload = inlinePayload(bodyOf(count, noise), METADATA_MAX);
      expect(sizeOf(payload) + WRITE_ID.length + 32).toBeLessThanOrEqual(METADATA_MAX);
    }
  });

  it('is left out where it does not fit, or the store carries none', () => {
    expect(inlinePayload(bodyOf(1_000, noise), METADATA_MAX)).toEqual({});
    expect(inlinePayload(bodyOf(1, noise), 0)).toEqual({});
    expect(inlineBody(itemOf(new Uint8Array(), {}))).toBeNull();
  });

  it('uses the first dictionary, whose bytes are part of the format', () => {
    expect(INLINE_KEY).toBe('rf-entry-1');
    expect(DICTIONARY_V1.length).toBeLessThan(32 * 1024);
  });
});

describe('reading the tail', () => {
  const name = '0192d3c0-0000-7000-8000-00000000000';
  const key = (i: number | string) => `catalog/orgs/${ORG}/log/${name}${i}.json`;

  async function storeWith(objects: [key: string, body: Uint8Array, metadata?: Record<string, string>][]) {
    const store = new MemoryStore();
    for (const [key, body, metadata] of objects)
      await store.put(key, body, { ifGeneration: ABSENT, metadata });
    const calls: StoreCall[] = [];
    const { items } = await store.list({ prefix: '' });
    let fetched = 0;
    const read = async () => {
      const answer = await readEntries(recording(store, calls), ORG, items, { parallel: 4 });
      fetched = answer.fetched;
      return answer.entries;
    };
    return { store, items, calls, read, fetched: () => fetched };
  }
  const body = encodeEntry({ org_id: ORG, records: [put()] });
  const inline = inlinePayload(body, METADATA_MAX);

  it('what travelled in the listing costs no request, what did not costs one', async () => {
    const { calls, read, fetched } = await storeWith([
      [key(1), body, inline],
      [key(2), body],
    ]);
    const read2 = await read();
    expect(read2.map((one) => 'entry' in one && one.entry.records.length)).toEqual([1, 1]);
    expect(calls.map((call) => `${call.operation} ${call.key}`)).toEqual([`get ${key(2)}`]);
    expect(fetched()).toBe(1);
  });

  it('a damaged payload falls back to the body', async () => {
    const other = inlinePayload(
      encodeEntry({ org_id: ORG, records: [put({ run_id: 'evil' })] }),
      METADATA_MAX,
    );
    for (const damaged of [{ [INLINE_KEY]: '%%%' }, { [INLINE_KEY]: '' }, other]) {
      const { calls, read } = await storeWith([[key(1), body, damaged]]);
      expect(await read()).toMatchObject([{ entry: { records: [put()] } }]);
      expect(calls).toHaveLength(1);
    }
  });

  it('a payload that inflates without end is not followed', async () => {
    const { deflateRawSync } = await import('node:zlib');
    const bomb = deflateRawSync(new Uint8Array(5 * 1024 * 1024)).toString('base64');
    const { read } = await storeWith([[key(1), body, { [INLINE_KEY]: bomb }]]);
    expect(await read()).toMatchObject([{ entry: { records: [put()] } }]);
  });

  it('corrupt entries are problems that name their object; the others are read', async () => {
    const foreign = encodeEntry({ org_id: 'other', records: [put({ org_id: 'other' })] });
    const { read } = await storeWith([
      [key(1), body],
      [key(2), text('garbage')],
      [key(3), foreign, inlinePayload(foreign, METADATA_MAX)],
      [key('9x'), body],
    ]);
    expect(await read()).toMatchObject([
      { entry: { records: [put()] } },
      { problem: { key: key(2) } },
      { problem: { key: key(3), message: expect.stringContaining('another org') } },
      { problem: { key: key('9x'), message: expect.stringContaining('name') } },
    ]);
  });

  it('an entry of a newer runfold stops the reader', async () => {
    const { read } = await storeWith([[key(1), text({ format: 9 })]]);
    await expect(read()).rejects.toBeInstanceOf(FormatError);
  });

  it('one deleted since it was listed is gone, not corrupt', async () => {
    const { store, items, read } = await storeWith([[key(1), body]]);
    await store.delete(key(1), { ifGeneration: items[0]!.generation });
    expect(await read()).toMatchObject([{ gone: true }]);
  });
});
