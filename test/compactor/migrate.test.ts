import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hashOf, migrate } from '../../compactor/migrate.ts';
import { systemClock } from '../../src/core/clock.ts';
import { defaultLimits } from '../../src/core/limits.ts';
import { openRunStore } from '../../src/runs/open.ts';
import type { RunStore } from '../../src/runs/run-store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { jsonOf, RUNFOLD, run, tempDir } from '../cli/support.ts';
import { wholeRun } from '../runs/run-store-objects.ts';
import { postgresForTest } from '../support/postgres.ts';

const postgres = await postgresForTest();
const context = { clock: systemClock, limits: defaultLimits };
const dir = tempDir();

const targets: [string, (() => string) | null][] = [
  ['file', () => `file:${join(dir, crypto.randomUUID())}?fsync=off`],
  ['sqlite', () => `sqlite:${join(dir, crypto.randomUUID())}.db?fsync=off`],
  ['postgres', 'skipped' in postgres ? null : () => `${postgres.url}?schema=${postgres.freshSchema()}`],
];

const open = (url: string) => openRunStore(url, { store: new MemoryStore() });

async function filled(store: RunStore, count = 40): Promise<void> {
  for (let i = 0; i < count; i++) {
    const org_id = i % 4 === 0 ? 'beta' : 'acme';
    await store.create(wholeRun({ org_id, run_id: `r${i}`, revision: 1 + (i % 3), 'x-mine': { kept: i } }));
  }
}

describe.each(targets)('migrate to %s and back', (_, url) => {
  it.skipIf(url === null)(
    'copies every run as it is, once; both sides then agree by revision and hash',
    async () => {
      const [from, to] = [await openRunStore(undefined, { store: new MemoryStore() }), await open(url!())];
      await filled(from);
      expect(await migrate(from, to, context, { dryRun: true })).toMatchObject({ scanned: 40, copied: 40 });
      expect(await migrate(from, to, context, { verifyOnly: true })).toMatchObject({
        missing: expect.any(Array),
        copied: 0,
      });
      expect(await migrate(from, to, context)).toMatchObject({
        scanned: 40,
        copied: 40,
        unchanged: 0,
        failed: [],
      });
      expect(await migrate(from, to, context)).toMatchObject({ copied: 0, unchanged: 40 });
      const verified = await migrate(from, to, context, { verifyOnly: true });
      expect(verified).toMatchObject({ unchanged: 40, missing: [], extra: [], conflicts: [], failed: [] });
      const back = await openRunStore(undefined, { store: new MemoryStore() });
      await migrate(to, back, context, { orgId: 'beta' });
      for await (const one of back.scan()) {
        if (!('run' in one)) throw one.problem;
        expect(one.run.org_id).toBe('beta');
        expect(one.run).toEqual((await from.read('beta', one.run.run_id))!.run);
      }
      await to.close();
    },
  );
});

describe('migrate while both sides are written', () => {
  it('a newer revision in the target stays; an older one is replaced; one written on both sides is told', async () => {
    const [from, to] = [
      await openRunStore(undefined, { store: new MemoryStore() }),
      await open('sqlite::memory:'),
    ];
    await filled(from, 8);
    await migrate(from, to, context);
    const ahead = (await to.read('acme', 'r1'))!;
    await to.replace({ ...ahead.run, revision: 9, kind: 'target' }, ahead.token);
    const moved = (await from.read('acme', 'r2'))!;
    await from.replace({ ...moved.run, revision: 9, kind: 'source' }, moved.token);
    const split = (await to.read('acme', 'r3'))!;
    await to.replace({ ...split.run, kind: 'split' }, split.token);
    const { token } = (await from.read('beta', 'r4'))!;
    await from.remove('beta', 'r4', token);
    const done = await migrate(from, to, context);
    expect(done).toMatchObject({ scanned: 7, copied: 1, newer: 1, unchanged: 4 });
    expect(done.conflicts).toEqual([{ run: 'acme/r3', revision: 1 }]);
    expect((await to.read('acme', 'r1'))?.run.kind).toBe('target');
    expect((await to.read('acme', 'r2'))?.run.kind).toBe('source');
    expect(await migrate(from, to, context, { verifyOnly: true })).toMatchObject({ extra: ['beta/r4'] });
    await to.close();
  });

  it('a rival that writes the target between our read and our write loses nothing', async () => {
    const [from, bare] = [
      await openRunStore(undefined, { store: new MemoryStore() }),
      await open('sqlite::memory:'),
    ];
    await filled(from, 2);
    let rivals = 0;
    const to: RunStore = {
      url: bare.url,
      read: (...call) => bare.read(...call),
      async create(run, signal) {
        if (rivals++ === 0) await bare.create({ ...run, revision: 5, indexed_revision: 5 });
        return bare.create(run, signal);
      },
      replace: (...call) => bare.replace(...call),
      remove: (...call) => bare.remove(...call),
      scan: (...call) => bare.scan(...call),
      close: () => bare.close(),
    };
    expect(await migrate(from, to, context)).toMatchObject({ copied: 1, newer: 1 });
    await bare.close();
  });

  it('a run over the limit of size fails, in a dry run too', async () => {
    const store = () => openRunStore(undefined, { store: new MemoryStore() });
    const [from, to] = [await store(), await store()];
    await filled(from, 2);
    const strict = { ...context, limits: { ...defaultLimits, runBytesMax: 10 } };
    for (const dryRun of [true, false])
      expect(await migrate(from, to, strict, { dryRun })).toMatchObject({ copied: 0, failed: [{}, {}] });
  });

  it('a run’s hash does not depend on the order of its keys', () => {
    const one = wholeRun();
    const other = Object.fromEntries(Object.entries(one).reverse()) as typeof one;
    expect(hashOf(one)).toBe(hashOf(other));
    expect(hashOf(one)).not.toBe(hashOf({ ...one, kind: 'other' }));
  });
});

describe('runfold migrate', () => {
  it('moves a deployment into SQLite; commands then work on --runs', async () => {
    const store = `file:${join(tempDir(), 'store')}?fsync=off`;
    const runs = `sqlite:${join(tempDir(), 'runs.db')}?fsync=off`;
    const from = await open(store);
    await filled(from, 12);
    await from.close();
    expect(await jsonOf(run(RUNFOLD, ['migrate', '--from', store, '--to', runs, '--json']))).toMatchObject({
      copied: 12,
    });
    const verified = await run(RUNFOLD, ['migrate', '--from', store, '--to', runs, '--verify']);
    expect(verified).toMatchObject({
      code: 0,
      stdout: '12 runs: 12 the same, 0 newer in the target, 0 problems\n',
    });
    const on = (...args: string[]) =>
      jsonOf(run(RUNFOLD, [...args, '--json', '--store', store], { env: { RUNFOLD_RUNS: runs } }));
    expect(await on('backfill')).toMatchObject({ scanned: 12, indexed: 12, complete: true });
    expect(await on('reconcile', '--full')).toMatchObject({ scanned: 12, drift: [], complete: true });
    expect(await on('active', '--org', 'beta')).toHaveLength(3);
    for (const [one, other] of [
      [store, store.replace('/store?', '/x/../store?')],
      [runs, `sqlite:${relative('.', runs.slice('sqlite:'.length))}`],
    ]) {
      const wrong = await run(RUNFOLD, ['migrate', '--from', one!, '--to', other!, '--dry-run']);
      expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('same run store') });
    }
  });
});
