import { tableFromIPC, tableToIPC } from 'apache-arrow';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Projection } from '../../src/runs/projection.ts';
import { toArrow } from '../../src/snapshot/arrow.ts';
import { COLUMNS, readColumn } from '../../src/snapshot/columns.ts';
import { Rows } from '../../src/snapshot/rows.ts';
import { projections } from './arbitrary.ts';
import { tableOf } from './tables.ts';

const ORG = 'acme';
/** Integers come as BigInts, and apache-arrow's getter drops a byte order mark that the column does hold. */
const plain = (value: unknown) =>
  JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? Number(v) : v)).replaceAll('\ufeff', '');

function expected(row: Projection): Record<string, unknown> {
  return Object.fromEntries(
    COLUMNS.map((definition) => {
      const value = readColumn(definition, row);
      return [definition.name, definition.kind === 'flag' ? value === 1 : value];
    }),
  );
}

describe('toArrow', () => {
  it('holds the same values as the projections, before and after Arrow IPC', () => {
    fc.assert(
      fc.property(fc.array(projections(ORG), { maxLength: 10 }), (rows) => {
        const table = toArrow(tableOf(ORG, rows));
        for (const read of [table, tableFromIPC(tableToIPC(table, 'file'))]) {
          expect(read.numRows).toBe(rows.length);
          rows.forEach((row, i) => {
            expect(plain(read.get(i))).toBe(plain(expected(row)));
          });
        }
      }),
    );
  });

  it('states types and what columns mean', () => {
    const { schema } = toArrow(Rows.empty(ORG));
    const types = Object.fromEntries(schema.fields.map(({ name, type }) => [name, String(type)]));
    expect(types).toMatchObject({
      run_id: 'Utf8',
      status: 'Dictionary<Int32, Utf8>',
      revision: 'Int64',
      created_at: 'Timestamp<MILLISECOND, UTC>',
      has_result: 'Bool',
    });
    expect(types.outputs).toMatch(/^List<Struct<.*namespace.*name/);
    expect(schema.fields.every(({ metadata }) => metadata.get('about') !== '')).toBe(true);
  });
});
