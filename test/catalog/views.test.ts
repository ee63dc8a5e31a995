import { describe, expect, it } from 'vitest';
import { openCatalog } from '../../src/catalog/catalog.ts';
import { fold, Overlay } from '../../src/catalog/fold.ts';
import { lineageView } from '../../src/catalog/lineage.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { activeView, findRuns, type RunFilter, tablesView } from '../../src/catalog/views.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { type Dataset, RUN_STATUSES } from '../../src/runs/run.ts';
import { Rows } from '../../src/snapshot/rows.ts';
import { START } from '../support/fake-clock.ts';
import { dataset, ORG, rowOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';

type Changes = Partial<Projection> & { run_id: string };
const records = (rows: readonly Changes[]): LogRecord[] =>
  rows.map((row) => ({ kind: 'put', row: rowOf(row) }));
const target = (name: string | null, namespace: string | null = 'db') => ({
  payload: { target_namespace: namespace, target_table: name, source_type: null },
});

/** The same org twice: all in the tail, and all but the last row in the snapshot, with older revisions beneath. */
function statesOf(rows: readonly Changes[]): [name: string, state: CatalogState][] {
  const none = Rows.empty(ORG);
  const tail = new CatalogState(ORG, null, none, new Overlay().applyAll(records(rows)));
  const older = rows.map((row) => ({ ...rowOf({ run_id: row.run_id }), kind: 'old', revision: 1 }));
  const newer = rows.map((row) => ({ ...row, revision: (row.revision ?? 1) + 1 }));
  const half = Math.ceil(rows.length / 2);
  const base = fold(
    none,
    new Overlay().applyAll(records([...newer.slice(0, half), ...older.slice(half)])),
    null,
  ).rows;
  const mixed = new CatalogState(ORG, null, base, new Overlay().applyAll(records(newer.slice(half))));
  return [
    ['from the tail', tail],
    ['from snapshot and tail', mixed],
  ];
}

/** One expectation about an org, however its rows are spread. */
function on(rows: readonly Changes[], check: (state: CatalogState) => void): void {
  for (const [name, state] of statesOf(rows)) {
    try {
      check(state);
    } catch (error) {
      throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
    }
  }
}

const names = (tables: readonly Dataset[]) => tables.map(({ namespace, name }) => `${namespace}.${name}`);

describe('tables', () => {
  it('are whatever any run writes or means to write, sorted by namespace and name', () => {
    on(
      [
        { run_id: '1', outputs: [dataset('b'), dataset('a', 'lake')] },
        { run_id: '2', ...target('c'), outputs: [dataset('a')] },
        { run_id: '3', ...target('a', 'abc') },
        { run_id: '4', inputs: [dataset('only-read')] },
        { run_id: '5', ...target('n', null) },
        { run_id: '6' },
      ],
      (state) => {
        expect(names(tablesView(state))).toEqual(['.n', 'abc.a', 'db.a', 'db.b', 'db.c', 'lake.a']);
      },
    );
  });

  it('an org without runs has none', () => {
    on([], (state) => {
      expect([tablesView(state), findRuns(state, {}), activeView(state)]).toEqual([[], [], []]);
    });
  });

  it('latest_run is the one that changed last; latest_success the last that succeeded, whatever came after', () => {
    const t = { outputs: [dataset('t')] };
    on(
      [
        { run_id: 'old-success', ...t, status: 'SUCCEEDED', updated_at: START + 1 },
        { run_id: 'success', ...t, status: 'SUCCEEDED', updated_at: START + 2 },
        { run_id: 'failure', ...t, status: 'FAILED', updated_at: START + 4 },
        { run_id: 'running', ...t, status: 'RUNNING', updated_at: START + 3 },
        { run_id: 'never', outputs: [dataset('u')], status: 'FAILED', updated_at: START },
      ],
      (state) => {
        expect(tablesView(state)).toEqual([
          {
            ...dataset('t'),
            latest_run: { run_id: 'failure', status: 'FAILED', updated_at: START + 4 },
            latest_success: { run_id: 'success', status: 'SUCCEEDED', updated_at: START + 2 },
            upstream: 0,
            downstream: 0,
          },
          {
            ...dataset('u'),
            latest_run: { run_id: 'never', status: 'FAILED', updated_at: START },
            latest_success: null,
            upstream: 0,
            downstream: 0,
          },
        ]);
      },
    );
  });

  it('one run with several outputs is the latest of each', () => {
    on([{ run_id: '1', outputs: [dataset('a'), dataset('b')], status: 'SUCCEEDED' }], (state) => {
      expect(tablesView(state).map(({ latest_success }) => latest_success?.run_id)).toEqual(['1', '1']);
    });
  });

  it('ties: the later first creation, then the greater id', () => {
    const t = { outputs: [dataset('t')], updated_at: START + 9 };
    on(
      [
        { run_id: 'z', ...t, created_at: START },
        { run_id: 'a', ...t, created_at: START + 1 },
        { run_id: 'b', ...t, created_at: START + 1 },
        // Events that came later have moved its creation back.
        { run_id: 'm', ...t, created_at: START - 5, first_created_at: START + 2 },
      ],
      (state) => {
        expect(tablesView(state)[0]!.latest_run.run_id).toBe('m');
        expect(findRuns(state, {}).map(({ rows, i }) => rows.runId(i))).toEqual(['m', 'b', 'a', 'z']);
      },
    );
  });

  it('upstream and downstream count tables, not runs, and only direct ones', () => {
    on(
      [
        { run_id: '1', inputs: [dataset('raw1'), dataset('raw2')], outputs: [dataset('mid')] },
        { run_id: '2', inputs: [dataset('raw1')], outputs: [dataset('mid')] },
        { run_id: '3', inputs: [dataset('mid')], outputs: [dataset('mart1'), dataset('mart2')] },
        { run_id: '4', inputs: [dataset('mid')], ...target('mart2') },
        { run_id: '5', outputs: [dataset('raw1')] },
      ],
      (state) => {
        const counts = tablesView(state).map((t) => [t.name, t.upstream, t.downstream]);
        expect(counts).toEqual([
          ['mart1', 1, 0],
          ['mart2', 1, 0],
          ['mid', 2, 2],
          ['raw1', 0, 1],
        ]);
      },
    );
  });

  it('a table that a run reads and writes is its own neighbour', () => {
    on([{ run_id: '1', inputs: [dataset('t')], outputs: [dataset('t')] }], (state) => {
      expect(tablesView(state)).toMatchObject([{ upstream: 1, downstream: 1 }]);
    });
  });

  it('names that only look alike stay apart', () => {
    on(
      [
        { run_id: '1', outputs: [dataset('b.c', 'a'), dataset('c', 'a.b')] },
        { run_id: '2', outputs: [dataset('","', '"'), dataset('"', '","')] },
      ],
      (state) => expect(tablesView(state)).toHaveLength(4),
    );
  });

  it('what a newer revision no longer writes is no table any more', () => {
    const before = [{ run_id: '1', revision: 1, outputs: [dataset('gone'), dataset('stays')] }];
    const base = fold(Rows.empty(ORG), new Overlay().applyAll(records(before)), null).rows;
    const overlay = new Overlay().applyAll(
      records([{ run_id: '1', revision: 2, outputs: [dataset('stays')] }]),
    );
    expect(names(tablesView(new CatalogState(ORG, null, base, overlay)))).toEqual(['db.stays']);
  });
});

describe('runs', () => {
  const rows: Changes[] = [
    {
      run_id: '1',
      status: 'SUCCEEDED',
      kind: 'dbt',
      queue: 'a',
      created_at: START,
      updated_at: START + 50,
      outputs: [dataset('t')],
    },
    {
      run_id: '2',
      status: 'RUNNING',
      kind: 'dbt',
      queue: 'b',
      created_at: START + 10,
      updated_at: START + 40,
      outputs: [dataset('t', 'lake')],
    },
    {
      run_id: '3',
      status: 'FAILED',
      kind: 'sql',
      created_at: START + 20,
      updated_at: START + 30,
      ...target('t'),
    },
    {
      run_id: '4',
      status: 'QUEUED',
      kind: 'sql',
      queue: 'a',
      created_at: START + 30,
      updated_at: START + 30,
      inputs: [dataset('t')],
    },
  ];
  const found = (state: CatalogState, filter: RunFilter) =>
    findRuns(state, filter)
      .map(({ rows, i }) => rows.runId(i))
      .join('');

  it.each<[RunFilter, string]>([
    [{}, '1243'],
    [{ status: 'RUNNING' }, '2'],
    [{ status: ['RUNNING', 'FAILED'] }, '23'],
    [{ status: [] }, ''],
    [{ kind: 'dbt' }, '12'],
    [{ kind: 'none' }, ''],
    [{ queue: 'a' }, '14'],
    [{ table: { namespace: 'db', name: 't' } }, '13'],
    [{ table: { name: 't' } }, '123'],
    [{ table: { namespace: 'lake' } }, '2'],
    [{ table: {} }, '123'],
    [{ table: dataset('none') }, ''],
    [{ since: START + 10 }, '243'],
    [{ until: START + 10 }, '1'],
    [{ since: START + 10, until: START + 30 }, '23'],
    [{ limit: 2 }, '12'],
    [{ limit: 0 }, ''],
    [{ limit: 99 }, '1243'],
    [{ kind: 'sql', queue: 'a', status: 'QUEUED', limit: 1 }, '4'],
  ])('%j: newest first', (filter, expected) => {
    on(rows, (state) => expect(found(state, filter)).toBe(expected));
  });

  it('active are all that have not ended, and no other, newest first', () => {
    const all = RUN_STATUSES.map((status, i) => ({
      run_id: status,
      status,
      updated_at: START + i,
      queue: status[0]!,
    }));
    on(all, (state) => {
      expect(activeView(state).map(({ run_id }) => run_id)).toEqual(['CANCELLING', 'RUNNING', 'QUEUED']);
      expect(activeView(state, { queue: 'R' }).map(({ run_id }) => run_id)).toEqual(['RUNNING']);
    });
  });
});

describe('lineage', () => {
  const edge = (run_id: string, from: string, to: string, changes: Partial<Projection> = {}): Changes => ({
    run_id,
    inputs: [dataset(from)],
    outputs: [dataset(to)],
    ...changes,
  });
  /** raw → mid → mart → report, and other → mart. */
  const chain = [
    edge('1', 'raw', 'mid'),
    edge('2', 'mid', 'mart'),
    edge('3', 'mart', 'report'),
    edge('4', 'other', 'mart'),
  ];
  const shown = (state: CatalogState, name: string, query: object = {}) => {
    const { nodes, edges } = lineageView(state, { table: dataset(name), ...query });
    return [
      nodes.map((node) => node.name).join(),
      edges.map((one) => `${one.from.name}>${one.to.name}:${one.run_id}`).join(),
    ];
  };

  it('goes as far as it goes, both ways, and not to the siblings', () => {
    on(chain, (state) => {
      expect(shown(state, 'mid')).toEqual(['mart,mid,raw,report', 'mart>report:3,mid>mart:2,raw>mid:1']);
      expect(shown(state, 'mart')).toEqual([
        'mart,mid,other,raw,report',
        'mart>report:3,mid>mart:2,other>mart:4,raw>mid:1',
      ]);
    });
  });

  it('direction and depth', () => {
    on(chain, (state) => {
      expect(shown(state, 'mart', { direction: 'upstream' })[0]).toBe('mart,mid,other,raw');
      expect(shown(state, 'mart', { direction: 'downstream' })[0]).toBe('mart,report');
      expect(shown(state, 'mart', { direction: 'upstream', depth: 1 })).toEqual([
        'mart,mid,other',
        'mid>mart:2,other>mart:4',
      ]);
      expect(shown(state, 'raw', { direction: 'upstream' })).toEqual(['raw', '']);
      expect(shown(state, 'raw', { depth: 2 })[0]).toBe('mart,mid,raw');
      expect(shown(state, 'raw', { depth: 0 })).toEqual(['raw', '']);
    });
  });

  it('a table that nothing read or wrote is not there; one that was only read is', () => {
    on(chain, (state) => {
      expect(shown(state, 'none')).toEqual(['', '']);
      expect(lineageView(state, { table: dataset('mid', 'lake') })).toEqual({ nodes: [], edges: [] });
      expect(shown(state, 'other')[0]).toBe('mart,other,report');
    });
    on([{ run_id: '1', outputs: [dataset('alone')] }], (state) =>
      expect(shown(state, 'alone')).toEqual(['alone', '']),
    );
  });

  it('self loops and cycles end', () => {
    on([edge('1', 't', 't')], (state) => expect(shown(state, 't')).toEqual(['t', 't>t:1']));
    const cycle = [edge('1', 'a', 'b'), edge('2', 'b', 'c'), edge('3', 'c', 'a')];
    on(cycle, (state) => {
      expect(shown(state, 'a')).toEqual(['a,b,c', 'a>b:1,b>c:2,c>a:3']);
      expect(shown(state, 'a', { direction: 'downstream', depth: 1 })).toEqual(['a,b', 'a>b:1']);
      expect(shown(state, 'a', { direction: 'upstream', depth: 9 })).toEqual(['a,b,c', 'a>b:1,b>c:2,c>a:3']);
    });
  });

  it('an edge names the newest run that made it', () => {
    const twice = [
      edge('new', 'a', 'b', { updated_at: START + 2 }),
      edge('old', 'a', 'b', { updated_at: START + 1 }),
      edge('x', 'a', 'c', { updated_at: START, created_at: START }),
      edge('y', 'a', 'c', { updated_at: START, created_at: START }),
    ];
    on(twice, (state) => {
      expect(shown(state, 'a')[1]).toBe('a>b:new,a>c:y');
      expect(shown(state, 'b', { direction: 'upstream' })[1]).toBe('a>b:new');
    });
  });

  it('targets count as outputs, several of each make every pair, and runs of any status count', () => {
    const row = {
      run_id: '1',
      status: 'FAILED' as const,
      inputs: [dataset('a'), dataset('b')],
      outputs: [dataset('c')],
      ...target('d'),
    };
    on([row], (state) => {
      expect(shown(state, 'a')[1]).toBe('a>c:1,a>d:1');
      expect(shown(state, 'd')[1]).toBe('a>d:1,b>d:1');
    });
  });

  it('sorted by namespace, then name, from before to', () => {
    const rows = [
      {
        run_id: '1',
        inputs: [dataset('s', 'z'), dataset('s', 'a')],
        outputs: [dataset('t', 'm'), dataset('a', 'm')],
      },
    ];
    on(rows, (state) => {
      const { nodes, edges } = lineageView(state, { table: dataset('t', 'm') });
      expect(names(nodes)).toEqual(['a.s', 'm.t', 'z.s']);
      expect(edges.map(({ from, to }) => `${names([from])}>${names([to])}`)).toEqual(['a.s>m.t', 'z.s>m.t']);
    });
  });
});

describe('the catalog as callers see it', () => {
  it('tables, runs, active, lineage and Arrow tell the same story', async () => {
    const world = await fakeWorld();
    const { recorder } = world.session;
    await recorder.create(ORG, {
      run_id: 'r1',
      kind: 'sql',
      inputs: [dataset('in')],
      outputs: [dataset('out')],
    });
    await recorder.apply(ORG, 'r1', { type: 'succeeded', attempt: 1, result: { rows: 7 } });
    await world.compact();
    await world.clock.advance(1);
    await recorder.create(ORG, {
      run_id: 'r2',
      queue: 'q',
      payload: { target_namespace: 'db', target_table: 'out' },
    });
    const catalog = await world.read();
    expect(catalog.tables()).toMatchObject([
      { name: 'out', latest_run: { run_id: 'r2' }, latest_success: { run_id: 'r1' }, upstream: 1 },
    ]);
    const runs: Projection[] = [];
    for await (const run of catalog.runs({ table: { name: 'out' } })) runs.push(run);
    expect(runs.map(({ run_id }) => run_id)).toEqual(['r2', 'r1']);
    expect(runs[1]).toMatchObject({ org_id: ORG, kind: 'sql', result: { rows: 7 } });
    expect(catalog.active({ queue: 'q' }).map(({ run_id }) => run_id)).toEqual(['r2']);
    expect(catalog.active({ queue: 'other' })).toEqual([]);
    expect(catalog.lineage({ table: dataset('in') }).edges).toHaveLength(1);
    const table = await catalog.toArrow();
    expect(table.numRows).toBe(2);
    const columns = Object.fromEntries(
      ['run_id', 'status', 'revision'].map((name) => [name, [...table.getChild(name)!].map(String)]),
    );
    const sorted = columns
      .run_id!.map((id, i) => `${id} ${columns.status![i]} ${columns.revision![i]}`)
      .sort();
    expect(sorted).toEqual(['r1 SUCCEEDED 2', 'r2 QUEUED 1']);
  });

  it('views before the first refresh say what to do', () => {
    const catalog = openCatalog({} as never).org(ORG);
    expect(() => catalog.tables()).toThrow(
      expect.objectContaining({ code: 'INVALID_INPUT', hint: 'Await refresh() first.' }),
    );
    expect(() => catalog.active()).toThrow('never refreshed');
  });

  it('the rows of an overlay without a base are found by every filter', () => {
    const state = new CatalogState(
      ORG,
      null,
      Rows.empty(ORG),
      new Overlay().applyAll(records([{ run_id: '1' }])),
    );
    expect(state.rowCount).toBe(1);
    expect(state.rows().runId(0)).toBe('1');
  });
});
