import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { exactCheck } from '../../src/core/exact-check.ts';
import { recordSchema } from '../../src/runs/record.ts';
import { projections } from '../snapshot/arbitrary.ts';

const isExact = exactCheck(recordSchema);
const ODD = [
  null,
  '',
  'x',
  -1,
  -0,
  0.5,
  1e300,
  2 ** 53,
  true,
  [],
  {},
  [{}],
  [{ namespace: 'n', name: '' }],
  'SUCCEEDED',
];

/** What is taken must be what zod gives back, to the byte: hashes are over these bytes. */
function expectAsZod(schema: z.ZodType, json: unknown): void {
  if (!exactCheck(schema)(json)) return;
  const parsed = schema.safeParse(json);
  expect(parsed.success).toBe(true);
  expect(JSON.stringify(parsed.data)).toBe(JSON.stringify(json));
}

const records = projections('acme').chain((row) =>
  fc.constantFrom(
    { kind: 'put', row },
    { kind: 'intent', row },
    { kind: 'delete', run_id: row.run_id, revision: row.revision, deleted_at: row.created_at },
  ),
);

/** Every object in a value, in a fixed order. */
function objectsIn(value: unknown): Record<string, unknown>[] {
  if (typeof value !== 'object' || value === null) return [];
  const own = Array.isArray(value) ? [] : [value as Record<string, unknown>];
  return [...own, ...Object.values(value).flatMap(objectsIn)];
}

/** Changes, drops, adds or moves one field somewhere. */
function damage(json: unknown, [where, field, what, odd]: readonly number[]): unknown {
  const changed = structuredClone(json);
  const objects = objectsIn(changed);
  const object = objects[where! % objects.length]!;
  const keys = Object.keys(object);
  const key = keys[field! % keys.length] ?? 'none';
  const value = object[key];
  if (what === 0) object[key] = ODD[odd! % ODD.length];
  else if (what === 1) delete object[key];
  else if (what === 2) object.unknown = 1;
  else if (what === 3)
    Object.defineProperty(object, '__proto__', { value: 1, enumerable: true, configurable: true });
  else {
    delete object[key];
    object[key] = value;
  }
  return changed;
}

describe('the exact check of a schema', () => {
  it('takes records as they are written, at once', () => {
    fc.assert(
      fc.property(records, (record) => {
        expect(isExact(JSON.parse(JSON.stringify(record)))).toBe(true);
      }),
      {
        numRuns: 150,
      },
    );
  });

  it('takes nothing that zod would refuse, or give back otherwise', () => {
    const draws = fc.tuple(fc.nat(), fc.nat(), fc.nat(4), fc.nat());
    let refused = 0;
    fc.assert(
      fc.property(records, draws, (record, draw) => {
        const json = damage(JSON.parse(JSON.stringify(record)), draw);
        if (!isExact(json)) refused++;
        expectAsZod(recordSchema, json);
      }),
      { numRuns: 1_000 },
    );
    expect(refused).toBeGreaterThan(500);
    for (const json of [...ODD, undefined, { kind: 'other' }, { row: {} }]) expect(isExact(json)).toBe(false);
  });

  it('leaves to zod whatever it does not know of', () => {
    const unknown = [
      z.looseObject({ a: z.string() }),
      z.strictObject({ a: z.string() }),
      z.object({ a: z.string().transform(() => 1) }),
      z.object({ a: z.string().refine(() => false) }),
      z.object({ a: z.string().trim() }),
      z.object({ a: z.string().toLowerCase() }),
      z.object({ a: z.email() }),
      z.object({ a: z.string().regex(/^b/) }),
      z.object({ a: z.coerce.string() }),
      z.object({ a: z.string().optional() }),
      z.object({ a: z.string().catch('b') }),
      z.object({ a: z.preprocess(() => 1, z.string()) }),
      z.object({ a: z.union([z.string(), z.number()]) }),
      z.object({ a: z.any() }),
    ];
    for (const schema of unknown) expect(exactCheck(schema)({ a: 'A' })).toBe(false);
    for (const schema of [z.int(), z.number().int().max(3), z.number().multipleOf(2), z.int32()])
      for (const value of [4, 5, 2 ** 40]) expectAsZod(schema, value);
    expect(exactCheck(z.array(z.string()).max(1))(['a', 'b'])).toBe(false);
    expect(exactCheck(z.object({ a: z.string() }).refine(() => false))({ a: 'A' })).toBe(false);
  });
});
