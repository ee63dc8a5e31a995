import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CorruptError, FormatError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { type Projection, tablesOf } from '../../src/runs/projection.ts';
import type { Dataset } from '../../src/runs/run.ts';
import { decodeGroups, encodeGroups, type HistoryGroup } from '../../src/snapshot/history-index.ts';
import { coalesce, groupBytes, type HistoryFilter, selectGroups } from '../../src/snapshot/history-select.ts';
import { text } from './arbitrary.ts';
import { entriesIn, newestOf, revisions, seal } from './history-model.ts';

const KEY = 'catalog/orgs/acme/manifest.json';
const table = fc.option(fc.record({ namespace: text, name: text.filter((name) => name !== '') }), {
  nil: null,
});
const groupLists: fc.Arbitrary<HistoryGroup[]> = fc
  .array(
    fc.record({
      gap: fc.nat(100),
      size: fc.oneof(fc.integer({ min: 1, max: 2 ** 20 }), fc.integer({ min: 1, max: 2 ** 45 })),
      rows: fc.integer({ min: 1, max: 20_000 }),
      crc32c: fc.nat(0xffff_ffff),
      first: table,
      last: table,
      created_at_min: fc.maxSafeNat(),
      created_at_max: fc.maxSafeNat(),
      updated_at_max: fc.maxSafeNat(),
    }),
    { maxLength: 20 },
  )
  .map((groups) => {
    let end = 4;
    return groups.map(({ gap, ...group }) => {
      const offset = end + gap;
      end = offset + group.size;
      return { offset, ...group };
    });
  });

describe('the index of a history part', () => {
  it('reads back as it was', () => {
    fc.assert(
      fc.property(groupLists, (groups) => {
        expect(decodeGroups(KEY, encodeGroups(groups))).toEqual(groups);
      }),
    );
  });

  it('takes at most 40 characters per group of 20 000 rows', () => {
    const random = seededRandom(5);
    const below = (end: number) => random.u32() % end;
    const boundary = (i: number) => ({
      namespace: `warehouse.${Math.floor(i / 120)}`,
      name: `analytics.fact_orders_${100_000 + i * 97 + below(90)}`,
    });
    let offset = 4;
    let last = boundary(0);
    const groups = Array.from({ length: 500 }, (_, i): HistoryGroup => {
      const first = below(2) === 0 ? last : boundary(i);
      last = boundary(i + 0.5);
      const created_at_max = 1_790_000_000_000 - below(600_000_000);
      const group = {
        offset,
        size: 950_000 + below(60_000),
        rows: 20_000,
        crc32c: random.u32(),
        first,
        last,
        created_at_min: 1_758_000_000_000 + below(600_000_000),
        created_at_max,
        updated_at_max: created_at_max + below(900_000),
      };
      offset += group.size;
      return group;
    });
    expect(encodeGroups(groups).length / groups.length).toBeLessThan(40);
  });

  it('is refused when cut, spoilt or newer', () => {
    const [groups] = fc.sample(
      groupLists.filter(({ length }) => length > 3),
      { numRuns: 1, seed: 1 },
    );
    const encoded = encodeGroups(groups!);
    for (let end = 0; end < encoded.length; end++) {
      expect(() => decodeGroups(KEY, encoded.slice(0, end))).toThrow(CorruptError);
    }
    const bytes = Buffer.from(encoded, 'base64');
    for (let bit = 8; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeGroups(KEY, bytes.toString('base64'))).toThrow(CorruptError);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    bytes[0] = 2;
    expect(() => decodeGroups(KEY, bytes.toString('base64'))).toThrow(FormatError);
  });
});

const matches = ({ table: wanted, since, until }: HistoryFilter, row: Projection) =>
  (since === undefined || row.created_at >= since) &&
  (until === undefined || row.created_at < until) &&
  (wanted === undefined ||
    tablesOf(row).some(
      ({ namespace, name }) =>
        (wanted.namespace === undefined || wanted.namespace === namespace) &&
        (wanted.name === undefined || wanted.name === name),
    ));

describe('selectGroups', () => {
  it('leaves out no group that changes the answer, runs that were moved back in time included', async () => {
    const time = fc.option(fc.nat(45), { nil: undefined });
    const shape = fc.constantFrom('any', 'both', 'namespace', 'name');
    await fc.assert(
      fc.asyncProperty(
        revisions,
        fc.integer({ min: 1, max: 3 }),
        fc.record({ since: time, until: time, shape, pick: fc.nat() }),
        async (parts, groupRows, { shape, pick, ...times }) => {
          const sealed = await Promise.all(parts.map((rows) => seal(rows, groupRows)));
          const tables: Dataset[] = parts.flat().flatMap(tablesOf);
          const chosen = tables[pick % Math.max(1, tables.length)];
          const filter: HistoryFilter = {
            ...times,
            ...(shape === 'any' || chosen === undefined
              ? {}
              : {
                  table: {
                    ...(shape === 'name' ? {} : { namespace: chosen.namespace }),
                    ...(shape === 'namespace' ? {} : { name: chosen.name }),
                  },
                }),
          };
          const answer = (rows: readonly Projection[]) =>
            newestOf(rows).filter((row) => matches(filter, row));
          const read = sealed.flatMap((part) => entriesIn(part, selectGroups(part.groups, filter)));
          expect(answer(read.map(({ row }) => row))).toEqual(answer(parts.flat()));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('reads only the groups of one table, and of its time', () => {
    const groups = Array.from({ length: 100 }, (_, g): HistoryGroup => {
      const at = { namespace: 'n', name: `t${String(Math.floor(g / 4)).padStart(3, '0')}` };
      const created = 1_000 * (g % 4);
      return {
        ...{ offset: 4 + 100 * g, size: 100, rows: 10, crc32c: 0, first: at, last: at },
        ...{ created_at_min: created, created_at_max: created + 999, updated_at_max: created + 999 },
      };
    });
    const numbers = (filter: HistoryFilter) =>
      selectGroups(groups, filter).map((group) => groups.indexOf(group));
    expect(numbers({ table: { namespace: 'n', name: 't007' } })).toEqual([28, 29, 30, 31]);
    expect(numbers({ table: { name: 't007' }, since: 2_000 })).toEqual([30, 31]);
    expect(numbers({ table: { namespace: 'n', name: 't007' }, since: 1_000, until: 2_000 })).toEqual([29]);
    expect(numbers({ table: { namespace: 'm' } })).toEqual([]);
    expect(numbers({}).length).toBe(100);
  });
});

describe('coalesce', () => {
  const limits = fc.record({
    historyGapBytesMax: fc.nat(60),
    historyRangeBytesMax: fc.integer({ min: 1, max: 500 }),
  });

  it('covers each group once, within the cap, over gaps that are worth it, and in no more requests than need be', () => {
    const sizes = fc.array(fc.record({ size: fc.integer({ min: 1, max: 100 }), chosen: fc.boolean() }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(sizes, limits, (list, caps) => {
        const blank = { rows: 1, crc32c: 0, first: null, last: null };
        const times = { created_at_min: 0, created_at_max: 0, updated_at_max: 0 };
        let offset = 4;
        const all = list.map(({ size }): HistoryGroup => {
          const group = { offset, size, ...blank, ...times };
          offset += size;
          return group;
        });
        const selected = all.filter((_, i) => list[i]!.chosen);
        const ranges = coalesce(selected, caps);
        expect(ranges.flatMap(({ groups }) => groups)).toEqual(selected);
        ranges.forEach((range, r) => {
          const [first, last] = [range.groups[0]!, range.groups.at(-1)!];
          expect([range.offset, range.offset + range.size]).toEqual([first.offset, last.offset + last.size]);
          if (range.groups.length > 1) expect(range.size).toBeLessThanOrEqual(caps.historyRangeBytesMax);
          range.groups.slice(1).forEach((group, k) => {
            const before = range.groups[k]!;
            const gap = group.offset - before.offset - before.size;
            expect(gap).toBeLessThanOrEqual(caps.historyGapBytesMax);
          });
          const next = ranges[r + 1]?.groups[0];
          if (next === undefined) return;
          const joined = next.offset + next.size - range.offset;
          const gap = next.offset - range.offset - range.size;
          expect(gap > caps.historyGapBytesMax || joined > caps.historyRangeBytesMax).toBe(true);
        });
      }),
    );
  });

  it('finds a group in the bytes of its range', async () => {
    const parts = fc.sample(
      revisions.filter((lists) => lists.flat().length > 6),
      { numRuns: 1, seed: 3 },
    )[0]!;
    const part = await seal(newestOf(parts.flat()), 2);
    const [range] = coalesce(part.groups);
    const bytes = part.bytes.subarray(range!.offset, range!.offset + range!.size);
    for (const group of part.groups) {
      expect(groupBytes(range!, bytes, group)).toEqual(
        part.bytes.subarray(group.offset, group.offset + group.size),
      );
    }
  });
});
