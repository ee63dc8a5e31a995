import fc from 'fast-check';
import { snappyCompress } from 'hyparquet-writer/src/snappy.js';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/core/random.ts';
import { unpackSnappy } from '../../src/snapshot/snappy.ts';

describe('unpackSnappy', () => {
  it('gives back what was packed', () => {
    const texts = fc
      .array(fc.tuple(fc.uint8Array({ maxLength: 90 }), fc.integer({ min: 1, max: 40 })))
      .map((parts) => Buffer.concat(parts.flatMap(([bytes, times]) => Array<Uint8Array>(times).fill(bytes))));
    fc.assert(
      fc.property(texts, (plain) => {
        const out = new Uint8Array(plain.length);
        if (plain.length > 0) unpackSnappy(snappyCompress(plain), out);
        expect(Buffer.compare(out, plain)).toBe(0);
      }),
    );
  });

  it('refuses a literal of 4 GiB, and ends whatever it is given', () => {
    const literal = Uint8Array.of(16, 0xfc, 0xff, 0xff, 0xff, 0xff, 1, 2, 3);
    expect(() => unpackSnappy(literal, new Uint8Array(16))).toThrow('overruns');
    const random = seededRandom(3);
    const good = snappyCompress(Buffer.from('runs of one org, '.repeat(40)));
    for (let k = 0; k < 20_000; k++) {
      const broken = Uint8Array.from(good);
      for (let n = 0; n < 4; n++) broken[random.u32() % broken.length] = random.u32();
      try {
        unpackSnappy(broken, new Uint8Array(17 * 40));
      } catch (error) {
        expect((error as Error).message).toMatch(/^snappy data/);
      }
    }
  });
});
