import type { CatalogState } from '../catalog/state.ts';
import { forEachRow } from '../catalog/views.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { StateHash } from '../manifest/state-hash.ts';
import type { Projection } from '../runs/projection.ts';

export interface Change {
  readonly run_id: string;
  /** Null: the run was deleted. */
  readonly run: Projection | null;
}

/**
 * Runs whose row is another, and runs that were deleted. With the same snapshot below, only the tail is compared; after a
 * fold, every row by its revision. Exact unless `mayHaveSealed`. Pure.
 */
export function changesBetween(before: CatalogState, after: CatalogState): Change[] {
  const changes: Change[] = [];
  if (before.base === after.base && before.manifest === after.manifest) {
    for (const [runId, fact] of after.overlay.facts) {
      if (before.overlay.facts.get(runId) === fact) continue;
      // A late record of an older revision is no change.
      if (fact.kind === 'put' && fact.row.revision > revisionIn(before, runId)) {
        changes.push({ run_id: runId, run: fact.row });
      }
      if (fact.kind === 'delete' && !isDeletedIn(before, runId)) changes.push({ run_id: runId, run: null });
    }
    return changes;
  }
  for (const segment of after.segments) {
    forEachRow(segment, (i) => {
      const runId = segment.rows.runId(i);
      if (segment.rows.revision(i) > revisionIn(before, runId)) {
        changes.push({ run_id: runId, run: segment.rows.get(i) });
      }
    });
  }
  // A row that left the head is gone only where something says so: the others were sealed, or forgotten.
  const gone = new Set(after.manifest?.tombstones.map(({ run_id }) => run_id));
  for (const [runId, fact] of after.overlay.facts) if (fact.kind === 'delete') gone.add(runId);
  for (const runId of gone) {
    if (!isDeletedIn(before, runId) && revisionIn(after, runId) === 0) {
      changes.push({ run_id: runId, run: null });
    }
  }
  return changes;
}

/** 0: head and tail do not have it. */
export function revisionIn({ base, overlay }: CatalogState, runId: string): number {
  const fact = overlay.facts.get(runId);
  if (fact?.kind === 'delete') return 0;
  const at = base.indexOf(runId);
  return Math.max(at < 0 ? 0 : base.revision(at), fact?.row.revision ?? 0);
}

/** The row that head and tail have of the run, at that revision or a later one; null: they have none. */
export function rowIn({ base, overlay }: CatalogState, runId: string, revision: number): Projection | null {
  const fact = overlay.facts.get(runId);
  const at = base.indexOf(runId);
  const known = at < 0 ? 0 : base.revision(at);
  if (fact?.kind === 'put' && fact.row.revision >= Math.max(known, revision)) return fact.row;
  return fact?.kind !== 'delete' && at >= 0 && known >= revision ? base.get(at) : null;
}

export function isDeletedIn({ overlay }: CatalogState, runId: string): boolean {
  return overlay.facts.get(runId)?.kind === 'delete';
}

/**
 * Whether a run may have changed and been sealed into history without ever being seen in head or tail. Not, when the
 * rows that left are those that history gained, by the hashes that manifests keep of both.
 */
export function mayHaveSealed(before: CatalogState, after: CatalogState): boolean {
  const [was, is] = [historyOf(before.manifest), historyOf(after.manifest)];
  if (was.length === is.length && was.every(({ name }, i) => name === is[i]!.name)) return false;
  const left = StateHash.empty();
  for (const { rows, replaced } of before.segments) {
    forEachRow({ rows, replaced }, (i) => {
      const runId = rows.runId(i);
      if (after.base.indexOf(runId) < 0 && !after.overlay.facts.has(runId)) left.add(runId, rows.revision(i));
    });
  }
  return sumOf(is).minus(sumOf(was)).hex() !== left.hex();
}

function historyOf(manifest: Manifest | null) {
  return (manifest?.parts ?? []).filter(({ level }) => level > 0).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function sumOf(parts: ReturnType<typeof historyOf>): StateHash {
  return parts.reduce((sum, { state_hash }) => sum.plus(StateHash.parse(state_hash)), StateHash.empty());
}
