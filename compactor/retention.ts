import { isPast } from '../src/catalog/fold.ts';
import { newestFirst, type RowRef, ShapeCache } from '../src/catalog/views.ts';
import type { Manifest, Part, Policy } from '../src/manifest/manifest.ts';
import type { Rows } from '../src/snapshot/rows.ts';

export const KEEP_ALL: Policy = { retain_ms: null, time_travel_ms: 0 };

/** The horizon never moves back: what was forgotten is gone. */
export function horizonAt(manifest: Manifest | null, policy: Policy, now: number): number | null {
  const before = manifest?.horizon ?? null;
  if (policy.retain_ms === null) return before;
  return Math.max(before ?? 0, now - policy.retain_ms, 0);
}

/**
 * Rows of the head that the horizon has passed: runs that ended before it, but for the latest success of each
 * table, which outlives it. Pure.
 */
export function retired(rows: Rows, horizon: number | null): Uint32Array {
  if (horizon === null) return new Uint32Array(0);
  const past: number[] = [];
  for (let i = 0; i < rows.length; i++) if (isPastRow(rows, i, horizon)) past.push(i);
  if (past.length === 0) return new Uint32Array(0);
  const kept = latestSuccesses(rows);
  return Uint32Array.from(past.filter((i) => !kept.has(i)));
}

export function isPastRow(rows: Rows, i: number, horizon: number | null): boolean {
  return isPast({ status: rows.status(i), finished_at: rows.time('finished_at', i) }, horizon);
}

/** Whether every run of a history part ended before the horizon: the part goes as a whole, unread. */
export function isPastPart({ level, finished_at_max }: Part, horizon: number | null): boolean {
  return level > 0 && horizon !== null && finished_at_max !== null && finished_at_max < horizon;
}

function latestSuccesses(rows: Rows): Set<number> {
  const latest = new Map<string, RowRef>();
  const shapes = new ShapeCache(rows);
  for (let i = 0; i < rows.length; i++) {
    if (rows.status(i) !== 'SUCCEEDED') continue;
    for (const { id } of shapes.of(i).tables) {
      const known = latest.get(id);
      if (known === undefined || newestFirst({ rows, i }, known) < 0) latest.set(id, { rows, i });
    }
  }
  return new Set([...latest.values()].map(({ i }) => i));
}
