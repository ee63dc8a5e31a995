import type { Dataset } from '../rivals/rival.ts';
import { realisticRows } from './rows.ts';
import { batchesOf } from './world.ts';

export interface DatasetSize {
  /** Runs in the bucket, those of the org included. */
  totalRuns: number;
  /** Of the org, before the tail. */
  orgRuns: number;
  tables: number;
  /** Entries that no fold has seen, of one record each: half newer states of known runs, half new runs. */
  tailEntries: number;
}

/** The org's newest run is this old when the bench begins. */
export const DATA_END = Date.UTC(2026, 10, 20, 11);

export function datasetOf(orgId: string, size: DatasetSize, seed: number): Dataset {
  const folded = [
    ...batchesOf({ orgId, runs: size.orgRuns, tables: size.tables, seed, foldRecords: 20_000 }, DATA_END),
  ].flat();
  const fresh = realisticRows({
    orgId,
    count: size.tailEntries,
    seed: seed + 99,
    endAt: DATA_END + 600_000,
    everyMs: 100,
    tables: size.tables,
  });
  const current = new Map(folded.map((row) => [row.run_id, row]));
  const tail = fresh.map((row, i) => {
    const known = i % 2 === 0 ? folded[(i * 6_151) % Math.max(1, folded.length)] : undefined;
    const before = known && current.get(known.run_id);
    const next =
      before === undefined ? row : { ...row, run_id: before.run_id, revision: before.revision + 1 };
    current.set(next.run_id, next);
    return [next];
  });
  return {
    orgId,
    folded,
    tail,
    current: [...current.values()],
    otherRuns: Math.max(0, size.totalRuns - current.size),
    seed,
  };
}
