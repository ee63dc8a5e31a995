import type { CatalogState } from '../src/catalog/state.ts';
import { forEachRow } from '../src/catalog/views.ts';
import { isTerminal } from '../src/runs/run.ts';
import type { Work } from '../src/traces/work.ts';

/** An ended run whose trace is live, as the index has it. */
export interface Candidate {
  run_id: string;
  finished_at: number;
}

/** Ended and live, the earliest end first. No request: the index has it. */
export function candidatesOf(state: CatalogState): Candidate[] {
  const found: Candidate[] = [];
  for (const segment of state.segments) {
    const { rows } = segment;
    const live = rows.dictionary('trace_status').indexOf('live');
    if (live < 0) continue;
    const codes = rows.codes('trace_status');
    forEachRow(segment, (i) => {
      if (codes[i] !== live || !isTerminal(rows.status(i))) return;
      found.push({ run_id: rows.runId(i), finished_at: rows.time('finished_at', i) ?? 0 });
    });
  }
  return found.sort(byEnd);
}

/** Unfinished business of earlier passes first, then the candidates from behind the cursor, then those before it. */
export function workList(candidates: readonly Candidate[], { cursor, entries }: Work): Candidate[] {
  const known = new Set(candidates.map(({ run_id }) => run_id));
  const unfinished = Object.keys(entries)
    .filter((run_id) => !known.has(run_id))
    .map((run_id) => ({ run_id, finished_at: 0 }));
  const from = cursor === null ? 0 : candidates.findIndex((candidate) => byEnd(candidate, cursor) > 0);
  const start = from < 0 ? candidates.length : from;
  return [...unfinished, ...candidates.slice(start), ...candidates.slice(0, start)];
}

function byEnd(a: Candidate, b: Candidate): number {
  return a.finished_at - b.finished_at || (a.run_id < b.run_id ? -1 : a.run_id > b.run_id ? 1 : 0);
}
