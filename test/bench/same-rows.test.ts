import { describe, expect, it } from 'vitest';
import { realisticRows } from '../../bench/support/rows.ts';
import { firstDifference } from '../../bench/support/same-rows.ts';
import type { Projection } from '../../src/runs/projection.ts';

const rows = realisticRows({ orgId: 'org', count: 60, seed: 5 });

type Path = (string | number)[];

/** Of everything that is no object and no array, wherever it stands. */
function leavesOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
}

function changedAt(row: Projection, path: Path): Projection {
  const copy = structuredClone(row);
  let at = copy as unknown as Record<string, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[path.at(-1)!] = at[path.at(-1)!] === 'changed' ? 'again' : 'changed';
  return copy;
}

describe('the difference between rows', () => {
  it('is none for the same rows in another order and with other orders of keys', () => {
    const turned = [...rows]
      .reverse()
      .map((row) => Object.fromEntries(Object.entries(row).reverse()) as unknown as Projection);
    expect(firstDifference(turned, rows)).toBeNull();
  });

  it('is found wherever a single value changed, at every depth', () => {
    const depths = new Set<string>();
    for (const row of rows) {
      for (const path of leavesOf(row)) {
        depths.add(path.map((key) => (/^\d+$/.test(String(key)) ? '*' : key)).join('.'));
        expect(firstDifference([changedAt(row, path)], [row]), path.join('.')).not.toBeNull();
      }
    }
    expect([...depths]).toEqual(
      expect.arrayContaining([
        'status',
        'payload.target_table',
        'inputs.*.name',
        'outputs.*.namespace',
        'result.rows',
        'error.code',
        'latest_task.error',
      ]),
    );
  });

  it('is found where a row is missing, is there twice, or has a nested key more or less', () => {
    expect(firstDifference(rows.slice(1), rows)).toContain('59 rows instead of 60');
    expect(firstDifference(rows.with(0, rows[1]!), rows)).not.toBeNull();
    const payload = { ...rows[0]!.payload, extra: 1 } as unknown as Projection['payload'];
    expect(firstDifference(rows.with(0, { ...rows[0]!, payload }), rows)).not.toBeNull();
    expect(firstDifference(rows, rows.with(0, { ...rows[0]!, payload }))).not.toBeNull();
    const outputs = rows[0]!.outputs.slice(1);
    expect(firstDifference(rows.with(0, { ...rows[0]!, outputs }), rows)).not.toBeNull();
    expect(firstDifference(rows, rows.with(0, { ...rows[0]!, outputs }))).not.toBeNull();
  });
});
