import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { parquetMetadata } from 'hyparquet/src/metadata.js';
import { parquetReadObjects } from 'hyparquet/src/read.js';
import parquetjs from 'parquetjs-lite';
import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { CorruptError, FormatError, InputError } from '../../src/core/errors.ts';
import { decodePart, PART_CODECS, partCodec, partStatistics } from '../../src/snapshot/codec.ts';
import { parquetjsCodec } from '../../src/snapshot/codec-parquetjs.ts';
import { COLUMNS } from '../../src/snapshot/columns.ts';
import { Rows } from '../../src/snapshot/rows.ts';
import { projections } from './arbitrary.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const ORG = 'acme';
const KEY = 'catalog/orgs/acme/snapshots/part.parquet';

describe.each([
  ...PART_CODECS.map((name) => ({ name, load: () => partCodec(name) })),
  { name: 'parquetjs with gzip', load: async () => parquetjsCodec({ compression: 'GZIP' }) },
])('the $name codec', ({ load }) => {
  it('gives back every projection, byte for byte as JSON', async () => {
    const codec = await load();
    const options = fc.record({ rowGroupRows: fc.integer({ min: 1, max: 12 }), pageIndex: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(projections(ORG), { maxLength: 12 }),
        options,
        async (rows, encodeOptions) => {
          const decoded = await decodePart(KEY, await codec.encode(tableOf(ORG, rows), encodeOptions));
          expect(decoded.orgId).toBe(ORG);
          expect(json(projectionsOf(decoded))).toEqual(json(rows));
        },
      ),
    );
  });

  it('gives back realistic rows over several row groups', async () => {
    const rows = realisticRows({ orgId: ORG, count: 5_000, seed: 3 });
    const part = await (await load()).encode(tableOf(ORG, rows), { rowGroupRows: 2_100, pageIndex: true });
    expect(parquetMetadata(part).row_groups.map(({ num_rows }) => Number(num_rows))).toEqual([
      2_100, 2_100, 800,
    ]);
    expect(json(projectionsOf(await decodePart(KEY, part)))).toEqual(json(rows));
  });

  it('gives the same bytes for the same rows, however they were built', async () => {
    const codec = await load();
    const rows = realisticRows({ orgId: ORG, count: 200, seed: 3 });
    const part = await codec.encode(tableOf(ORG, rows));
    expect(await codec.encode(await decodePart(KEY, part))).toEqual(part);
  });

  it('writes a part without rows', async () => {
    const decoded = await decodePart(KEY, await (await load()).encode(Rows.empty(ORG)));
    expect([decoded.length, decoded.orgId]).toEqual([0, ORG]);
  });

  it('describes the part to any Parquet reader', async () => {
    const rows = realisticRows({ orgId: ORG, count: 50, seed: 3 });
    const part = await (await load()).encode(tableOf(ORG, rows));
    const metadata = parquetMetadata(part);
    expect(
      Object.fromEntries(metadata.key_value_metadata!.map(({ key, value }) => [key, value])),
    ).toMatchObject({
      'runfold.part_format': '1',
      'runfold.org_id': ORG,
    });
    expect(metadata.schema.slice(1).map(({ name }) => name)).toEqual(COLUMNS.map(({ name }) => name));
  });

  it('refuses to encode rows whose columns were not all read', async () => {
    const codec = await load();
    const part = await codec.encode(tableOf(ORG, realisticRows({ orgId: ORG, count: 3, seed: 3 })));
    const some = await decodePart(KEY, part, { columns: ['status'] });
    await expect(codec.encode(some)).rejects.toThrow(InputError);
  });
});

describe('decodePart', () => {
  const rows = realisticRows({ orgId: ORG, count: 100, seed: 5 });
  const encoded = async () => (await partCodec()).encode(tableOf(ORG, rows));

  it('reads only the columns asked for, and run ids', async () => {
    const some = await decodePart(KEY, await encoded(), { columns: ['status', 'outputs'] });
    expect(some.runId(7)).toBe(rows[7]!.run_id);
    expect(some.status(7)).toBe(rows[7]!.status);
    expect([some.has('outputs'), some.has('queue')]).toEqual([true, false]);
    expect(() => some.text('queue', 0)).toThrow(InputError);
    expect(() => some.get(0)).toThrow(InputError);
  });

  it('refuses a newer format by name', async () => {
    const part = Buffer.from(await encoded());
    const at = part.indexOf('runfold.part_format') + 'runfold.part_format'.length;
    expect(part.toString('latin1', at + 2, at + 3)).toBe('1');
    part[at + 2] = '2'.charCodeAt(0);
    await expect(decodePart(KEY, part)).rejects.toThrow(FormatError);
  });

  it.each([
    ['nothing', new Uint8Array(0)],
    ['zeros', new Uint8Array(1_000)],
    ['two magic words', Buffer.from('PAR1\0\0\0\0PAR1')],
    ['text', Buffer.from('{"format":1}')],
  ])('calls %s corrupt, naming the key', async (_, bytes) => {
    const failure = await decodePart(KEY, bytes).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CorruptError);
    expect((failure as CorruptError).key).toBe(KEY);
  });
});

describe('partStatistics', () => {
  it('bounds what never changes or only grows', () => {
    const rows = realisticRows({ orgId: ORG, count: 500, seed: 9 });
    const finished = rows.map(({ finished_at }) => finished_at).filter((time) => time !== null);
    const ids = rows.map(({ run_id }) => run_id).sort();
    expect(partStatistics(tableOf(ORG, rows))).toEqual({
      rows: 500,
      run_id_min: ids[0],
      run_id_max: ids.at(-1),
      created_at_min: rows[0]!.created_at,
      created_at_max: rows.at(-1)!.created_at,
      updated_at_max: Math.max(...rows.map(({ updated_at }) => updated_at)),
      finished_at_max: Math.max(...finished),
      unfinished: 500 - finished.length,
    });
    expect(partStatistics(Rows.empty(ORG))).toMatchObject({
      rows: 0,
      run_id_min: null,
      created_at_max: null,
    });
  });
});

describe('other readers', () => {
  const rows = realisticRows({ orgId: ORG, count: 3_000, seed: 5 });
  const ids = rows.map(({ run_id }) => run_id);

  it('hyparquet reads the default codec, times as times, and prunes by its page index', async () => {
    const part = await (await partCodec()).encode(tableOf(ORG, rows), { pageIndex: true });
    const file = part.buffer.slice(part.byteOffset, part.byteOffset + part.byteLength) as ArrayBuffer;
    const compressors = { ZSTD: (input: Uint8Array) => zstdDecompressSync(input) };
    const all = await parquetReadObjects({ file, compressors, rowFormat: 'object' });
    expect(all.map(({ run_id }) => run_id)).toEqual(ids);
    expect(all[5]!.created_at).toEqual(new Date(rows[5]!.created_at));
    let bytesRead = 0;
    const counted = {
      byteLength: file.byteLength,
      slice: (start: number, end?: number) => {
        bytesRead += (end ?? file.byteLength) - start;
        return file.slice(start, end);
      },
    };
    const metadata = parquetMetadata(file);
    const filter = { run_id: { $eq: ids[2_500] } };
    const found = await parquetReadObjects({
      file: counted,
      metadata,
      filter,
      compressors,
      rowFormat: 'object',
      usePageIndex: true,
    });
    expect(found.map(({ run_id }) => run_id)).toEqual([ids[2_500]]);
    expect(bytesRead).toBeLessThan(file.byteLength * 0.6);
  });

  it('parquetjs-lite reads the parquetjs codec', async () => {
    const part = await parquetjsCodec().encode(tableOf(ORG, rows));
    const reader = await (
      parquetjs as unknown as { ParquetReader: { openBuffer(bytes: Buffer): Promise<ParquetjsReader> } }
    ).ParquetReader.openBuffer(Buffer.from(part));
    const cursor = reader.getCursor();
    for (const row of rows) {
      const read = await cursor.next();
      expect(read).toMatchObject({ run_id: row.run_id, created_at: BigInt(row.created_at) });
    }
    expect(await cursor.next()).toBeNull();
  });
});

interface ParquetjsReader {
  getCursor(): { next(): Promise<Record<string, unknown> | null> };
}
