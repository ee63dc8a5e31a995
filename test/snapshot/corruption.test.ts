import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { CorruptError, isRunfoldError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { decodePart, PART_CODECS, partCodec } from '../../src/snapshot/codec.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const ORG = 'acme';
const SEED = 20_261_120;
const FLIPS = 3_000;
/** Of this thread's own time: what else the machine does is not the decoder's. */
const DECODE_CPU_MS_MAX = 2_000;
const TEST_MS_MAX = 240_000;

describe.each(PART_CODECS.map((name) => ({ name })))(
  'a broken $name part',
  { timeout: TEST_MS_MAX },
  ({ name }) => {
    const rows = realisticRows({ orgId: ORG, count: 60, seed: 4 });
    const encode = async () => (await partCodec(name)).encode(tableOf(ORG, rows), { rowGroupRows: 25 });

    /** What decoding came to; anything but rows or a runfold error fails the test, and so does a hang. */
    async function outcome(bytes: Uint8Array): Promise<'refused' | 'same' | 'different'> {
      const start = process.threadCpuUsage();
      try {
        const decoded = projectionsOf(await decodePart('part', bytes));
        const [is, was] = [json(decoded), json(rows)];
        return is.length === was.length && is.every((row, i) => row === was[i]) ? 'same' : 'different';
      } catch (error) {
        if (!isRunfoldError(error)) throw error;
        return 'refused';
      } finally {
        const { user, system } = process.threadCpuUsage(start);
        expect((user + system) / 1_000).toBeLessThan(DECODE_CPU_MS_MAX);
      }
    }

    it('never crashes on one flipped bit, and its checksum always tells (law 8)', async () => {
      const part = await encode();
      const checksum = crc32c(part);
      const random = seededRandom(SEED);
      const seen = { refused: 0, same: 0, different: 0 };
      for (let k = 0; k < FLIPS; k++) {
        const broken = Uint8Array.from(part);
        broken[random.u32() % part.length]! ^= 1 << (random.u32() % 8);
        expect(crc32c(broken)).not.toBe(checksum);
        seen[await outcome(broken)]++;
      }
      expect(seen.refused).toBeGreaterThan(0);
      // Every page of the default codec carries a checksum of its own; of parquetjs' flips, a third decode to other rows.
      if (name === 'hyparquet') expect(seen.different).toBe(0);
    });

    it('never crashes on many flipped bytes', async () => {
      const part = await encode();
      const random = seededRandom(SEED);
      for (let k = 0; k < FLIPS / 10; k++) {
        const broken = Uint8Array.from(part);
        for (let n = 0; n < 20; n++) broken[random.u32() % part.length] = random.u32();
        await outcome(broken);
      }
    });

    it('is refused when cut short anywhere', async () => {
      const part = await encode();
      const random = seededRandom(SEED);
      for (let k = 0; k < 200; k++) {
        await expect(decodePart('part', part.subarray(0, random.u32() % part.length))).rejects.toThrow(
          CorruptError,
        );
      }
    });
  },
);
