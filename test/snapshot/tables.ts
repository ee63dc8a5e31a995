import type { Projection } from '../../src/runs/projection.ts';
import { type Rows, RowsBuilder } from '../../src/snapshot/rows.ts';

export function tableOf(orgId: string, projections: readonly Projection[]): Rows {
  const builder = new RowsBuilder(orgId, projections.length);
  for (const projection of projections) builder.add(projection);
  return builder.build();
}

export function projectionsOf(rows: Rows): Projection[] {
  return Array.from({ length: rows.length }, (_, i) => rows.get(i));
}

/** As JSON, so that the order of keys counts too. */
export function json(projections: readonly Projection[]): string[] {
  return projections.map((projection) => JSON.stringify(projection));
}

/** A projection of an older version as it reads today: what it did not have is null. */
export function asToday({ projection_version, ...row }: Projection): Projection {
  return {
    ...row,
    changed_at: row.changed_at ?? null,
    trace: row.trace ?? null,
    artifacts: row.artifacts ?? null,
    projection_version,
  };
}
