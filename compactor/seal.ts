import type { Limits } from '../src/core/limits.ts';
import { isTerminal } from '../src/runs/run.ts';
import type { Rows } from '../src/snapshot/rows.ts';
import { answersOf } from './answers.ts';

export interface Sealing {
  /** Rows that stay in the head, in their order. */
  keep: Uint32Array;
  /** Rows for a new history part; empty when it is not worth one. */
  seal: Uint32Array;
}

/**
 * Which rows stay hot. The head alone must answer what a catalog asks, so it keeps every active run, the latest run
 * and the latest success of every table, the newest run behind every lineage edge, the `headRowsMax` rows that
 * changed last, half as many whose artifacts expire first, because the clean-up finds its work here, and every run whose
 * trace is live, because the archiver does. What changed less than `sealAgeMs` before `now` (server time) stays too: a
 * record of an earlier revision may still land, and only a row of the head can tell that it is stale. The rest is
 * sealed, but only once it is at least `headRowsMax` rows: small parts would be merged again and again. Pure.
 */
export function sealing(rows: Rows, now: number, limits: Limits): Sealing {
  const all = new Uint32Array(rows.length);
  for (let i = 0; i < all.length; i++) all[i] = i;
  const nothing = { keep: all, seal: new Uint32Array(0) };
  if (rows.length < 2 * limits.headRowsMax) return nothing;
  const kept = new Uint8Array(rows.length);
  const byUpdate = all.slice().sort((a, b) => rows.time('updated_at', b)! - rows.time('updated_at', a)!);
  const settledBy = now - limits.sealAgeMs;
  for (const [rank, i] of byUpdate.entries())
    if (rank < limits.headRowsMax || changedAt(rows, i) > settledBy) kept[i] = 1;
  keepAnswers(rows, kept);
  keepExpiring(rows, kept, limits.headRowsMax / 2);
  const seal = all.filter((i) => kept[i] === 0);
  return seal.length < limits.headRowsMax ? nothing : { keep: all.filter((i) => kept[i] === 1), seal };
}

function changedAt(rows: Rows, i: number): number {
  return rows.time('changed_at', i) ?? rows.time('updated_at', i)!;
}

function keepAnswers(rows: Rows, kept: Uint8Array): void {
  for (let i = 0; i < rows.length; i++)
    if (!isTerminal(rows.status(i)) || rows.text('trace_status', i) === 'live') kept[i] = 1;
  for (const { ref } of answersOf(rows).values()) kept[ref.i] = 1;
}

function keepExpiring(rows: Rows, kept: Uint8Array, rowsMax: number): void {
  const expiry = (i: number) => rows.time('artifacts_expire_at', i);
  const expiring = Array.from(kept.keys()).filter((i) => expiry(i) !== null);
  expiring.sort((a, b) => expiry(a)! - expiry(b)!);
  for (const i of expiring.slice(0, rowsMax)) kept[i] = 1;
}
