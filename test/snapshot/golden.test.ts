import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { Projection } from '../../src/runs/projection.ts';
import { decodePart, partCodec } from '../../src/snapshot/codec.ts';
import { asToday, json, projectionsOf, tableOf } from './tables.ts';

/** Never edit these files: parts like them are in people's buckets. A new format gets new files beside them. */
const golden = (name: string) => readFile(new URL(`../golden/${name}`, import.meta.url));
const ORG = 'golden-org';
/** zstd may pack the same page into other bytes from one version to the next; every version unpacks all of them. */
const ZSTD_OF_GOLDEN = '1.5.7';

const read = async (name: string): Promise<Projection[]> =>
  (JSON.parse(await golden(name).then(String)) as Projection[]).map(asToday);

describe('part format 1', () => {
  it.each([
    ['part-v1-hyparquet.parquet', 'part-v1-rows.json'],
    ['part-v1-parquetjs.parquet', 'part-v1-rows.json'],
    ['part-v1-projection-2-hyparquet.parquet', 'part-v1-projection-2-rows.json'],
    ['part-v1-projection-2-parquetjs.parquet', 'part-v1-projection-2-rows.json'],
  ])('%s reads as it always did', async (name, rowsName) => {
    const expected = await read(rowsName);
    const rows = await decodePart(name, await golden(name));
    expect(rows.orgId).toBe(ORG);
    expect(json(projectionsOf(rows))).toEqual(json(expected));
  });

  it.runIf(process.versions.zstd === ZSTD_OF_GOLDEN)('is written today with the same bytes', async () => {
    const rows = await read('part-v1-projection-2-rows.json');
    const part = await (await partCodec('hyparquet')).encode(tableOf(ORG, rows));
    expect(Buffer.compare(part, await golden('part-v1-projection-2-hyparquet.parquet'))).toBe(0);
  });
});
