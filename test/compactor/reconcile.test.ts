import { describe, expect, it } from 'vitest';
import { reconcile } from '../../compactor/reconcile.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import type { Run } from '../../src/runs/run.ts';
import { manifestKey, runKey } from '../../src/store/keys.ts';
import { dataset, ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';

type World = Awaited<ReturnType<typeof fakeWorld>>;
type Options = Parameters<typeof reconcile>[2];

/** An org with sealed history, a head and a tail, all as it should be. */
async function indexed(runs = 160): Promise<World> {
  const world = await fakeWorld({ limits: { headRowsMax: 20, historyGroupRows: 30, sealAgeMs: 0 } });
  const { recorder } = world.session;
  for (let i = 0; i < runs; i++) {
    const run_id = `r${String(i).padStart(4, '0')}`;
    await recorder.create(ORG, { run_id, outputs: [dataset(`t${i % 3}`)] });
    await world.clock.advance(10);
    if (i % 40 === 39) continue;
    await recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
    await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
    if (i % 50 === 49) await world.compact();
  }
  return world;
}

const run = (world: World, options: Options = {}) =>
  world.clock.run(reconcile(world.compactor, world.session.recorder, options));

async function change(world: World, runId: string, changes: (run: Run) => Partial<Run>): Promise<void> {
  const { run: found, token } = (await world.compactor.runs.read(ORG, runId))!;
  expect((await world.compactor.runs.replace({ ...found, ...changes(found) }, token)).outcome).toBe(
    'written',
  );
}

/** Nothing differs any more, by reconcile's measure and by verify's; also not after a fold. */
async function expectRight(world: World): Promise<void> {
  expect(await run(world, { dryRun: true })).toMatchObject({ drift: [], failed: [] });
  expect((await world.clock.run(verifyOrg(world.compactor, ORG))).problems).toEqual([]);
  await world.compact();
  expect((await world.clock.run(verifyOrg(world.compactor, ORG))).problems).toEqual([]);
}

describe('reconcile', () => {
  it('finds nothing where all is right, and says that the pass is complete', async () => {
    const world = await indexed();
    const manifest = (await world.read()).state.manifest;
    expect(manifest?.parts.some(({ level }) => level > 0)).toBe(true);
    expect(await run(world)).toMatchObject({
      scanned: 160,
      orgs: 1,
      drift: [],
      failed: [],
      pass: 1,
      complete: true,
    });
    expect(await run(world)).toMatchObject({ pass: 2 });
    await expectRight(world);
  });

  it('repairs drift in both directions, each kind', async () => {
    const world = await indexed();
    const { runs } = world.compactor;
    const bump = ({ revision }: Run) => ({
      revision: revision + 1,
      indexed_revision: revision + 1,
      kind: 'changed',
    });
    // Written past the recorder, by old software or a restore from a backup.
    await runs.create({ ...(await runs.read(ORG, 'r0001'))!.run, run_id: 'never-indexed' });
    await change(world, 'r0002', bump);
    await change(world, 'r0003', () => ({ kind: 'same revision' }));
    await change(world, 'r0004', () => ({
      revision: 1,
      indexed_revision: 1,
      status: 'QUEUED',
      finished_at: null,
    }));
    await runs.remove(ORG, 'r0005', (await runs.read(ORG, 'r0005'))!.token);
    await runs.remove(ORG, 'r0159', (await runs.read(ORG, 'r0159'))!.token);
    await change(world, 'r0006', (old) => ({ ...bump(old), deleted_at: world.clock.now() }));
    const found = await run(world, { dryRun: true });
    const kinds = Object.fromEntries(found.drift.map(({ run_id, kind }) => [run_id, kind]));
    expect(kinds).toEqual({
      'never-indexed': 'missing',
      r0002: 'behind',
      r0003: 'different',
      r0004: 'ahead',
      r0005: 'stray',
      r0006: 'undeleted',
      r0159: 'stray',
    });
    expect(found.drift.every(({ repaired }) => !repaired)).toBe(true);
    const repaired = await run(world);
    expect(repaired.drift.map(({ run_id, repaired }) => [run_id, repaired]).sort()).toEqual(
      Object.keys(kinds)
        .sort()
        .map((id) => [id, true]),
    );
    await expectRight(world);
    const shown = new Map((await collect(world)).map((row) => [row.run_id, row]));
    expect(shown.get('r0003')?.kind).toBe('same revision');
    expect(shown.get('r0004')?.status).toBe('QUEUED');
    expect(shown.has('r0005') || shown.has('r0006') || shown.has('r0159')).toBe(false);
    // Nobody creates the id of a removed row while its tombstone stands.
    const again = world.session.recorder.create(ORG, { run_id: 'r0005' });
    await expect(again).rejects.toMatchObject({ code: 'RUN_ALREADY_EXISTS' });
  });

  it('a run over which a tombstone lies comes back', async () => {
    const world = await indexed(20);
    const before = (await world.compactor.runs.read(ORG, 'r0001'))!;
    await world.session.recorder.apply(ORG, 'r0001', { type: 'delete' });
    const { token } = (await world.compactor.runs.read(ORG, 'r0001'))!;
    await world.compactor.runs.replace(before.run, token);
    expect(await run(world)).toMatchObject({
      drift: [{ run_id: 'r0001', kind: 'forgotten', repaired: true }],
    });
    await expectRight(world);
  });

  it('work in progress is no drift', async () => {
    const world = await indexed(60);
    const { recorder } = world.session;
    let n = 0;
    const busy = setIntervalOf(async () => {
      await recorder.create(ORG, { run_id: `busy-${n}` });
      await recorder.apply(ORG, `busy-${n}`, { type: 'started', attempt: 1 });
      await recorder.apply(ORG, 'r0039', { type: 'started', attempt: 1 });
      await recorder.apply(ORG, 'r0039', { type: 'heartbeat', attempt: 1 });
      n++;
    });
    const found = await run(world, { windowRuns: 7 });
    await busy.stop();
    expect(n).toBeGreaterThan(3);
    expect(found.drift).toEqual([]);
  });

  it('goes on at its cursor: a pass ends in as many calls as it takes, and none of them looks twice', async () => {
    const world = await indexed(100);
    await world.session.recorder.create('beta', { run_id: 'x' });
    await world.compactor.runs.remove(ORG, 'r0070', (await world.compactor.runs.read(ORG, 'r0070'))!.token);
    const calls = [];
    do calls.push(await run(world, { windowRuns: 30, budgetMs: -1 }));
    while (!calls.at(-1)!.complete && calls.length < 20);
    expect(calls.length).toBe(5);
    expect(calls.reduce((sum, { scanned }) => sum + scanned, 0)).toBe(100);
    expect(calls.flatMap(({ drift }) => drift)).toMatchObject([
      { run_id: 'r0070', kind: 'stray', repaired: true },
    ]);
    expect(calls.at(-1)).toMatchObject({ pass: 1 });
  });

  it('a sample is another one in every pass, and finds what is in it from both sides', async () => {
    const world = await indexed(120);
    await world.compactor.runs.remove(ORG, 'r0005', (await world.compactor.runs.read(ORG, 'r0005'))!.token);
    let looked = 0;
    let found = 0;
    for (let pass = 0; pass < 25 && found === 0; pass++) {
      const done = await run(world, { sample: 0.2 });
      expect(done.scanned).toBeLessThan(60);
      looked += done.scanned;
      found += done.drift.length;
    }
    expect(found).toBe(1);
    expect(looked).toBeGreaterThan(0);
  });

  it('the wrong run store does not empty an index', async () => {
    const world = await indexed(130);
    const page = await world.memory.list({ prefix: runKey(ORG, 'r').replace('r.json', '') });
    const bodies = await Promise.all(page.items.map(({ key }) => world.memory.get(key)));
    for (const { key, generation } of page.items)
      await world.memory.delete(key, { ifGeneration: generation });
    for (const dryRun of [true, false]) {
      const refused = await run(world, { dryRun });
      expect(refused.drift).toEqual([]);
      expect(refused).toMatchObject({
        complete: true,
        orgs_failed: [{ org_id: ORG, outcome: 'refused', hint: expect.stringContaining('--runs') }],
      });
      expect(refused.orgs_failed[0]!.reason).toContain(world.compactor.runs.url);
    }
    // Some of the runs are there: the share of rows that would be removed decides, in a dry run as well.
    const [one] = bodies;
    if (one?.outcome === 'found') await world.memory.put(one.meta.key, one.body);
    for (const dryRun of [true, false]) {
      const refused = await run(world, { dryRun });
      expect(refused.drift.filter(({ kind }) => kind === 'stray')).toHaveLength(129);
      expect(refused.drift.some(({ repaired }) => repaired)).toBe(false);
      expect(refused).toMatchObject({ orgs_failed: [{ outcome: 'refused' }] });
    }
    for (const body of bodies.slice(1))
      if (body.outcome === 'found') await world.memory.put(body.meta.key, body.body);
    await expectRight(world);
  });

  it('an org of a few runs whose canonical runs are all gone is refused, and done by force', async () => {
    const world = await fakeWorld();
    await world.session.recorder.create(ORG, { run_id: 'only' });
    await world.compactor.runs.remove(ORG, 'only', (await world.compactor.runs.read(ORG, 'only'))!.token);
    expect(await run(world)).toMatchObject({ drift: [], orgs_failed: [{ outcome: 'refused' }] });
    expect(await collect(world)).toHaveLength(1);
    expect(await run(world, { force: true })).toMatchObject({ drift: [{ repaired: true }], orgs_failed: [] });
    expect(await collect(world)).toEqual([]);
  });

  it('one org that cannot be read stops no other, and the cursor passes it', async () => {
    const world = await fakeWorld();
    const orgs = ['aa', 'bb', 'cc'];
    for (const org of orgs) {
      await world.session.recorder.create(org, { run_id: 'x' });
      await world.compact(org);
      await world.compactor.runs.create({
        ...(await world.compactor.runs.read(org, 'x'))!.run,
        run_id: 'not-indexed',
      });
    }
    await world.memory.put(manifestKey('bb'), new TextEncoder().encode('{'));
    const calls = [await run(world, { budgetMs: -1 })];
    while (!calls.at(-1)!.complete && calls.length < 9) calls.push(await run(world, { budgetMs: -1 }));
    expect(calls).toHaveLength(2);
    expect(calls.flatMap(({ orgs_failed }) => orgs_failed)).toMatchObject([
      { org_id: 'bb', outcome: 'failed', code: 'CORRUPT' },
    ]);
    expect(calls.flatMap(({ drift }) => drift)).toMatchObject([
      { org_id: 'aa', repaired: true },
      { org_id: 'cc', repaired: true },
    ]);
  });

  it('unreadable runs are listed and their rows stay; shards divide the orgs', async () => {
    const world = await indexed(20);
    await world.session.recorder.create('beta', { run_id: 'x' });
    await world.memory.put(runKey(ORG, 'r0003'), new TextEncoder().encode('{'));
    const shares = [];
    for (const index of [0, 1]) shares.push(await run(world, { shard: { index, count: 2 } }));
    expect(shares.reduce((sum, { orgs }) => sum + orgs, 0)).toBe(2);
    expect(shares.flatMap(({ failed }) => failed)).toMatchObject([{ key: runKey(ORG, 'r0003') }]);
    expect(shares.flatMap(({ drift }) => drift)).toEqual([]);
    expect((await collect(world)).some(({ run_id }) => run_id === 'r0003')).toBe(true);
  });
});

async function collect(world: World) {
  const rows = [];
  for await (const row of (await world.read()).runs()) rows.push(row);
  return rows;
}

/** Does something again and again, beside whatever else goes on. */
function setIntervalOf(work: () => Promise<void>) {
  let stopped = false;
  const loop = (async () => {
    while (!stopped) {
      await work();
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
    },
  };
}
