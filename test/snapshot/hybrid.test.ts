import fc from 'fast-check';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { writeRleBitPackedHybrid } from 'hyparquet-writer/src/encoding.js';
import { describe, expect, it } from 'vitest';
import { packHybrid, pickHybrid, unpackHybrid } from '../../src/snapshot/hybrid.ts';

/** Runs of equal values of all lengths, so that both kinds of run meet in every way. */
const codes = fc.integer({ min: 0, max: 20 }).chain((width) =>
  fc.record({
    width: fc.constant(width),
    values: fc
      .array(
        fc.record({
          value: fc.integer({ min: 0, max: 2 ** width - 1 }),
          times: fc.integer({ min: 1, max: 30 }),
        }),
        { maxLength: 60 },
      )
      .map((runs) => Uint32Array.from(runs.flatMap(({ value, times }) => Array<number>(times).fill(value)))),
  }),
);

describe('runs of codes', () => {
  it('are written as hyparquet-writer writes them, and read back', () => {
    fc.assert(
      fc.property(codes, ({ width, values }) => {
        const writer = new ByteWriter();
        writeRleBitPackedHybrid(writer, values, width);
        const packed = packHybrid(values, width);
        expect(Buffer.compare(packed, writer.getBytes())).toBe(0);
        const read = new Uint32Array(values.length);
        unpackHybrid(packed, 0, packed.length, width, read);
        expect(read).toEqual(values);
      }),
      { numRuns: 500 },
    );
  });

  it('are picked as they are unpacked', () => {
    fc.assert(
      fc.property(codes, fc.integer({ min: 1, max: 9 }), fc.nat(), ({ width, values }, step, draw) => {
        const packed = packHybrid(values, width);
        const wanted = Uint32Array.from(values.keys()).filter((i) => (i * 7 + draw) % step === 0);
        const range = { at: 0, end: packed.length, width, count: values.length };
        expect(pickHybrid(packed, range, wanted)).toEqual(wanted.map((i) => values[i]!));
      }),
      { numRuns: 300 },
    );
  });

  it('fit the memory set aside for them where runs and packed groups take turns', () => {
    for (const width of [0, 1, 2, 8, 9, 20]) {
      const values = Uint32Array.from({ length: 5_000 }, (_, i) => (i % 16 < 8 ? 0 : i % 2 ** width));
      const packed = packHybrid(values, width);
      const read = new Uint32Array(values.length);
      unpackHybrid(packed, 0, packed.length, width, read);
      expect(read).toEqual(values);
    }
  });

  it('that are cut off, too long or too wide are refused', () => {
    const out = () => new Uint32Array(16);
    const packed = packHybrid(
      Uint32Array.from({ length: 16 }, (_, i) => i),
      4,
    );
    for (let end = 0; end < packed.length; end++)
      expect(() => unpackHybrid(packed, 0, end, 4, out())).toThrow('cut off');
    expect(() => unpackHybrid(Uint8Array.of(34, 1), 0, 2, 4, out())).toThrow('too long');
    expect(() => unpackHybrid(packed, 0, packed.length, 25, out())).toThrow('25 bits');
  });
});
