import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CompactorContext } from '../../compactor/context.ts';
import { type ExportOptions, exportLegacy } from '../../compactor/export-legacy.ts';
import { compactPass } from '../../compactor/pass.ts';
import { StoreError } from '../../src/core/errors.ts';
import { isId, nameSegment } from '../../src/core/ids.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { Dataset } from '../../src/runs/run.ts';
import {
  exportedRunKey,
  exportedTableKey,
  exportIndexKey,
  exportPrefix,
  orgPrefix,
  runsPrefix,
} from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept, planting, recording, type StoreCall } from '../support/intercept.ts';
import { dataset, ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import { compactorOn, type FakeWorld, keysUnder } from './support.ts';

const INDEX = exportIndexKey(ORG);

const run = (world: FakeWorld, options: ExportOptions = {}, context: CompactorContext = world.compactor) =>
  world.clock.run(exportLegacy(context, ORG, options));

async function record(world: FakeWorld, run_id: string, outputs: Dataset[], orgId = ORG): Promise<void> {
  const { recorder } = world.session;
  await recorder.create(orgId, { run_id, outputs });
  await recorder.apply(orgId, run_id, { type: 'started', attempt: 1 });
  const error = { code: null, message: 'no' };
  await recorder.apply(orgId, run_id, { type: 'failed', attempt: 1, error });
}

async function textOf(store: ObjectStore, key: string): Promise<string> {
  const got = await store.get(key);
  if (got.outcome !== 'found') throw new Error(`${key} is not there`);
  return new TextDecoder().decode(got.body);
}

const jsonOf = async (store: ObjectStore, key: string) => JSON.parse(await textOf(store, key)) as unknown;

/** Every object of the export against the catalog, and nothing besides. */
async function expectExported(world: FakeWorld, orgId = ORG): Promise<void> {
  const expected = new Map<string, Projection>();
  const runs: Record<string, unknown> = {};
  const catalog = await world.read(orgId);
  for await (const row of catalog.runs()) {
    expected.set(exportedRunKey(orgId, row.run_id), row);
    for (const table of row.outputs) expected.set(exportedTableKey(orgId, table, row.run_id), row);
    runs[row.run_id] = { revision: row.revision, status: row.status, updated_at: row.updated_at };
  }
  const keys = (await keysUnder(world, exportPrefix(orgId))).filter((key) => key !== exportIndexKey(orgId));
  expect(keys.sort()).toEqual([...expected.keys()].sort());
  for (const [key, row] of expected) expect(await jsonOf(world.memory, key)).toEqual(row);
  const index = await jsonOf(world.memory, exportIndexKey(orgId));
  expect(index).toMatchObject({ format: 1, org_id: orgId, runs });
  expect(Object.keys((index as { runs: object }).runs).sort()).toEqual(Object.keys(runs).sort());
}

/** What a dry run says is what the run then does. */
async function exportTwice(world: FakeWorld, options: ExportOptions = {}) {
  const calls: StoreCall[] = [];
  const dry = await run(
    world,
    { ...options, dryRun: true },
    compactorOn(world, recording(world.memory, calls)),
  );
  expect(calls.filter(({ operation }) => operation === 'put' || operation === 'delete')).toEqual([]);
  const done = await run(world, options);
  expect(done).toEqual(dry);
  return done;
}

describe('export legacy', () => {
  it('writes each run by id and by table, and an index; then only what changed', async () => {
    const world = await fakeWorld({ limits: { headRowsMax: 20, historyGroupRows: 30, sealAgeMs: 0 } });
    const { recorder } = world.session;
    for (let i = 0; i < 70; i++) {
      await record(world, `r${i}`, [
        dataset(`t${i % 3}`),
        ...(i % 7 === 0 ? [dataset('shared', 'lake')] : []),
      ]);
      await world.clock.advance(10);
      if (i === 60) await world.compact();
    }
    expect((await world.read()).state.manifest?.parts.some(({ level }) => level > 0)).toBe(true);
    const first = await exportTwice(world);
    expect(first).toMatchObject({ runs: 70, tables: 4, removed: [], unchanged: 0, quarantined: 0 });
    expect(first.written).toHaveLength(70 + 70 + 10 + 1);
    expect(first.written.at(-1)).toBe(INDEX);
    await expectExported(world);

    expect(await exportTwice(world)).toMatchObject({ written: [], removed: [], unchanged: 150 });

    await recorder.apply(ORG, 'r0', { type: 'retry', attempt: 1 });
    await recorder.apply(ORG, 'r7', { type: 'delete' });
    await record(world, 'late', [dataset('t9')]);
    await world.compact();
    const second = await exportTwice(world);
    expect(second.written).toEqual([
      exportedRunKey(ORG, 'late'),
      exportedRunKey(ORG, 'r0'),
      exportedTableKey(ORG, dataset('t0'), 'r0'),
      exportedTableKey(ORG, dataset('t9'), 'late'),
      exportedTableKey(ORG, dataset('shared', 'lake'), 'r0'),
      INDEX,
    ]);
    expect(second.removed).toEqual([
      exportedRunKey(ORG, 'r7'),
      exportedTableKey(ORG, dataset('t1'), 'r7'),
      exportedTableKey(ORG, dataset('shared', 'lake'), 'r7'),
    ]);
    await expectExported(world);
    expect(await exportTwice(world)).toMatchObject({ written: [], removed: [] });
  });

  it('killed at any write or removal and repeated, it ends the same', async () => {
    for (let survives = 0; survives < 14; survives++) {
      const world = await fakeWorld();
      for (const id of ['a', 'b', 'c']) await record(world, id, [dataset('t')]);
      await world.compact();
      await run(world);
      await world.session.recorder.apply(ORG, 'a', { type: 'delete' });
      await world.session.recorder.apply(ORG, 'b', { type: 'retry', attempt: 1 });
      await record(world, 'd', [dataset('t'), dataset('u')]);
      let left = survives;
      const dying = intercept(world.memory, async ({ operation }, go) => {
        if ((operation === 'put' || operation === 'delete') && left-- <= 0)
          throw new StoreError('STORE_FAILED', 'The process is gone.', { retryable: false });
        return go();
      });
      await run(world, {}, compactorOn(world, dying)).catch(() => undefined);
      await run(world);
      await expectExported(world);
      expect(await exportTwice(world)).toMatchObject({ written: [], removed: [] });
    }
  });

  it('what the store did not confirm is told, and left to the next export', async () => {
    const world = await fakeWorld();
    await record(world, 'a', [dataset('t')]);
    await record(world, 'b', [dataset('t')]);
    await run(world);
    await world.session.recorder.apply(ORG, 'a', { type: 'retry', attempt: 1 });
    await world.session.recorder.apply(ORG, 'b', { type: 'delete' });
    const lossy = (landed: boolean) =>
      intercept(world.memory, async ({ operation, key }, go) => {
        const isLost = (operation === 'put' && key !== INDEX) || operation === 'delete';
        if (!isLost) return go();
        if (landed) await go();
        return { outcome: 'unknown', cause: null };
      });
    for (const landed of [false, true]) {
      const doubtful = await run(world, {}, compactorOn(world, lossy(landed)));
      expect(doubtful.unconfirmed).toEqual(
        [
          exportedRunKey(ORG, 'a'),
          exportedTableKey(ORG, dataset('t'), 'a'),
          exportedRunKey(ORG, 'b'),
          exportedTableKey(ORG, dataset('t'), 'b'),
        ].sort(),
      );
      expect(doubtful).toMatchObject({ removed: [] });
    }
    expect(await run(world)).toMatchObject({ unconfirmed: [] });
    await expectExported(world);
  });

  it('an export that slept neither replaces nor removes what a later one wrote', async () => {
    const world = await fakeWorld();
    await record(world, 'a', [dataset('t')]);
    await run(world);
    await world.session.recorder.apply(ORG, 'a', { type: 'retry', attempt: 1 });
    const rival = async () => {
      await world.session.recorder.apply(ORG, 'a', { type: 'started', attempt: 2 });
      await run(world);
    };
    const isOwnWrite = ({ operation, key }: StoreCall) =>
      operation === 'put' && key === exportedRunKey(ORG, 'a');
    const slow = compactorOn(world, planting(world.memory, isOwnWrite, rival));
    await expect(run(world, {}, slow)).rejects.toMatchObject({ code: 'REVISION_CONFLICT' });
    await expectExported(world);

    await world.session.recorder.apply(ORG, 'a', { type: 'force_cancel' });
    await world.session.recorder.apply(ORG, 'a', { type: 'delete' });
    const recreate = async () => {
      const key = exportedRunKey(ORG, 'a');
      const { generation } = (await world.memory.head(key))!;
      await world.memory.put(key, new TextEncoder().encode('{"revision":9}'), { ifGeneration: generation });
    };
    const isRemoval = ({ operation }: StoreCall) => operation === 'delete';
    const late = await run(world, {}, compactorOn(world, planting(world.memory, isRemoval, recreate)));
    expect(late.removed).toEqual([exportedTableKey(ORG, dataset('t'), 'a')]);
    expect(await textOf(world.memory, exportedRunKey(ORG, 'a'))).toBe('{"revision":9}');
  });

  it('a catalog that is gone does not empty the export; --force does', async () => {
    const world = await fakeWorld();
    await record(world, 'a', [dataset('t')]);
    await run(world);
    await world.compact();
    await record(world, 'b', [dataset('t')]);
    await run(world);
    for (const key of await keysUnder(world, orgPrefix(ORG))) {
      const { generation } = (await world.memory.head(key))!;
      await world.memory.delete(key, { ifGeneration: generation });
    }
    await expect(run(world)).rejects.toMatchObject({ code: 'INVALID_INPUT', hint: /--force/ });
    expect(await keysUnder(world, exportPrefix(ORG))).toHaveLength(5);
    expect((await run(world, { force: true })).removed).toHaveLength(4);
    expect(await keysUnder(world, exportPrefix(ORG))).toEqual([INDEX]);
  });

  it('--full mends what somebody removed, changed or left there, and a corrupt index', async () => {
    const world = await fakeWorld();
    await record(world, 'a', [dataset('t')]);
    await record(world, 'b', [dataset('t')]);
    await run(world);
    const put = (key: string, text: string) => world.memory.put(key, new TextEncoder().encode(text));
    const { generation } = (await world.memory.head(exportedRunKey(ORG, 'a')))!;
    await world.memory.delete(exportedRunKey(ORG, 'a'), { ifGeneration: generation });
    await put(exportedRunKey(ORG, 'b'), '{"revision":99}');
    await put(exportedRunKey(ORG, 'stray'), '{}');
    expect(await exportTwice(world)).toMatchObject({ written: [], removed: [] });
    expect(await exportTwice(world, { full: true })).toMatchObject({
      written: [exportedRunKey(ORG, 'a'), exportedRunKey(ORG, 'b'), INDEX],
      removed: [exportedRunKey(ORG, 'stray')],
    });
    await expectExported(world);
    await put(INDEX, '{"format":1,"org_id":"acme","runs":{"../../x":{}}}');
    await expect(run(world)).rejects.toMatchObject({ code: 'CORRUPT', hint: /--full/ });
    expect(await exportTwice(world, { full: true })).toMatchObject({ written: [INDEX], removed: [] });
    await expectExported(world);
  });

  it('an index that names what is not of its org is refused', async () => {
    const world = await fakeWorld();
    await record(world, 'a', []);
    await run(world);
    const index = (await jsonOf(world.memory, INDEX)) as { runs: object };
    for (const bad of [
      { removed: [{ key: `${runsPrefix(ORG)}a.json`, generation: '1' }] },
      { org_id: 'globex' },
      { runs: { ...index.runs, '../a': Object.values(index.runs)[0] } },
      { runs: { a: { ...Object.values(index.runs)[0], tables: [7] } } },
    ]) {
      await world.memory.put(INDEX, new TextEncoder().encode(JSON.stringify({ ...index, ...bad })));
      await expect(run(world)).rejects.toMatchObject({ code: 'CORRUPT' });
    }
  });

  it('asks for nothing outside its own org, and after a fold a pass keeps it up to date', async () => {
    const world = await fakeWorld();
    for (const orgId of ['acme', 'acme2']) await record(world, 'same', [dataset('same')], orgId);
    const calls: StoreCall[] = [];
    const context = compactorOn(world, recording(world.memory, calls));
    await run(world, {}, context);
    await run(world, { full: true }, context);
    const own = [orgPrefix(ORG), exportPrefix(ORG), runsPrefix(ORG)];
    expect(calls.filter(({ key }) => !own.some((prefix) => key.startsWith(prefix)))).toEqual([]);
    expect(await keysUnder(world, exportPrefix('acme2'))).toEqual([]);

    const passed = await world.clock.run(compactPass(world.compactor, { exportLegacy: true }));
    expect(passed).toMatchObject([
      { org_id: 'acme', exported: { runs: 1, written: 0 } },
      { org_id: 'acme2', exported: { runs: 1, written: 3, removed: 0, unconfirmed: 0 } },
    ]);
    await expectExported(world, 'acme2');
    const clean = await world.clock.run(compactPass(world.compactor, { orgs: 'all', exportLegacy: true }));
    expect(clean.every((result) => !('exported' in result))).toBe(true);
  });
});

describe('keys of the export', () => {
  const ids = fc.string({ unit: fc.constantFrom(...'aZ0._:@~+=-'), minLength: 1 }).filter((id) => isId(id));
  const names = fc.oneof(
    fc.string({
      unit: fc.constantFrom('.', '/', '~', '%', '2', 'E', 'a', '\\', '\0', 'é', '\ud800'),
      maxLength: 6,
    }),
    fc.string({ unit: 'binary', maxLength: 200 }),
  );

  it('no name is a path, and no two names share a segment', () => {
    fc.assert(
      fc.property(names, names, (a, b) => {
        expect(nameSegment(a)).toMatch(/^[\x21-\x7e]+$/);
        expect(nameSegment(a)).not.toMatch(/[/\\]|^\.\.?$/);
        expect(nameSegment(a).length).toBeLessThanOrEqual(96);
        expect(nameSegment(a) === nameSegment(b)).toBe(a === b);
      }),
    );
  });

  it('two orgs, two runs, or two tables never meet, and nothing leaves its org', () => {
    const table = fc.record({ namespace: names, name: names });
    const place = fc.tuple(ids, table, ids);
    fc.assert(
      fc.property(place, place, (a, b) => {
        const key = exportedTableKey(...a);
        expect(key.startsWith(exportPrefix(a[0]))).toBe(true);
        expect(key.split('/')).toHaveLength(8);
        expect(key.length).toBeLessThanOrEqual(1024);
        const isSame = JSON.stringify(a) === JSON.stringify(b);
        expect(key === exportedTableKey(...b)).toBe(isSame);
        if (a[0] !== b[0]) expect(key.startsWith(exportPrefix(b[0]))).toBe(false);
      }),
    );
    const longest = `a${':'.repeat(126)}a`;
    const long = { namespace: 'ü'.repeat(2_000), name: 'ü'.repeat(2_000) };
    expect(exportedTableKey(longest, long, longest).length).toBeLessThanOrEqual(1024);
    expect(exportedTableKey('a', { namespace: '', name: '..' }, 'r')).toBe(
      'authoritative-runs/catalog/orgs/a/tables/~/%2E./r.json',
    );
  });

  it('an id that is none never becomes a key', () => {
    for (const bad of ['../a', 'a/b', '', '.', '%2e']) {
      expect(() => exportPrefix(bad)).toThrow('org id');
      expect(() => exportedRunKey('a', bad)).toThrow('run id');
    }
  });
});
