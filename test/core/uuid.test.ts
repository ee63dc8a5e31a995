import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/errors.ts';
import { type Random, seededRandom, systemRandom, uniform } from '../../src/core/random.ts';
import { uuidv7, uuidv7Floor, uuidv7Time } from '../../src/core/uuid.ts';

const times = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const bits = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const randomOf = (...words: number[]): Random => ({ u32: () => words.shift() ?? 0 });
const uuids = fc.record({ time: times, a: bits, b: bits, c: bits }).map(({ time, a, b, c }) => ({
  time,
  text: uuidv7(time, randomOf(a, b, c)),
}));

describe('uuidv7 names sort by time', () => {
  it('has the shape of RFC 9562 and gives its time back', () => {
    fc.assert(
      fc.property(uuids, ({ time, text }) => {
        expect(text).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(uuidv7Time(text)).toBe(time);
      }),
    );
  });

  it('a later one is a greater text, whatever its random bits', () => {
    fc.assert(
      fc.property(uuids, uuids, (a, b) => {
        if (a.time < b.time) expect(a.text < b.text).toBe(true);
      }),
    );
  });

  it('the floor is no greater than any name of its millisecond, and greater than any before', () => {
    fc.assert(
      fc.property(uuids, ({ time, text }) => {
        expect(uuidv7Floor(time) <= text).toBe(true);
        expect(text < uuidv7Floor(time + 1)).toBe(time + 1 < 2 ** 48);
      }),
    );
    expect(uuidv7(5, randomOf(0, 0, 0))).toBe(uuidv7Floor(5));
  });

  it('times before the epoch and fractions are rounded, others refused', () => {
    expect(uuidv7Time(uuidv7(-5, systemRandom))).toBe(0);
    expect(uuidv7Time(uuidv7(1.9, systemRandom))).toBe(1);
    expect(uuidv7Floor(-30_000)).toBe(uuidv7Floor(0));
    expect(() => uuidv7Floor(Number.NaN)).toThrow(InputError);
  });

  it.each([
    '',
    'manifest',
    '0192d3c0-0000-4000-8000-000000000000',
    '0192D3C0-0000-7000-8000-000000000000',
    '0192d3c0-0000-7000-c000-000000000000',
  ])('%j is none', (text) => {
    expect(uuidv7Time(text)).toBeNull();
  });
});

describe('randomness', () => {
  it('the same seed gives the same numbers, another seed others', () => {
    const draw = (seed: number) => {
      const random = seededRandom(seed);
      return Array.from({ length: 100 }, () => random.u32());
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  it('uniform stays in [0, 1)', () => {
    expect(uniform(randomOf(0))).toBe(0);
    expect(uniform(randomOf(0xffff_ffff))).toBeLessThan(1);
    const words = Array.from({ length: 600 }, () => systemRandom.u32());
    expect(words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)).toBe(true);
    expect(new Set(words).size).toBeGreaterThan(590);
  });
});
