import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Overlay } from '../../src/catalog/fold.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { activeView, newestFirst, type RowRef, type TableView, tablesView } from '../../src/catalog/views.ts';
import { type Projection, tablesOf } from '../../src/runs/projection.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { isTerminal, RUN_STATUSES } from '../../src/runs/run.ts';
import { projectionsOf, tableOf } from '../snapshot/tables.ts';
import { START } from '../support/fake-clock.ts';
import { dataset, ORG, rowOf } from '../support/runs.ts';

/** What the views say, worked out from whole projections without index, cache or codes. */
function plainViews(state: CatalogState): { tables: TableView[]; active: string[] } {
  const rows = state.rows();
  const refs: RowRef[] = projectionsOf(rows).map((_, i) => ({ rows, i }));
  refs.sort(newestFirst);
  const tables = new Map<string, TableView>();
  const edges = new Set<string>();
  for (const { i } of refs) {
    const row = rows.get(i);
    const brief = { run_id: row.run_id, status: row.status, updated_at: row.updated_at };
    for (const { namespace, name } of tablesOf(row)) {
      const id = `${namespace} ${name}`;
      const known = tables.get(id) ?? {
        namespace,
        name,
        latest_run: brief,
        latest_success: null,
        upstream: 0,
        downstream: 0,
      };
      if (row.status === 'SUCCEEDED') known.latest_success ??= brief;
      tables.set(id, known);
      for (const from of row.inputs) edges.add(`${from.namespace} ${from.name}>${id}`);
    }
  }
  for (const edge of edges) {
    const [from, to] = edge.split('>') as [string, string];
    tables.get(to)!.upstream++;
    const source = tables.get(from);
    if (source !== undefined) source.downstream++;
  }
  const key = ({ namespace, name }: TableView) => `${namespace}\u0000${name}`;
  return {
    tables: [...tables.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1)),
    active: refs.filter(({ i }) => !isTerminal(rows.status(i))).map(({ i }) => rows.runId(i)),
  };
}

const tables = fc.subarray([dataset('a'), dataset('b'), dataset('c', 'lake'), dataset('d')], {
  maxLength: 3,
});
const row = (revision: number) =>
  fc
    .record({
      run: fc.nat(14),
      status: fc.constantFrom(...RUN_STATUSES),
      updated: fc.nat(6),
      inputs: tables,
      outputs: tables,
      target: fc.constantFrom(null, 'a', 'e'),
    })
    .map(
      ({ run, status, updated, inputs, outputs, target }): Projection =>
        rowOf({
          run_id: `run-${run}`,
          revision,
          status,
          updated_at: START + updated,
          inputs,
          outputs,
          payload: { target_namespace: 'db', target_table: target, source_type: null },
        }),
    );

const byRun = <T extends { run_id: string }>(rows: readonly T[]) => [
  ...new Map(rows.map((one) => [one.run_id, one])).values(),
];

describe('tables and active', () => {
  it('say of head and tail what plain reading of all rows says, tail after tail', () => {
    const deletes = fc.array(fc.nat(14), { maxLength: 2 });
    fc.assert(
      fc.property(
        fc.array(row(1), { maxLength: 14 }),
        fc.array(fc.tuple(fc.array(row(2), { maxLength: 8 }), deletes), { minLength: 1, maxLength: 3 }),
        (head, tails) => {
          // One head under several tails: what the first left behind must not colour the next.
          const base = tableOf(ORG, byRun(head));
          for (const [puts, gone] of tails) {
            const records: LogRecord[] = [
              ...byRun(puts).map((one): LogRecord => ({ kind: 'put', row: one })),
              ...gone.map(
                (run): LogRecord => ({
                  kind: 'delete',
                  run_id: `run-${run}`,
                  revision: 3,
                  deleted_at: START,
                }),
              ),
            ];
            const state = new CatalogState(ORG, null, base, new Overlay().applyAll(records));
            const expected = plainViews(state);
            for (let repeat = 0; repeat < 2; repeat++) {
              expect(tablesView(state)).toEqual(expected.tables);
              expect(activeView(state).map(({ run_id }) => run_id)).toEqual(expected.active);
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('belong to the caller: changing them changes nothing that others see', () => {
    const base = tableOf(ORG, [rowOf({ run_id: 'r', status: 'SUCCEEDED', outputs: [dataset('a')] })]);
    const state = new CatalogState(ORG, null, base, new Overlay());
    const [mine] = tablesView(state) as [TableView];
    mine.name = 'mine';
    mine.latest_run.run_id = 'mine';
    mine.latest_success!.run_id = 'mine';
    expect(tablesView(state)).toMatchObject([
      { name: 'a', latest_run: { run_id: 'r' }, latest_success: { run_id: 'r' } },
    ]);
  });
});
