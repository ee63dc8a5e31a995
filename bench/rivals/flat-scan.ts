import { project } from '../../src/runs/projection.ts';
import { encodeRun, type Run } from '../../src/runs/run.ts';
import { realisticRows } from '../support/rows.ts';
import { answerOf, decodeJson, type Rival, runOfRow, scan } from './rival.ts';

export const FLAT_PREFIX = 'rival/flat/';
/** Distinct bodies among other orgs' runs; the rest repeat them under names of their own. */
const DISTINCT = 500;

/** What exists without a catalog: canonical runs side by side, whosever they are. */
export const flatScan: Rival = {
  name: 'flat scan',
  about: 'LIST all canonical runs, GET each, 64 at a time beside the listing; JSON.parse without validation',
  async prepare(store, { current, otherRuns, seed }) {
    for (const row of current) await store.put(`${FLAT_PREFIX}${row.run_id}.json`, encodeRun(runOfRow(row)));
    const others = strangers(otherRuns, seed);
    for (let i = 0; i < otherRuns; i++) {
      const { runId, body } = others[i % DISTINCT]!;
      await store.put(`${FLAT_PREFIX}${runId}-${i}.json`, body);
    }
  },
  async refresh(store, orgId) {
    const runs: Run[] = [];
    await scan(store, FLAT_PREFIX, (body) => {
      // What a canonical run leaves out when it is empty.
      const run = { artifacts: {}, ...(decodeJson(body) as object) } as Run;
      if (run.org_id === orgId) runs.push(run);
    });
    return answerOf(runs.map(project));
  },
};

/** Canonical runs of others, as many different ones as there are. */
export function strangers(otherRuns: number, seed: number): { runId: string; body: Uint8Array }[] {
  const rows = realisticRows({ orgId: 'others', count: Math.min(DISTINCT, otherRuns), seed: seed + 1 });
  return rows.map((row) => ({ runId: row.run_id, body: encodeRun(runOfRow(row)) }));
}
