import { isTerminal } from '../runs/run.ts';
import type { OrgCatalog } from './catalog.ts';
import { forEachRow } from './views.ts';

/**
 * Ended runs with an artifact that expired by `now` and is not yet removed, those that expired first first. Of head and
 * tail, without a request: the head keeps the runs whose artifacts expire first (compactor/seal.ts). With `history`
 * also of what was sealed, all of which is read, in bounded memory.
 */
export async function dueRuns(
  catalog: OrgCatalog,
  now: number,
  { history = false, signal }: { history?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<string[]> {
  const due = new Map<string, number>();
  const offer = (runId: string, expiresAt: number | null) => {
    if (expiresAt !== null && expiresAt <= now) due.set(runId, expiresAt);
  };
  if (history) {
    for await (const { run_id, status, artifacts } of catalog.runs(
      {},
      signal === undefined ? {} : { signal },
    ))
      if (isTerminal(status)) offer(run_id, artifacts?.expires_at ?? null);
  } else {
    for (const segment of catalog.state.segments) {
      const { rows } = segment;
      forEachRow(segment, (i) => {
        const expiresAt = rows.time('artifacts_expire_at', i);
        if (expiresAt !== null && isTerminal(rows.status(i))) offer(rows.runId(i), expiresAt);
      });
    }
  }
  return [...due].sort(([, a], [, b]) => a - b).map(([runId]) => runId);
}
