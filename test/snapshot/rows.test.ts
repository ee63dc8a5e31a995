import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { InputError } from '../../src/core/errors.ts';
import { Rows, RowsBuilder } from '../../src/snapshot/rows.ts';
import { projections } from './arbitrary.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const ORG = 'acme';
const tables = fc.array(projections(ORG), { maxLength: 20 });

describe('Rows', () => {
  it('gives back every projection, byte for byte as JSON', () => {
    fc.assert(
      fc.property(tables, (rows) => {
        expect(json(projectionsOf(tableOf(ORG, rows)))).toEqual(json(rows));
      }),
    );
  });

  it('copies and gathers rows of several tables in any order', () => {
    const run = (
      a: Rows,
      b: Rows,
      picks: { first: boolean; at: number }[],
      builder: RowsBuilder,
      bulk: boolean,
    ) => {
      const expected: string[] = [];
      for (const { first, at } of picks) {
        const source = first ? a : b;
        if (source.length === 0) continue;
        const i = at % source.length;
        const count = bulk ? Math.min(3, source.length - i) : 1;
        const indexes = Uint32Array.from({ length: count }, (_, k) => i + k);
        if (bulk) builder.gather(source, indexes);
        else builder.copy(source, i);
        for (const index of indexes) expected.push(JSON.stringify(source.get(index)));
      }
      expect(json(projectionsOf(builder.build()))).toEqual(expected);
    };
    const picks = fc.array(fc.record({ first: fc.boolean(), at: fc.nat(100) }), { maxLength: 30 });
    fc.assert(
      fc.property(tables, tables, picks, fc.boolean(), (a, b, chosen, bulk) => {
        run(tableOf(ORG, a), tableOf(ORG, b), chosen, new RowsBuilder(ORG, 0), bulk);
      }),
    );
  });

  it('finds rows by run id, and only those', () => {
    fc.assert(
      fc.property(tables, fc.string({ unit: 'binary' }), (rows, other) => {
        const table = tableOf(ORG, rows);
        const ids = rows.map(({ run_id }) => run_id);
        for (const id of [...ids, other]) expect(table.indexOf(id)).toBe(ids.indexOf(id));
        for (let i = 0; i < table.length; i++) expect(table.indexOfRow(table, i)).toBe(ids.indexOf(ids[i]!));
      }),
    );
    const many = realisticRows({ orgId: ORG, count: 5_000, seed: 7 });
    const table = tableOf(ORG, many);
    expect(many.every(({ run_id }, i) => table.indexOf(run_id) === i)).toBe(true);
    expect(Rows.empty(ORG).indexOf('run')).toBe(-1);
  });

  it('reads cells without making rows', () => {
    const many = realisticRows({ orgId: ORG, count: 300, seed: 1 });
    const table = tableOf(ORG, many);
    many.forEach((row, i) => {
      expect(table.runId(i)).toBe(row.run_id);
      expect(table.status(i)).toBe(row.status);
      expect(table.revision(i)).toBe(row.revision);
      expect(table.time('created_at', i)).toBe(row.created_at);
      expect(table.time('finished_at', i)).toBe(row.finished_at);
      expect(table.text('queue', i)).toBe(row.queue);
      expect(table.text('error_message', i)).toBe(row.error?.message ?? null);
      expect(table.datasets('outputs', i)).toEqual(row.outputs);
      expect(table.dictionary('status')[table.codes('status')[i]!]).toBe(row.status);
    });
  });

  it('shares one frozen list between rows with the same tables', () => {
    const [row] = realisticRows({ orgId: ORG, count: 1, seed: 1 });
    const table = tableOf(ORG, [row!, { ...row!, run_id: 'other' }]);
    expect(table.datasets('outputs', 0)).toBe(table.datasets('outputs', 1));
    expect(table.get(1).outputs).toBe(table.datasets('outputs', 0));
    expect(() => table.get(0).outputs.push({ namespace: '', name: 'x' })).toThrow(TypeError);
  });

  it('turns half surrogate pairs into U+FFFD when a row is added, in every kind of column alike', () => {
    const [row] = realisticRows({ orgId: ORG, count: 1, seed: 1 });
    const half = 'a\ud800b';
    const table = tableOf(ORG, [
      {
        ...row!,
        run_id: half,
        queue: half,
        payload: { ...row!.payload, target_table: half },
        outputs: [{ namespace: half, name: half }],
        error: { code: half, message: half },
      },
    ]);
    const whole = 'a\ufffdb';
    expect(table.get(0)).toMatchObject({
      run_id: whole,
      queue: whole,
      payload: { target_table: whole },
      outputs: [{ namespace: whole, name: whole }],
      error: { code: whole, message: whole },
    });
    expect(table.indexOf(whole)).toBe(0);
  });

  it('takes at most 200 bytes per row, a year of runs included', () => {
    const count = 100_000;
    const table = tableOf(ORG, realisticRows({ orgId: ORG, count, seed: 1, everyMs: 315_360 }));
    expect(table.time('created_at', count - 1)! - table.time('created_at', 0)!).toBeGreaterThan(
      360 * 86_400_000,
    );
    expect(table.sizeBytes / count).toBeLessThan(200);
  });

  it('refuses rows of another org, and rows that are not there', () => {
    const [row] = realisticRows({ orgId: 'other', count: 1, seed: 1 });
    const builder = new RowsBuilder(ORG);
    expect(() => builder.add(row!)).toThrow(InputError);
    expect(() => builder.copy(tableOf('other', [row!]), 0)).toThrow(InputError);
    expect(builder.build().length).toBe(0);
    expect(() => Rows.empty(ORG).get(0)).toThrow(InputError);
  });
});
