import { describe, expect, it } from 'vitest';
import { sealing } from '../../compactor/seal.ts';
import { Overlay } from '../../src/catalog/fold.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { tablesView } from '../../src/catalog/views.ts';
import { limits } from '../../src/core/limits.ts';
import { transition } from '../../src/runs/lifecycle.ts';
import { project } from '../../src/runs/projection.ts';
import { tableOf } from '../snapshot/tables.ts';
import { START } from '../support/fake-clock.ts';
import { dataset, must, ORG, rowOf, runOf } from '../support/runs.ts';

const HOUR = 3_600_000;

describe('a change after the end', () => {
  const ended = (run_id: string, at: number) => {
    const begun = must(runOf({ run_id, outputs: [dataset('t')] }), { type: 'started', attempt: 1 }, at);
    return must(begun, { type: 'succeeded', attempt: 1 }, at + 1);
  };
  const late = { type: 'artifact', attempt: 1, artifact: { type: 'put', operator: 'o', port: 'p' } } as const;

  it('keeps the row in the head for sealAgeMs, as a change of its life does: a record from before may still come', () => {
    const bounds = limits({ headRowsMax: 2 });
    const now = START + 9 * HOUR;
    const old = (run_id: string, changed_at: number | null) =>
      rowOf({ run_id, status: 'SUCCEEDED', updated_at: START, finished_at: START, changed_at });
    const rows = tableOf(ORG, [
      old('sealed-1', null),
      old('sealed-2', now - bounds.sealAgeMs),
      old('touched', now - bounds.sealAgeMs + 1),
      ...['a', 'b'].map((run_id) =>
        rowOf({ run_id, status: 'SUCCEEDED', updated_at: now, finished_at: now }),
      ),
    ]);
    const { keep, seal } = sealing(rows, now, bounds);
    expect(Array.from(seal, (i) => rows.runId(i))).toEqual(['sealed-1', 'sealed-2']);
    expect(Array.from(keep, (i) => rows.runId(i))).toContain('touched');
  });

  it('makes an old run neither the latest of its table nor its latest success', () => {
    const older = ended('older', START);
    const newer = ended('newer', START + HOUR);
    const answer = transition(older, late, START + 2 * HOUR);
    if (answer.outcome !== 'changed') throw new Error(answer.outcome);
    const rows = tableOf(ORG, [project(answer.run), project(newer)]);
    const [table] = tablesView(new CatalogState(ORG, null, rows, new Overlay()));
    expect(table).toMatchObject({ latest_run: { run_id: 'newer' }, latest_success: { run_id: 'newer' } });
    expect(rows.get(0)).toMatchObject({ updated_at: older.updated_at, changed_at: START + 2 * HOUR });
  });
});
