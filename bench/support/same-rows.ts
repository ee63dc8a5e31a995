import type { Projection } from '../../src/runs/projection.ts';

/** The first row that only one of them has, or that differs, key order apart. */
export function firstDifference(found: readonly Projection[], expected: readonly Projection[]): unknown {
  if (found.length !== expected.length) return `${found.length} rows instead of ${expected.length}`;
  const text = (row: Projection) => JSON.stringify(row, Object.keys(row).sort());
  const wanted = new Map(expected.map((row) => [row.run_id, row]));
  for (const row of found) {
    const other = wanted.get(row.run_id);
    if (other === undefined || text(row) !== text(other)) return { found: row, expected: other };
    wanted.delete(row.run_id);
  }
  return null;
}
