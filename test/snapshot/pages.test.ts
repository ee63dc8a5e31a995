import { describe, expect, it } from 'vitest';
import { pickRows } from '../../src/snapshot/pages-pick.ts';
import { type Chunk, type Page, readNumbers } from '../../src/snapshot/pages-read.ts';

describe('pages', () => {
  it('of numbers are read from wherever they lie, also in a Buffer, whose slices are views', () => {
    const numbers = Float64Array.of(1, 2 ** 40 + 3, Number.MAX_SAFE_INTEGER);
    const plain = new Uint8Array(new BigUint64Array(Array.from(numbers, BigInt)).buffer);
    for (let at = 0; at < 8; at++) {
      const body = Buffer.alloc(plain.length + at).subarray(at);
      body.set(plain);
      const out = new Float64Array(3);
      readNumbers({ rows: 3, levels: null, values: 3, encoding: 'PLAIN', body }, out, 0);
      expect(out).toEqual(numbers);
    }
  });

  it('of which the rows that are picked have nothing are not unpacked, nor their dictionary', () => {
    const unpacked: string[] = [];
    const page = (levels: number[]): Page => ({
      rows: levels.length,
      levels: Uint8Array.from(levels),
      values: levels.filter((level) => level === 1).length,
      encoding: 'RLE_DICTIONARY',
      get body() {
        unpacked.push('page');
        return Uint8Array.of(0, 8);
      },
    });
    const chunk: Chunk = {
      get entries() {
        unpacked.push('entries');
        return { lengths: Int32Array.of(1), bytes: Uint8Array.of(65) };
      },
      pages: [page([1, 0, 1, 1, 1]), page([0, 1])],
    };
    const nothing = pickRows(chunk, 'dictionary', Uint32Array.of(1, 5));
    expect(nothing.pages.map(({ rows, values }) => [rows, values])).toEqual([
      [1, 0],
      [1, 0],
    ]);
    expect([nothing.entries, unpacked]).toEqual([null, []]);
    const some = pickRows(chunk, 'dictionary', Uint32Array.of(1, 2));
    expect(some.pages.map(({ rows, values }) => [rows, values])).toEqual([[2, 1]]);
    expect(some.entries).toEqual({ lengths: Int32Array.of(1), bytes: Uint8Array.of(65) });
    expect(unpacked).toContain('page');
  });
});
