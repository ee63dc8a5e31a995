import fc from 'fast-check';
import { parquetMetadata } from 'hyparquet';
import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { merge, Overlay, prune } from '../../src/catalog/fold.ts';
import { CorruptError, InputError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { projectionHash } from '../../src/runs/projection.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { decodePart, PART_CODECS, partCodec } from '../../src/snapshot/codec.ts';
import { STORED_COLUMNS, type StoredColumn } from '../../src/snapshot/columns.ts';
import { type Rows, RowsBuilder } from '../../src/snapshot/rows.ts';
import { projections } from './arbitrary.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const ORG = 'acme';
const KEY = 'catalog/orgs/acme/snapshots/p.parquet';
const LAZY = { lazy: true };
const rows = realisticRows({ orgId: ORG, count: 300, seed: 11 });

async function encoded(name: (typeof PART_CODECS)[number] = 'hyparquet'): Promise<Uint8Array> {
  return (await partCodec(name)).encode(tableOf(ORG, rows), { rowGroupRows: 120 });
}

/** One bit of one column is another. */
function flipped(part: Uint8Array, name: StoredColumn): Uint8Array {
  const { row_groups } = parquetMetadata(part);
  const { meta_data } = row_groups[1]!.columns.find(
    (column) => column.meta_data!.path_in_schema[0] === name,
  )!;
  const { dictionary_page_offset, data_page_offset, total_compressed_size } = meta_data!;
  const broken = Uint8Array.from(part);
  broken[Number(dictionary_page_offset ?? data_page_offset) + Number(total_compressed_size) - 1]! ^= 4;
  return broken;
}

function vectorsOf(table: Rows, order: readonly StoredColumn[]) {
  return order.map((name) => {
    const vector = table.vector(name);
    return Array.from({ length: table.length }, (_, i) => vector.at(i));
  });
}

describe('columns decoded when they are first asked for', () => {
  it.each(PART_CODECS)('are those that are decoded at once, in whatever order (%s)', async (name) => {
    const part = await encoded(name);
    const random = seededRandom(5);
    for (let k = 0; k < 5; k++) {
      const order = STORED_COLUMNS.map((definition) => ({ name: definition.name, at: random.u32() }))
        .sort((a, b) => a.at - b.at)
        .map((drawn) => drawn.name);
      const lazy = await decodePart(KEY, part, LAZY);
      expect(vectorsOf(lazy, order)).toEqual(vectorsOf(await decodePart(KEY, part), order));
      expect(json(projectionsOf(lazy))).toEqual(json(rows));
    }
  });

  it('cost memory only then, and let go of the part when all are decoded', async () => {
    const part = await encoded();
    const lazy = await decodePart(KEY, part, LAZY);
    expect(lazy.has('queue')).toBe(true);
    const before = lazy.sizeBytes;
    expect(before).toBeGreaterThan(part.length);
    for (const { name } of STORED_COLUMNS) lazy.vector(name);
    expect(lazy.sizeBytes).toBeLessThan(before);
    expect(lazy.sizeBytes).toBe((await decodePart(KEY, part)).sizeBytes);
  });

  it('can be some: the others were left out', async () => {
    const some = await decodePart(KEY, await encoded(), { ...LAZY, columns: ['result_uri'] });
    expect([some.has('run_id'), some.has('result_uri'), some.has('has_result')]).toEqual([true, true, false]);
    expect(some.text('result_uri', 3)).toBe(rows[3]!.result?.uri ?? null);
    expect(() => some.vector('has_result')).toThrow(InputError);
  });

  it.each(PART_CODECS)('give some rows whole without decoding the others (%s)', async (name) => {
    const random = seededRandom(8);
    for (let k = 0; k < 12; k++) {
      const lazy = await decodePart(KEY, await encoded(name), LAZY);
      const wanted = Array.from({ length: k * 3 }, () => random.u32() % rows.length).sort((a, b) => a - b);
      const rising = Uint32Array.from(new Set(wanted));
      // Some columns are there already.
      for (const definition of STORED_COLUMNS) if (random.u32() % 4 === 0) lazy.vector(definition.name);
      const before = lazy.sizeBytes;
      const { rows: picked, at } = lazy.pick(rising);
      expect(json(Array.from(at, (i) => picked.get(i)))).toEqual(json(Array.from(rising, (i) => rows[i]!)));
      expect(picked.length).toBe(rising.length);
      expect(lazy.sizeBytes).toBe(before);
    }
  });

  it('are decoded whole for many rows: little would be spared', async () => {
    const lazy = await decodePart(KEY, await encoded(), LAZY);
    const many = Uint32Array.from({ length: 200 }, (_, i) => i);
    expect(lazy.pick(many)).toEqual({ rows: lazy, at: many });
  });

  it('of any projections give some rows whole', async () => {
    const codec = await partCodec();
    await fc.assert(
      fc.asyncProperty(
        fc.array(projections(ORG), { minLength: 17, maxLength: 40 }),
        fc.nat(),
        async (all, draw) => {
          const lazy = await decodePart(
            KEY,
            await codec.encode(tableOf(ORG, all), { rowGroupRows: 15 }),
            LAZY,
          );
          const rising = Uint32Array.of(draw % 15, 15 + (draw % (all.length - 15)));
          const { rows: picked, at } = lazy.pick(rising);
          expect(picked).not.toBe(lazy);
          expect(json(Array.from(at, (i) => picked.get(i)))).toEqual(
            json(Array.from(rising, (i) => all[i]!)),
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  it('are not all decoded to weigh facts of the same revision', async () => {
    const base = await decodePart(KEY, await encoded(), LAZY);
    const other = { ...rows[250]!, kind: 'other' };
    const facts: LogRecord[] = [rows[1]!, rows[40]!, other].map((row) => ({ kind: 'put', row }));
    const overlay = new Overlay().applyAll(facts);
    base.indexOf('');
    base.vector('revision');
    const before = base.sizeBytes;
    const { puts } = merge(base, overlay);
    prune(overlay, base);
    expect(base.sizeBytes).toBe(before);
    const decides = projectionHash(other) > projectionHash(rows[250]!) ? [other.run_id] : [];
    expect(puts.map(({ row }) => row.run_id)).toEqual(decides);
    expect([...overlay.facts.keys()]).toEqual(decides);
  });

  it.each(STORED_COLUMNS.map(({ name }) => name))(
    '%s: is never served when corrupt (law 8)',
    async (name) => {
      const broken = flipped(await encoded(), name);
      await expect(decodePart(KEY, broken)).rejects.toThrow(CorruptError);
      const lazy = await decodePart(KEY, broken, LAZY);
      // Each time it is asked for, and for whoever copies rows.
      for (const touch of [
        () => lazy.vector(name),
        () => lazy.vector(name),
        () => new RowsBuilder(ORG).copy(lazy, 0),
        // The broken bit is in the group of the second.
        () => lazy.pick(Uint32Array.of(3, 121)).rows.vector(name),
      ]) {
        expect(touch).toThrow(CorruptError);
        expect(touch).toThrow(`column ${name}`);
        expect(touch).toThrow(KEY);
      }
    },
  );

  it('of another org are found at once', async () => {
    const part = Buffer.from(await encoded());
    const at = part.lastIndexOf(ORG);
    part.write('acmf', at);
    await expect(decodePart(KEY, part, LAZY)).rejects.toThrow(/rows of another org|is corrupt/);
  });
});
