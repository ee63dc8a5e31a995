import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { textOrder } from '../../src/catalog/text-order.ts';

const sorted = (texts: readonly string[]) => Array.from(textOrder(texts), (place) => texts[place]!);

describe('the order of texts', () => {
  // Few letters, so that much is shared; one at the edge of Latin-1, one beyond, and both halves of a pair.
  const letters = fc.constantFrom(
    'a',
    'b',
    '\u0000',
    '\u00fe',
    '\u00ff',
    '\u0100',
    '\ud83d',
    '\ude00',
    '\uffff',
  );
  const text = fc.string({ unit: letters, maxLength: 14 });
  const latin = fc.string({ unit: fc.constantFrom('a', 'b', '_', '1', '\u00fe'), maxLength: 14 });

  it.each([
    ['of a few letters', text],
    ['of Latin-1', latin],
    ['of any', fc.string({ unit: 'binary', maxLength: 9 })],
  ])('is that of native sorting: %s', (_, texts) => {
    fc.assert(
      fc.property(fc.array(texts, { maxLength: 60 }), text, (all, prefix) => {
        expect(sorted(all)).toEqual([...all].sort());
        const longer = all.map((one) => prefix + one);
        expect(sorted(longer)).toEqual([...longer].sort());
        expect([...textOrder(all)].sort((a, b) => a - b)).toEqual(all.map((__, i) => i));
      }),
      { numRuns: 200 },
    );
  });

  it('is that of native sorting for thousands of names, of which many begin alike', () => {
    const names = Array.from(
      { length: 5_000 },
      (_, i) => `analytics.fact_${i % 7}_orders_${(i * 7_919) % 5_000}`,
    );
    for (const all of [names, names.map((name, i) => (i % 100 === 0 ? `${name}漢` : name))]) {
      expect(sorted(all)).toEqual([...all].sort());
    }
  });
});
