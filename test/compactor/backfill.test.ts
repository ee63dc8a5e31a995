import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { backfill } from '../../compactor/backfill.ts';
import { JOBS_PREFIX } from '../../compactor/backfill-job.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { reconcile } from '../../compactor/reconcile.ts';
import { repairOrg } from '../../compactor/repair.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { OutcomeUnknownError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { openRunStore } from '../../src/runs/open.ts';
import { encodeRun, type Run } from '../../src/runs/run.ts';
import { manifestKey, RUNS_PREFIX, runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { tempDir } from '../cli/support.ts';
import { wholeRun as runOf } from '../runs/run-store-objects.ts';
import { FakeClock, START } from '../support/fake-clock.ts';
import { intercept } from '../support/intercept.ts';
import { dataset } from '../support/runs.ts';
import { expectLaw2, worldOn } from '../support/world.ts';

const SMALL = { headRowsMax: 40, mergeFanIn: 4, historyGroupRows: 50 };

/** Canonical runs of some orgs, as an older deployment left them: without any index. */
async function settled(orgs: Record<string, number>, limits = {}) {
  const clock = new FakeClock(START + 40 * 86_400_000);
  const memory = new MemoryStore({ clock });
  const world = { clock, memory, ...(await worldOn(memory, { clock, limits: { ...SMALL, ...limits } })) };
  for (const [org_id, count] of Object.entries(orgs)) {
    for (let i = 0; i < count; i++) await world.compactor.runs.create(canonical(org_id, i));
  }
  return world;
}

type World = Awaited<ReturnType<typeof settled>>;

function canonical(org_id: string, i: number): Run {
  const at = START + i * 1_000;
  const active = i % 50 === 7;
  return runOf({
    org_id,
    run_id: `r${String(i).padStart(5, '0')}`,
    status: active ? 'RUNNING' : i % 9 === 0 ? 'FAILED' : 'SUCCEEDED',
    revision: 3,
    indexed_revision: 3,
    created_at: at,
    updated_at: at + 500,
    indexed_at: at + 500,
    started_at: at + 1,
    finished_at: active ? null : at + 500,
    outputs: [dataset(`t${i % 7}`)],
  });
}

const fill = (world: World, options: Parameters<typeof backfill>[2] = {}, context = world.compactor) =>
  backfill(context, world.session.recorder, { unitRuns: 60, ...options });

/** A dry run, then the real one, which must do what the dry one said. */
async function foretold(world: World, options: Parameters<typeof backfill>[2]) {
  const dry = await fill(world, { ...options, dryRun: true });
  const real = await fill(world, options);
  expect(real).toEqual(dry);
  return real;
}

const counts = (scanned: number, indexed: number, unchanged: number) => ({ scanned, indexed, unchanged });

async function expectNoDrift(world: World, orgs: string[]) {
  for (const org of orgs) expect((await verifyOrg(world.compactor, org)).problems).toEqual([]);
}

function onStore(world: World, store: ObjectStore, seed: number): CompactorContext {
  return { ...world.compactor, store, random: seededRandom(seed) };
}

describe('backfill', () => {
  it('builds every org’s snapshot from canonical runs, history sealed; again, it changes nothing', async () => {
    const world = await settled({ acme: 400, beta: 3, 'beta-2': 1 });
    const done = await fill(world);
    expect(done).toMatchObject({
      ...counts(404, 404, 0),
      skipped: 0,
      failed: [],
      complete: true,
      units_done_before: 0,
    });
    await expectNoDrift(world, ['acme', 'beta', 'beta-2']);
    const { manifest } = (await world.read('acme')).state;
    expect(manifest?.parts.some(({ level }) => level > 0)).toBe(true);
    expect((await world.read('acme')).active()).toHaveLength(8);
    expect((await world.read('acme')).tables()).toHaveLength(7);
    const { version } = manifest!;
    expect(await fill(world)).toMatchObject({ ...counts(404, 0, 404), complete: true });
    expect((await world.read('acme')).state.manifest?.version).toBe(version);
  });

  it('a dry run tells exactly what the real one then does, and writes nothing', async () => {
    const world = await settled({ acme: 130 });
    await world.memory.put(runKey('acme', 'r00005'), new TextEncoder().encode('{'));
    const writes: string[] = [];
    const watched = intercept(world.memory, (call, go) => {
      if (call.operation === 'put' || call.operation === 'delete') writes.push(call.key);
      return go();
    });
    const dry = await fill(world, { dryRun: true }, { ...world.compactor, store: watched });
    expect(writes).toEqual([]);
    const { units_done_before: _, ...real } = await fill(world);
    expect(dry).toMatchObject(real);
    expect(real).toMatchObject({ scanned: 130, indexed: 129, failed: [{ key: runKey('acme', 'r00005') }] });
  });

  it('lists what cannot be read, each with its key and why, and does the rest', async () => {
    const world = await settled({ acme: 5 });
    const raw = (key: string, value: unknown) =>
      world.memory.put(
        key,
        new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value)),
      );
    await raw(runKey('acme', 'bad-json'), '{"format":1');
    await raw(runKey('acme', 'future'), { ...runOf({ run_id: 'future' }), format: 9 });
    await raw(runKey('acme', 'other-org'), runOf({ run_id: 'other-org', org_id: 'beta' }));
    await raw(`${RUNS_PREFIX}acme/no-run.txt`, 'x');
    await raw(`${RUNS_PREFIX}flat-without-org.json`, { format: 1, run_id: 'flat-without-org' });
    const done = await fill(world);
    expect(done).toMatchObject({ scanned: 9, indexed: 5 });
    expect(done.failed.map(({ key }) => key).sort()).toEqual(
      [
        runKey('acme', 'bad-json'),
        runKey('acme', 'future'),
        runKey('acme', 'other-org'),
        `${RUNS_PREFIX}acme/no-run.txt`,
      ].sort(),
    );
    expect(done.failed.find(({ key }) => key.includes('future'))?.reason).toContain('format 9');
    expect(done.legacy.failed).toMatchObject([{ key: `${RUNS_PREFIX}flat-without-org.json` }]);
  });

  it('what lies under no org is listed, by backfill and reconcile; a flat id that is not allowed is called so', async () => {
    const world = await settled({ acme: 2 });
    const raw = (key: string, run: Run) => world.memory.put(`${RUNS_PREFIX}${key}`, encodeRun(run));
    for (const folder of ['_team', 'Bad Org']) await raw(`${folder}/y.json`, runOf({ run_id: 'y' }));
    const ids = ['_x', 'a.', 'my run', 'ünï'];
    for (const run_id of ids) await raw(`${run_id}.json`, runOf({ org_id: 'acme', run_id }));
    const done = await foretold(world, {});
    const folders = [`${RUNS_PREFIX}Bad Org/`, `${RUNS_PREFIX}_team/`];
    expect(done.failed.map(({ key }) => key)).toEqual(folders);
    expect(done.failed[1]?.reason).toContain('"_team", is no id of an org');
    expect(done.legacy.failed.map(({ key }) => key)).toEqual(ids.map((id) => `${RUNS_PREFIX}${id}.json`));
    for (const { reason } of done.legacy.failed) expect(reason).toContain('Use letters, digits and ._:@~+=-');
    const reconciled = await reconcile(world.compactor, world.session.recorder);
    expect(reconciled.failed.map(({ key }) => key)).toEqual(folders);
    const other = await reconcile(world.compactor, world.session.recorder, { shard: { index: 1, count: 2 } });
    expect(other.failed).toEqual([]);
  });

  it('an org whose rows cannot be read, and rows of no org, are listed where runs are in SQL', async () => {
    const path = join(tempDir(), 'runs.db');
    const world = await settled({});
    const runs = await openRunStore(`sqlite:${path}?fsync=off`, { store: world.memory });
    const database = new DatabaseSync(path);
    const context = { ...world.compactor, runs };
    await runs.create(canonical('acme', 1));
    await fill(world, {}, context);
    database.exec("UPDATE runs SET body = '{'");
    const insert = database.prepare("INSERT INTO runs VALUES (?, ?, 1, 'w', '{', 0)");
    for (const [org, id] of [
      ['Bad Org', 'a'],
      ['Bad Org', 'b'],
      ['broken', 'my run'],
      ['broken', 'x'],
    ])
      insert.run(org!, id!);
    const done = await fill(world, { unitRuns: 1 }, context);
    const keys = ['Bad Org/', 'acme/r00001', 'broken/my run', 'broken/x'];
    expect(done.failed.map(({ key }) => key)).toEqual(keys.map((key) => `${runs.url}/${key}`));
    expect(done).toMatchObject({ scanned: 3, indexed: 0, orgs_failed: [] });
    const reconciled = await world.clock.run(reconcile(context, world.session.recorder));
    expect(reconciled).toMatchObject({ orgs: 2, drift: [], orgs_failed: [] });
    expect(reconciled.failed.map(({ key }) => key)).toEqual(done.failed.map(({ key }) => key));
    database.close();
    await runs.close();
  });

  it('flat legacy keys are brought in under their org: copied, kept up to date, then moved', async () => {
    const world = await settled({ acme: 2 });
    const flat = (run: Run) => world.memory.put(`${RUNS_PREFIX}${run.run_id}.json`, encodeRun(run));
    for (const org_id of ['acme', 'new-org']) await flat(runOf({ org_id, run_id: `flat-${org_id}` }));
    await flat(canonical('acme', 1));
    const first = await foretold(world, {});
    expect(first.legacy).toMatchObject({ scanned: 3, copied: 2, unchanged: 1, deleted: 0 });
    expect(first).toMatchObject({ scanned: 4, indexed: 2, unchanged: 2 });
    expect((await world.read('new-org')).active().map(({ run_id }) => run_id)).toEqual(['flat-new-org']);
    // Old software goes on writing there.
    await flat(
      runOf({ org_id: 'acme', run_id: 'flat-acme', revision: 2, indexed_revision: 2, status: 'RUNNING' }),
    );
    expect((await foretold(world, { legacy: 'move' })).legacy).toMatchObject({
      scanned: 3,
      copied: 1,
      deleted: 3,
    });
    expect((await world.memory.list({ prefix: RUNS_PREFIX, delimiter: '/' })).items).toEqual([]);
    expect((await world.read('acme')).active()[0]).toMatchObject({ run_id: 'flat-acme', revision: 2 });
    await expectNoDrift(world, ['acme', 'new-org']);
  });

  it('killed between a copy and its record, it shows the run all the same, though its unit is done', async () => {
    const world = await settled({ acme: 100 });
    await fill(world, { legacy: 'skip', shard: { index: 0, count: 2 } });
    // It lies in the unit that is done.
    await world.memory.put(
      `${RUNS_PREFIX}a-flat.json`,
      encodeRun(runOf({ org_id: 'acme', run_id: 'a-flat', status: 'RUNNING' })),
    );
    const { recorder } = world.session;
    const dying = {
      now: () => recorder.now(),
      repeatRecord: () => Promise.reject(new OutcomeUnknownError('killed')),
    } as unknown as typeof recorder;
    await expect(backfill(world.compactor, dying)).rejects.toThrow('killed');
    expect(await world.compactor.runs.read('acme', 'a-flat')).not.toBeNull();
    const { units_done_before, legacy } = await foretold(world, {});
    expect({ units_done_before, legacy }).toMatchObject({
      units_done_before: 1,
      legacy: { copied: 0, unchanged: 0, recorded: 1 },
    });
    expect((await world.read('acme')).active().some(({ run_id }) => run_id === 'a-flat')).toBe(true);
    await expectNoDrift(world, ['acme']);
    expect((await fill(world)).legacy).toMatchObject({ unchanged: 1, recorded: 0 });
  });

  it('orgs whose catalog cannot be read or written are told, in a dry run too, and stop no other', async () => {
    const world = await settled({ aa: 3, bb: 3, cc: 3 });
    await fill(world, { orgs: ['cc'] });
    await world.memory.put(manifestKey('aa'), new TextEncoder().encode('{'));
    const got = await world.memory.get(manifestKey('cc'));
    if (got.outcome !== 'found') throw new Error('no manifest');
    const future = { ...JSON.parse(new TextDecoder().decode(got.body)), writer_features: ['unheard-of'] };
    await world.memory.put(manifestKey('cc'), new TextEncoder().encode(JSON.stringify(future)));
    await world.compactor.runs.create(canonical('cc', 9));
    const done = await foretold(world, {});
    expect(done).toMatchObject(counts(3, 3, 0));
    expect(done.orgs_failed).toMatchObject([
      { org_id: 'aa', outcome: 'failed', code: 'CORRUPT' },
      { org_id: 'cc', outcome: 'failed', code: 'UNSUPPORTED_FORMAT' },
    ]);
    await expectNoDrift(world, ['bb']);
    const dry = repairOrg(world.compactor, 'cc', { dryRun: true });
    await expect(dry).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
  });

  it('a flat run over the limit of its org fails, in a dry run too', async () => {
    const world = await settled({}, { runBytesMax: 2_000 });
    const large = runOf({
      org_id: 'acme',
      run_id: 'large',
      error: { code: null, message: 'x'.repeat(3_000) },
    });
    await world.memory.put(`${RUNS_PREFIX}large.json`, encodeRun(large));
    const done = await foretold(world, {});
    expect(done.legacy).toMatchObject({
      scanned: 1,
      copied: 0,
      failed: [{ key: `${RUNS_PREFIX}large.json` }],
    });
  });

  it('software that never counted: a newer flat state is taken over, and none is deleted that the copy does not hold', async () => {
    const world = await settled({});
    const key = `${RUNS_PREFIX}n.json`;
    const flat = (more: Partial<Run>) =>
      world.memory.put(key, encodeRun(runOf({ org_id: 'acme', run_id: 'n', status: 'RUNNING', ...more })));
    const status = async () => (await world.compactor.runs.read('acme', 'n'))?.run.status;
    await flat({});
    expect((await foretold(world, {})).legacy).toMatchObject({ copied: 1 });
    const done = { status: 'SUCCEEDED', updated_at: START + 9_000, finished_at: START + 9_000 } as const;
    await flat(done);
    expect((await foretold(world, {})).legacy).toMatchObject({ copied: 1, unchanged: 0, failed: [] });
    expect(await status()).toBe('SUCCEEDED');
    expect((await world.read('acme')).active()).toEqual([]);
    expect((await foretold(world, {})).legacy).toMatchObject({ copied: 0, unchanged: 1 });
    // Neither later nor the same.
    await flat({ ...done, status: 'FAILED' });
    const refused = await foretold(world, { legacy: 'move' });
    expect(refused.legacy).toMatchObject({ copied: 0, deleted: 0, failed: [{ key }] });
    expect(refused.legacy.failed[0]?.reason).toContain('set its revision to 3');
    expect(await world.memory.head(key)).not.toBeNull();
    await flat({ ...done, status: 'FAILED', revision: 3, indexed_revision: 3 });
    expect((await foretold(world, { legacy: 'move' })).legacy).toMatchObject({ copied: 1, deleted: 1 });
    expect(await status()).toBe('FAILED');
  });

  it('a flat run that changed after the recorder took over is a conflict; an unchanged one may go', async () => {
    const world = await settled({});
    const { recorder } = world.session;
    const flat = (run_id: string, more: Partial<Run>) =>
      world.memory.put(
        `${RUNS_PREFIX}${run_id}.json`,
        encodeRun(runOf({ org_id: 'acme', run_id, status: 'QUEUED', ...more })),
      );
    for (const run_id of ['kept', 'torn']) await flat(run_id, {});
    await fill(world);
    for (const run_id of ['kept', 'torn']) await recorder.apply('acme', run_id, { type: 'cancel' });
    await flat('torn', { status: 'SUCCEEDED', updated_at: world.clock.now() + 60_000 });
    await recorder.create('acme', { run_id: 'twice' });
    await flat('twice', { status: 'FAILED' });
    expect((await foretold(world, { legacy: 'move' })).legacy).toMatchObject({
      unchanged: 1,
      deleted: 1,
      failed: [{ key: `${RUNS_PREFIX}torn.json` }, { key: `${RUNS_PREFIX}twice.json` }],
    });
    expect(await world.memory.head(`${RUNS_PREFIX}torn.json`)).not.toBeNull();
  });

  it('a deleted run does not come back from its flat copy once its tombstone is gone', async () => {
    const world = await settled({});
    const { recorder } = world.session;
    for (const run_id of ['flat', 'plain'])
      await world.memory.put(
        `${RUNS_PREFIX}${run_id}.json`,
        encodeRun(runOf({ org_id: 'acme', run_id, status: 'SUCCEEDED', finished_at: START })),
      );
    await fill(world);
    const plain = await world.memory.head(`${RUNS_PREFIX}plain.json`);
    await world.memory.delete(`${RUNS_PREFIX}plain.json`, { ifGeneration: plain!.generation });
    for (const run_id of ['flat', 'plain']) await recorder.apply('acme', run_id, { type: 'delete' });
    await world.compact('acme');
    await world.clock.advance(8 * 86_400_000);
    await recorder.create('acme', { run_id: 'other' });
    await world.compact('acme');
    expect((await world.read('acme')).state.manifest?.tombstones).toEqual([]);
    expect(await world.compactor.runs.read('acme', 'plain')).toBeNull();
    expect((await fill(world)).legacy).toMatchObject({ copied: 0, unchanged: 1, recorded: 0 });
    const rows = [];
    for await (const { run_id } of (await world.read('acme')).runs()) rows.push(run_id);
    expect(rows).toEqual(['other']);
  });

  it('shards divide the work without a gap, in any order, also within one org', async () => {
    const world = await settled({ acme: 300, beta: 5 });
    const shares = [];
    for (const index of [2, 0, 1]) shares.push(await fill(world, { shard: { index, count: 3 } }));
    expect(shares.map(({ complete }) => complete)).toEqual([false, false, true]);
    expect(shares.reduce((sum, { scanned }) => sum + scanned, 0)).toBe(305);
    for (const { indexed } of shares) expect(indexed).toBeGreaterThan(50);
    await expectNoDrift(world, ['acme', 'beta']);
  });

  it('shards at the same time share one plan, and one manifest', async () => {
    const world = await settled({ acme: 300 });
    const shares = await Promise.all(
      [0, 1, 2].map((index) =>
        fill(world, { shard: { index, count: 3 } }, onStore(world, world.memory, 100 + index)),
      ),
    );
    expect(shares.reduce((sum, { indexed }) => sum + indexed, 0)).toBe(300);
    await expectNoDrift(world, ['acme']);
  });

  it('stopped at any request it goes on where it was: nothing is lost, nothing is done twice but the last unit', async () => {
    for (let stopAfter = 20; stopAfter < 900; stopAfter += 97) {
      const world = await settled({ acme: 200, beta: 2 });
      let left = stopAfter;
      const dying = intercept(world.memory, async (_, go) => {
        if (left-- <= 0) throw new Error('killed');
        return go();
      });
      const killed = { ...onStore(world, dying, 5), runs: world.compactor.runs };
      await fill(world, {}, killed).catch((error) => expect(error.message).toBe('killed'));
      const done = await fill(world);
      expect(done.complete).toBe(true);
      expect(done.scanned).toBe(202);
      await expectNoDrift(world, ['acme', 'beta']);
      const { state } = await world.read('acme');
      expect(state.manifest?.rows).toBe(200);
    }
  });

  it('writers and a compactor go on meanwhile: nothing that they do is lost or turned back', async () => {
    const world = await settled({ acme: 300 });
    const { recorder } = world.session;
    let writes = 0;
    // At every read of a canonical run by the backfill, a writer changes another one, and sometimes a fold comes by.
    const busy = intercept(world.memory, async (call, go) => {
      const answer = await go();
      if (call.operation !== 'list' || writes > 40) return answer;
      const n = writes++;
      await recorder.create('acme', { run_id: `new-${n}`, outputs: [dataset('fresh')] });
      const runId = `r${String((n * 37) % 300).padStart(5, '0')}`;
      const stored = await world.compactor.runs.read('acme', runId);
      if (stored?.run.status === 'FAILED') await recorder.apply('acme', runId, { type: 'retry', attempt: 1 });
      if (stored?.run.status === 'SUCCEEDED') await recorder.apply('acme', runId, { type: 'delete' });
      if (n % 5 === 0) await world.compact('acme');
      return answer;
    });
    const done = await fill(world, {}, onStore(world, busy, 9));
    expect(done.failed).toEqual([]);
    expect(writes).toBeGreaterThan(20);
    await expectNoDrift(world, ['acme']);
    await world.compact('acme');
    await expectNoDrift(world, ['acme']);
    const drift = await drifting(world, reconcile(world.compactor, recorder, { dryRun: true }));
    expect(drift).toMatchObject({ drift: [], complete: true });
  });

  it('records that grew old before they met the head are read again', async () => {
    const world = await settled({ acme: 20 });
    const { recorder } = world.session;
    let slept = false;
    const sleepy = intercept(world.memory, async (call, go) => {
      // The process is stopped for an hour between reading the runs and looking at the manifest.
      if (!slept && call.operation === 'get' && call.key === manifestKey('acme') && reads > 10) {
        slept = true;
        await recorder.apply('acme', 'r00009', { type: 'retry', attempt: 1 });
        await world.clock.advance(3_600_000);
      }
      return go();
    });
    let reads = 0;
    const runs = {
      ...world.compactor.runs,
      url: 'x',
      read: (...call: Parameters<typeof world.compactor.runs.read>) => {
        reads++;
        return world.compactor.runs.read(...call);
      },
    } as typeof world.compactor.runs;
    Object.setPrototypeOf(runs, Object.getPrototypeOf(world.compactor.runs));
    await fill(world, {}, { ...onStore(world, sleepy, 3), runs });
    expect(slept).toBe(true);
    expect(reads).toBeGreaterThanOrEqual(40);
    await expectNoDrift(world, ['acme']);
  });

  it('keeps its rate, and tells how far it is and how long it will take', async () => {
    const world = await settled({ acme: 300 });
    const seen: { phase: string; done: number; total: number | null; etaMs: number | null }[] = [];
    const began = world.clock.monotonic();
    const filling = fill(world, { ratePerSecond: 100, onProgress: (progress) => seen.push(progress) });
    let ended = false;
    filling.finally(() => {
      ended = true;
    });
    while (!ended) await world.clock.advance(100);
    await filling;
    const seconds = (world.clock.monotonic() - began) / 1000;
    expect(seconds).toBeGreaterThan(2);
    expect(seconds).toBeLessThan(5);
    expect(seen.at(-1)).toMatchObject({ phase: 'indexing', done: 300, total: 300, etaMs: 0 });
  });

  it('only the orgs that were named, with a job of their own', async () => {
    const world = await settled({ acme: 5, beta: 5 });
    expect(await fill(world, { orgs: ['beta'] })).toMatchObject(counts(5, 5, 0));
    expect((await world.read('acme')).state.manifest).toBeNull();
    expect(await fill(world)).toMatchObject(counts(10, 5, 5));
    const jobs = (await world.memory.list({ prefix: JOBS_PREFIX })).items.map(({ key }) => key);
    expect(jobs.filter((key) => key.endsWith('plan.json'))).toHaveLength(2);
    await expectLaw2(world, await world.read('acme'));
  });
});

async function drifting<T>(world: World, work: Promise<T>): Promise<T> {
  let ended = false;
  const end = () => {
    ended = true;
  };
  work.then(end, end);
  while (!ended) await world.clock.advance(200);
  return work;
}
