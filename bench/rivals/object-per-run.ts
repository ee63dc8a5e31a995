import type { Projection } from '../../src/runs/projection.ts';
import { answerOf, decodeJson, type Rival, scan } from './rival.ts';

const prefixOf = (orgId: string) => `rival/orgs/${orgId}/runs/`;

export const objectPerRun: Rival = {
  name: 'object per run',
  about:
    "one JSON projection per run under the org's prefix: LIST it, GET each, 64 at a time beside the listing",
  async prepare(store, { orgId, current }) {
    for (const row of current) {
      await store.put(`${prefixOf(orgId)}${row.run_id}.json`, Buffer.from(JSON.stringify(row)));
    }
  },
  async refresh(store, orgId) {
    const rows: Projection[] = [];
    await scan(store, prefixOf(orgId), (body) => rows.push(decodeJson(body) as Projection));
    return answerOf(rows);
  },
};
