import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { parquetMetadata } from 'hyparquet/src/metadata.js';
import { parquetReadObjects } from 'hyparquet/src/read.js';
import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { stateHashOf } from '../../src/catalog/fold.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { CorruptError, FormatError, InputError } from '../../src/core/errors.ts';
import { decodePart } from '../../src/snapshot/codec.ts';
import { isHistory } from '../../src/snapshot/history-directory.ts';
import { decodeHistory, decodeHistoryGroup } from '../../src/snapshot/history-read.ts';
import { HistoryWriter } from '../../src/snapshot/history-write.ts';
import {
  compareEntries,
  entriesIn,
  entriesJson,
  entriesOf,
  groupBytesOf,
  KEY,
  ORG,
  runs,
  seal,
} from './history-model.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const groupSizes = fc.integer({ min: 1, max: 9 });

describe('a history part', () => {
  it('has every run under each of its tables, in order, and reads back byte for byte', async () => {
    await fc.assert(
      fc.asyncProperty(runs, groupSizes, async (rows, groupRows) => {
        const part = await seal(rows, groupRows);
        const expected = entriesOf(rows).sort(compareEntries);
        expect(entriesJson(entriesIn(part))).toEqual(entriesJson(expected));
        expect(
          part.groups.every((group, g) => group.rows === groupRows || g === part.groups.length - 1),
        ).toBe(true);
        expect([part.rows, part.runs]).toEqual([expected.length, rows.length]);
        expect(part.stateHash.hex()).toBe(stateHashOf(tableOf(ORG, rows)).hex());
      }),
    );
  });

  it('has a run with several outputs and a target once under each, and one of them primary', async () => {
    const [row] = realisticRows({ orgId: ORG, count: 1, seed: 1 });
    const [a, b] = [
      { namespace: 'n', name: 'a' },
      { namespace: 'n', name: 'b' },
    ];
    const payload = { ...row!.payload, target_namespace: 'm', target_table: 'target' };
    const part = await seal(
      [
        { ...row!, run_id: 'several', outputs: [b, a, b], payload },
        { ...row!, run_id: 'none', outputs: [], payload: { ...payload, target_table: null } },
      ],
      10,
    );
    expect(entriesIn(part).map(({ table, primary, row }) => [table?.name, primary, row.run_id])).toEqual([
      [undefined, true, 'none'],
      ['target', false, 'several'],
      ['a', false, 'several'],
      ['b', true, 'several'],
    ]);
    expect([part.rows, part.runs]).toEqual([4, 2]);
  });

  it('describes itself: bounds over first_created_at, and no last end while a run has none', async () => {
    const rows = realisticRows({ orgId: ORG, count: 300, seed: 2 }).filter((row) => row.finished_at !== null);
    const moved = { ...rows[0]!, created_at: 5, first_created_at: rows.at(-1)!.created_at + 1_000 };
    const part = await seal([moved, ...rows.slice(1)], 50);
    expect(part).toMatchObject({
      created_at_min: 5,
      created_at_max: moved.first_created_at,
      updated_at_max: Math.max(...rows.map(({ updated_at }) => updated_at)),
      finished_at_max: Math.max(...rows.map(({ finished_at }) => finished_at!)),
    });
    expect((await seal([{ ...moved, finished_at: null }, ...rows], 50)).finished_at_max).toBeNull();
    expect(await seal([], 50)).toMatchObject({
      rows: 0,
      groups: [],
      created_at_min: null,
      finished_at_max: null,
    });
  });

  it('is written with the same bytes for the same rows in any order', async () => {
    const rows = realisticRows({ orgId: ORG, count: 500, seed: 2 });
    const [one, two] = [await seal(rows, 128), await seal(rows.toReversed(), 128)];
    expect(Buffer.compare(one.bytes, two.bytes)).toBe(0);
  });

  it('is read whole without its index, which comes out the same', async () => {
    await fc.assert(
      fc.asyncProperty(runs, groupSizes, async (rows, groupRows) => {
        const part = await seal(rows, groupRows);
        const groups = [...decodeHistory(KEY, ORG, part.bytes)].map(({ group }) => group);
        expect(groups).toEqual(part.groups);
        expect(isHistory(part.bytes)).toBe(rows.length > 0);
      }),
    );
  });

  it('is Parquet: any reader gets rows, extra columns and all', async () => {
    const rows = realisticRows({ orgId: ORG, count: 700, seed: 2 });
    const part = await seal(rows, 300);
    const expected = entriesIn(part);
    expect(json(projectionsOf(await decodePart(KEY, part.bytes)))).toEqual(
      json(expected.map(({ row }) => row)),
    );
    const file = part.bytes.slice().buffer as ArrayBuffer;
    expect(parquetMetadata(file).row_groups.map((group) => Number(group.num_rows))).toEqual([300, 300, 100]);
    const read = await parquetReadObjects({
      file,
      compressors: { ZSTD: (input: Uint8Array) => zstdDecompressSync(input) },
      rowFormat: 'object',
    });
    expect(read.map((row) => [row.table_namespace, row.table_name, row.table_primary, row.run_id])).toEqual(
      expected.map(({ table, primary, row }) => [table!.namespace, table!.name, primary, row.run_id]),
    );
  });

  it('reads only the columns asked for, and the table', async () => {
    const part = await seal(realisticRows({ orgId: ORG, count: 20, seed: 2 }), 50);
    const [group] = part.groups;
    const history = decodeHistoryGroup(KEY, ORG, groupBytesOf(part, group!), group!, { columns: ['status'] });
    const [whole] = entriesIn(part);
    expect([history.table(0), history.rows.status(0), history.rows.runId(0)]).toEqual([
      whole!.table,
      whole!.row.status,
      whole!.row.run_id,
    ]);
    expect(() => history.rows.text('queue', 0)).toThrow(InputError);
  });
});

describe('HistoryWriter', () => {
  it('refuses rows out of order, twice the same key, and rows of another org', async () => {
    const part = await seal(realisticRows({ orgId: ORG, count: 20, seed: 2 }), 50);
    const history = decodeHistoryGroup(KEY, ORG, groupBytesOf(part, part.groups[0]!), part.groups[0]!);
    const push = (groupRows: number, ...rows: number[]) => {
      const writer = new HistoryWriter(ORG, { groupRows });
      for (const i of rows) writer.push(history, i, i + 1);
      return writer.finish().rows;
    };
    for (const groupRows of [1, 2, 10]) {
      expect(push(groupRows, 0, 3, 4, 19)).toBe(4);
      expect(() => push(groupRows, 0, 4, 3)).toThrow(InputError);
      expect(() => push(groupRows, 0, 3, 3)).toThrow(InputError);
    }
    expect(() => new HistoryWriter('other').push(history)).toThrow(InputError);
  });
});

describe('a broken row group', () => {
  it('is corrupt whichever bit is flipped (law 8)', async () => {
    const part = await seal(realisticRows({ orgId: ORG, count: 6, seed: 4 }), 4);
    const [group] = part.groups;
    const bytes = groupBytesOf(part, group!);
    const table = decodeHistoryGroup(KEY, ORG, bytes, group!).table(0);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeHistoryGroup(KEY, ORG, bytes, group!)).toThrow(CorruptError);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(decodeHistoryGroup(KEY, ORG, bytes, group!).table(0)).toEqual(table);
  });

  it('is caught, or reads the same, even where only its own checksums are left to tell', async () => {
    const part = await seal(realisticRows({ orgId: ORG, count: 6, seed: 4 }), 4);
    const [group] = part.groups;
    const bytes = groupBytesOf(part, group!);
    const right = json(projectionsOf(decodeHistoryGroup(KEY, ORG, bytes, group!).rows));
    for (let bit = 0; bit < bytes.length * 8; bit += 7) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      try {
        const read = decodeHistoryGroup(KEY, ORG, bytes, { ...group!, crc32c: crc32c(bytes) });
        expect(json(projectionsOf(read.rows))).toEqual(right);
      } catch (error) {
        if (!(error instanceof CorruptError || error instanceof FormatError)) throw error;
      }
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it('is corrupt when cut, when it is another group, and when it is of another org', async () => {
    const part = await seal(realisticRows({ orgId: ORG, count: 60, seed: 4 }), 20);
    const [first, second] = part.groups as [(typeof part.groups)[0], (typeof part.groups)[0]];
    const bytes = groupBytesOf(part, first);
    const refused = (org: string, given: Uint8Array, group = first) =>
      expect(() => decodeHistoryGroup(KEY, org, given, group)).toThrow(CorruptError);
    refused(ORG, bytes.subarray(0, -1));
    refused(ORG, new Uint8Array(0), { ...first, size: 0, crc32c: 0 });
    refused(ORG, bytes, second);
    refused(ORG, bytes, { ...first, rows: 19 });
    refused(ORG, bytes, { ...first, last: null });
    refused('other', bytes);
  });
});
