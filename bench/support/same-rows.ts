import type { Projection } from '../../src/runs/projection.ts';

/**
 * The first row that only one of them has, or that differs at any depth, key order apart; null: there is none. A value
 * that is undefined counts as one that is not there, as in JSON, through which some rivals' rows go.
 */
export function firstDifference(found: readonly Projection[], expected: readonly Projection[]): unknown {
  if (found.length !== expected.length) return `${found.length} rows instead of ${expected.length}`;
  const wanted = new Map(expected.map((row) => [row.run_id, row]));
  for (const row of found) {
    const other = wanted.get(row.run_id);
    if (other === undefined || !isSame(row, other)) return { found: row, expected: other };
    wanted.delete(row.run_id);
  }
  return null;
}

/** What a rival is refused with whose rows differ: `difference` of `firstDifference`. */
export function otherRows(difference: unknown): Error {
  return new Error(`it gave other rows: ${JSON.stringify(difference).slice(0, 300)}`);
}

/** Of what JSON can hold. By hand: half a million rows are compared in a run, and `isDeepStrictEqual` counts undefined. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [one, other] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const isHeld = (key: string) => isSame(one[key], other[key]);
  return Object.keys(one).every(isHeld) && Object.keys(other).every((key) => key in one || isHeld(key));
}
