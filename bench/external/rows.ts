import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Projection } from '../../src/runs/projection.ts';
import { partCodec } from '../../src/snapshot/codec.ts';
import { RowsBuilder } from '../../src/snapshot/rows.ts';
import type { Dataset } from '../rivals/rival.ts';
import { realisticRows } from '../support/rows.ts';

const OTHER_ORG_RUNS = 1_000;

/** The org's rows in `org.parquet`, other orgs' beside it: what all Python rivals load. */
export async function writeRows(folder: string, data: Dataset): Promise<void> {
  const codec = await partCodec();
  const write = async (name: string, orgId: string, rows: readonly Projection[]) => {
    const builder = new RowsBuilder(orgId, rows.length);
    for (const row of rows) builder.add(row);
    await writeFile(join(folder, `${name}.parquet`), await codec.encode(builder.build()));
  };
  await write('org', data.orgId, data.current);
  for (const rows of othersOf(data)) await write(rows[0]!.org_id, rows[0]!.org_id, rows);
}

/** Runs of other orgs, an org at a time. */
export function* othersOf({ otherRuns, seed }: Dataset): Generator<Projection[], void, void> {
  for (let at = 0; at * OTHER_ORG_RUNS < otherRuns; at++) {
    const count = Math.min(OTHER_ORG_RUNS, otherRuns - at * OTHER_ORG_RUNS);
    yield realisticRows({ orgId: `other-${at}`, count, seed: seed * 7_001 + at });
  }
}
