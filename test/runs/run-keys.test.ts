import { describe, expect, it } from 'vitest';
import { openSession } from '../../src/session.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';

const ORG = 'acme';
const request = (run_id: string, more: object = {}) => ({
  run_id,
  queue: 'etl',
  run_key: 'daily-2026-11-20',
  kind: 'sql',
  ...more,
});

describe("creation by the caller's own key", () => {
  it('the same key and request give the first run, whatever id the repeat names', async () => {
    const { recorder, catalog } = openSession(new MemoryStore());
    const first = await recorder.create(ORG, request('run-1'));
    const again = await recorder.create(ORG, request('run-2'));
    expect(first).toMatchObject({ changed: true, run: { run_id: 'run-1', run_key: 'daily-2026-11-20' } });
    expect(again).toMatchObject({ changed: false, run: { run_id: 'run-1' } });
    const org = await catalog.org(ORG).refresh();
    expect(org.active({ queue: 'etl' }).map(({ run_id }) => run_id)).toEqual(['run-1']);
  });

  it('another request under the key is a conflict and leaves nothing', async () => {
    const { recorder, runs, catalog } = openSession(new MemoryStore());
    await recorder.create(ORG, request('run-1'));
    await expect(recorder.create(ORG, request('run-2', { kind: 'etl' }))).rejects.toMatchObject({
      code: 'RUN_KEY_CONFLICT',
      details: { run_id: 'run-1' },
    });
    expect(await runs.read(ORG, 'run-2')).toBeNull();
    expect((await catalog.org(ORG).refresh()).active()).toHaveLength(1);
  });

  it('keys are per org and queue', async () => {
    const { recorder } = openSession(new MemoryStore());
    const made = await Promise.all([
      recorder.create(ORG, request('run-1')),
      recorder.create(ORG, request('run-2', { queue: 'ml' })),
      recorder.create(ORG, request('run-3', { queue: null })),
      recorder.create('other', request('run-4')),
    ]);
    expect(made.map(({ changed, run }) => [changed, run.run_id])).toEqual(
      [1, 2, 3, 4].map((n) => [true, `run-${n}`]),
    );
  });

  it('of racing creators exactly one run comes to be', async () => {
    const { recorder, catalog } = openSession(new MemoryStore());
    const made = await Promise.all(
      Array.from({ length: 20 }, (_, i) => recorder.create(ORG, request(`run-${i}`))),
    );
    expect(new Set(made.map(({ run }) => run.run_id)).size).toBe(1);
    expect(made.filter(({ changed }) => changed)).toHaveLength(1);
    expect((await catalog.org(ORG).refresh()).active()).toHaveLength(1);
  });

  it('a creator that died between the claim and the run is finished by its repeat', async () => {
    const memory = new MemoryStore();
    const failing: ObjectStore = {
      ...openSession(memory).store,
      async put(key, body, options) {
        if (key.includes('/runs/')) throw new Error('killed');
        return memory.put(key, body, options);
      },
    };
    await expect(openSession(failing).recorder.create(ORG, request('run-1'))).rejects.toThrow('killed');
    const { run, changed } = await openSession(memory).recorder.create(ORG, request('run-2'));
    expect([changed, run.run_id]).toEqual([true, 'run-1']);
  });
});
