import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { stateHashOf } from '../../src/catalog/fold.ts';
import { toArrowStream } from '../../src/snapshot/arrow.ts';
import { decodePart, PART_CODECS, partCodec } from '../../src/snapshot/codec.ts';
import { compareTexts } from '../../src/snapshot/history-rows.ts';
import { type Rows, RowsBuilder } from '../../src/snapshot/rows.ts';
import { partStatistics } from '../../src/snapshot/statistics.ts';
import { UuidVector } from '../../src/snapshot/uuid-vector.ts';
import type { TextVector } from '../../src/snapshot/vectors.ts';
import { json, projectionsOf, tableOf } from './tables.ts';

const ORG = 'acme';
const [template] = realisticRows({ orgId: ORG, count: 1, seed: 3 });
const sign = (n: number) => Math.sign(n);
const idsOf = (rows: Rows) => rows.vector('run_id') as TextVector;

/** Any bits: the version of a UUID does not matter. */
const uuid = fc.uuid();
const nearly = fc.oneof(
  uuid.map((id) => id.toUpperCase()),
  uuid.map((id) => id.replaceAll('-', '0')),
  uuid.map((id) => `${id.slice(0, 35)}g`),
  uuid.map((id) => `${id.slice(0, 8)}_${id.slice(9)}`),
  uuid.map((id) => id.slice(1)),
  fc.constantFrom('', 'run-1', 'é'.repeat(18)),
);

async function decoded(ids: readonly string[]): Promise<{ texts: Rows; read: Rows }> {
  const texts = tableOf(
    ORG,
    ids.map((run_id) => ({ ...template!, run_id })),
  );
  return { texts, read: await decodePart('part', await (await partCodec()).encode(texts)) };
}

describe('run ids that are all UUIDs', () => {
  it('take 16 bytes, and are in every way the texts that they were', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(uuid, { minLength: 1, maxLength: 12 }),
        nearly,
        uuid,
        async (ids, other, another) => {
          const { texts, read } = await decoded(ids);
          const vector = idsOf(read);
          expect(vector).toBeInstanceOf(UuidVector);
          expect(vector.sizeBytes).toBe(16 * ids.length);
          expect(ids.map((_, i) => vector.at(i))).toEqual(ids);
          expect([...vector.bytes]).toEqual([...idsOf(texts).bytes]);
          expect([...vector.offsets]).toEqual([...idsOf(texts).offsets]);
          expect([...vector.presence()]).toEqual([...idsOf(texts).presence()]);
          for (const id of [...ids, other, another]) expect(read.indexOf(id)).toBe(ids.indexOf(id));
          for (const i of ids.keys()) {
            for (const [a, b] of [
              [read, texts],
              [texts, read],
              [read, read],
            ] as const)
              expect(a.indexOfRow(b, i)).toBe(i);
            const order = ids[i]! < ids[0]! ? -1 : i === 0 ? 0 : 1;
            expect(sign(compareTexts(vector, i, vector, 0))).toBe(order);
            expect(sign(compareTexts(idsOf(texts), i, vector, 0))).toBe(order);
          }
          expect(stateHashOf(read).hex()).toBe(stateHashOf(texts).hex());
          expect(partStatistics(read)).toEqual(partStatistics(texts));
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each(PART_CODECS)('are written, gathered and exported as those texts (%s)', async (name) => {
    const rows = realisticRows({ orgId: ORG, count: 500, seed: 5 });
    const texts = tableOf(ORG, rows);
    const codec = await partCodec(name);
    const part = await codec.encode(texts, { rowGroupRows: 120 });
    const read = await decodePart('part', part, { lazy: true });
    expect(idsOf(read)).toBeInstanceOf(UuidVector);
    expect(await codec.encode(read, { rowGroupRows: 120 })).toEqual(part);
    expect(toArrowStream(read)).toEqual(toArrowStream(texts));
    const builder = new RowsBuilder(ORG);
    builder.gather(read, Uint32Array.of(3, 4, 5, 499, 0));
    builder.copy(read, 7);
    const picked = [3, 4, 5, 499, 0, 7].map((i) => rows[i]!);
    expect(json(projectionsOf(builder.build()))).toEqual(json(picked));
  });

  it('stay texts as soon as one is none', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.oneof(uuid, nearly), { maxLength: 6 }),
        nearly,
        async (some, other) => {
          const ids = [...new Set([...some, other])];
          const { read } = await decoded(ids);
          expect(idsOf(read)).not.toBeInstanceOf(UuidVector);
          for (const [i, id] of ids.entries()) {
            expect(read.runId(i)).toBe(id);
            expect(read.indexOf(id)).toBe(i);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
