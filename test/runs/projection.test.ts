import { describe, expect, it } from 'vitest';
import { defaultLimits } from '../../src/core/limits.ts';
import { project, projectionHash, projectionSchema, tablesOf } from '../../src/runs/projection.ts';
import type { Run, Task } from '../../src/runs/run.ts';
import { dataset, ORG, rowOf, runOf } from '../support/runs.ts';

const task = (key: string, updated_at: number, changes: Partial<Task> = {}): Task => ({
  key,
  status: 'RUNNING',
  attempt: 1,
  created_at: 1,
  updated_at,
  started_at: 1,
  finished_at: null,
  outputs: [],
  error: null,
  ...changes,
});

const full: Run = {
  ...runOf({
    run_id: 'r1',
    kind: 'sql',
    reference_id: 'airflow/etl',
    queue: 'q',
    status: 'FAILED',
    attempt: 3,
    revision: 9,
    created_at: 1,
    updated_at: 5,
    started_at: 2,
    finished_at: 5,
    heartbeat_at: 4,
    cancel_requested_at: 3,
    heartbeat_timeout_ms: 10,
    run_timeout_ms: 20,
    payload: {
      target_namespace: 'db',
      target_table: 't',
      source_type: 'postgres',
      secret: 'not for readers',
    },
    inputs: [{ ...dataset('in'), at: 7, index: 0 } as never],
    outputs: [dataset('out')],
    tasks: { extract: task('extract', 4, { outputs: [dataset('out')] }) },
    result: { uri: 'gs://x', rows: 1, bytes: 2, version: 'v' },
    error: { code: 'E', message: 'broke' },
    code_version: 'abc',
    first_created_at: 2,
    indexed_revision: 8,
  }),
  from_the_future: true,
} as Run;

describe('the projection of a run', () => {
  it('field by field', () => {
    expect(project(full)).toEqual({
      run_id: 'r1',
      org_id: ORG,
      kind: 'sql',
      reference_id: 'airflow/etl',
      queue: 'q',
      status: 'FAILED',
      attempt: 3,
      revision: 9,
      created_at: 1,
      updated_at: 5,
      started_at: 2,
      finished_at: 5,
      heartbeat_at: 4,
      payload: { target_namespace: 'db', target_table: 't', source_type: 'postgres' },
      inputs: [dataset('in')],
      outputs: [dataset('out')],
      latest_task: {
        key: 'extract',
        status: 'RUNNING',
        attempt: 1,
        started_at: 1,
        finished_at: null,
        error: null,
      },
      result: { uri: 'gs://x', rows: 1, bytes: 2, version: 'v' },
      error: { code: 'E', message: 'broke' },
      code_version: 'abc',
      first_created_at: 2,
      changed_at: null,
      trace: null,
      artifacts: null,
      projection_version: 2,
    });
  });

  it('is what its own schema says, in the same order of keys', () => {
    for (const run of [full, runOf()]) {
      const row = project(run);
      expect(JSON.stringify(projectionSchema.parse(row))).toBe(JSON.stringify(row));
    }
  });

  it('is pure: the same run gives the same bytes, and stays as it is', () => {
    const before = JSON.stringify(full);
    expect(JSON.stringify(project(full))).toBe(JSON.stringify(project(structuredClone(full))));
    expect(JSON.stringify(full)).toBe(before);
  });

  it('keys of the canonical run in another order give the same bytes', () => {
    const shuffled = Object.fromEntries(Object.entries(full).reverse()) as Run;
    expect(JSON.stringify(project(shuffled))).toBe(JSON.stringify(project(full)));
    expect(projectionHash(project(shuffled))).toBe(projectionHash(project(full)));
    expect(projectionHash(project(runOf()))).not.toBe(projectionHash(project(full)));
  });
});

describe('errors are cut', () => {
  const max = defaultLimits.errorLengthMax;
  const messageOf = (message: string) => project(runOf({ error: { code: null, message } })).error!.message;

  it('one that fits stays whole, a longer one ends with an ellipsis within the limit', () => {
    expect(messageOf('x'.repeat(max))).toBe('x'.repeat(max));
    expect(messageOf('x'.repeat(max + 1))).toBe(`${'x'.repeat(max - 1)}…`);
    expect(messageOf('')).toBe('');
  });

  it('never in the middle of a surrogate pair', () => {
    for (const lead of [max - 3, max - 2, max - 1]) {
      const cut = messageOf(`${'x'.repeat(lead)}😀${'y'.repeat(50)}`);
      expect(cut.isWellFormed()).toBe(true);
      expect(cut.length).toBeLessThanOrEqual(max);
      expect(cut.endsWith('…')).toBe(true);
    }
  });

  it('of tasks too, and without their code', () => {
    const error = { code: 'E', message: 'z'.repeat(max + 1) };
    const row = project(runOf({ tasks: { a: task('a', 1, { error }) } }));
    expect(row.latest_task!.error).toBe(`${'z'.repeat(max - 1)}…`);
  });
});

describe('the latest task', () => {
  const latest = (...tasks: Task[]) =>
    project(runOf({ tasks: Object.fromEntries(tasks.map((one) => [one.key, one])) })).latest_task?.key ??
    null;

  it('is the one that changed last, whatever the order of the keys', () => {
    expect(latest()).toBeNull();
    expect(latest(task('a', 5), task('b', 4))).toBe('a');
    expect(latest(task('b', 4), task('a', 5))).toBe('a');
  });

  it('of several at one millisecond, the greatest key', () => {
    expect(latest(task('b', 5), task('a', 5), task('c', 4))).toBe('b');
    expect(latest(task('a', 5), task('c', 4), task('b', 5))).toBe('b');
  });
});

describe('the tables of a run', () => {
  const target = (target_namespace: string | null, target_table: string | null) => ({
    payload: { target_namespace, target_table, source_type: null },
  });

  it('are its outputs, and its target where that is not among them', () => {
    const outputs = [dataset('a'), dataset('b')];
    expect(tablesOf(rowOf())).toEqual([]);
    expect(tablesOf(rowOf({ outputs }))).toEqual(outputs);
    expect(tablesOf(rowOf({ ...target('db', 't') }))).toEqual([dataset('t')]);
    expect(tablesOf(rowOf({ outputs, ...target('db', 't') }))).toEqual([...outputs, dataset('t')]);
    expect(tablesOf(rowOf({ outputs, ...target('db', 'b') }))).toEqual(outputs);
    expect(tablesOf(rowOf({ outputs, ...target('lake', 'b') }))).toEqual([...outputs, dataset('b', 'lake')]);
  });

  it('a target without a namespace is in the empty one; an empty name is none', () => {
    expect(tablesOf(rowOf(target(null, 't')))).toEqual([dataset('t', '')]);
    expect(tablesOf(rowOf(target('db', '')))).toEqual([]);
    expect(tablesOf(rowOf(target('db', null)))).toEqual([]);
  });
});
