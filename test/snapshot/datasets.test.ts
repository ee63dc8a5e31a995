import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DatasetScanner, formatDatasets, parseDatasets } from '../../src/snapshot/datasets.ts';

const scan = (text: string) => new DatasetScanner(Buffer.from(text)).scan(0, text.length);
const ascii = fc.string({ unit: 'binary-ascii', maxLength: 6 });
const plain = fc.string({ unit: fc.constantFrom('a', 'b', '.', ',', '[', ']', ' ', '\u007f'), maxLength: 6 });
const listsOf = (text: fc.Arbitrary<string>) =>
  fc.array(fc.record({ namespace: text, name: text }), { maxLength: 4 });

describe('scanning lists of tables', () => {
  it('reads what is written plainly as parsing does, wherever it lies', () => {
    fc.assert(
      fc.property(fc.array(listsOf(plain), { maxLength: 5 }), (lists) => {
        const texts = lists.map(formatDatasets);
        const scanner = new DatasetScanner(Buffer.from(texts.join('')));
        let start = 0;
        for (const [k, text] of texts.entries()) {
          const found = scanner.scan(start, start + text.length);
          expect(found).toEqual(lists[k]);
          expect(Object.isFrozen(found) && found!.every((one) => Object.isFrozen(one))).toBe(true);
          start += text.length;
        }
      }),
    );
  });

  it('leaves whatever else there is to parsing, and never reads it in another way', () => {
    const pieces = fc.constantFrom(
      '[',
      ']',
      '"',
      ',',
      '[["',
      '"]]',
      '"],["',
      '","',
      'a',
      '\\',
      '\n',
      ' ',
      '1',
    );
    const anything = fc.oneof(
      listsOf(ascii).map(formatDatasets),
      fc.array(pieces, { maxLength: 12 }).map((some) => some.join('')),
      fc.tuple(pieces, listsOf(plain).map(formatDatasets), fc.nat(40)).map(([piece, text, at]) => {
        return text.slice(0, at) + piece + text.slice(at + piece.length);
      }),
    );
    fc.assert(
      fc.property(anything, (text) => {
        const scanned = scan(text);
        if (scanned !== null) expect(scanned).toEqual(parseDatasets(text));
      }),
      { numRuns: 2_000 },
    );
  });
});
