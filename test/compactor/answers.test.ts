import { describe, expect, it } from 'vitest';
import { answersOf } from '../../compactor/answers.ts';
import { compactOrg } from '../../compactor/compact.ts';
import { repairOrg } from '../../compactor/repair.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { runsWithHistory } from '../../src/catalog/history.ts';
import { withTombstones } from '../../src/catalog/load.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import type { Dataset } from '../../src/runs/run.ts';
import { RowsBuilder } from '../../src/snapshot/rows.ts';
import { entryKey, partKey } from '../../src/store/keys.ts';
import { intercept, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import { compactorOn, currentManifest, type FakeWorld } from './support.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const LIMITS = { headRowsMax: 8, historyGroupRows: 5, mergeFanIn: 3 };

const at = (name: string): Dataset => ({ namespace: 'lake', name });

/** A run that other producers tell of: it ended `ago` before the test's present. */
async function told(
  world: FakeWorld,
  runId: string,
  ago: number,
  phase: 'success' | 'failure',
  outputs: readonly string[],
  inputs: readonly string[] = [],
): Promise<void> {
  const observation = {
    at: world.clock.now() - ago,
    phase,
    inputs: inputs.map(at),
    outputs: outputs.map(at),
  };
  await world.session.recorder.observe(ORG, runId, [observation]);
}

/** Two runs of `rare`, which reads `source`: the older one is in history. */
async function sealedWorld(): Promise<FakeWorld> {
  const world = await fakeWorld({ limits: LIMITS });
  await told(world, 'old', 90 * DAY, 'success', ['rare'], ['source']);
  await told(world, 'new', 80 * DAY, 'success', ['rare'], ['source']);
  for (let i = 0; i < 60; i++) await told(world, `n${i}`, 60 * DAY - i * HOUR, 'success', [`t${i % 4}`]);
  await settled(world);
  expect(await inHead(world, 'old')).toBe(false);
  expect(await inHead(world, 'new')).toBe(true);
  return world;
}

async function settled(world: FakeWorld): Promise<void> {
  await world.clock.advance(2 * world.compactor.limits.sealAgeMs);
  await world.compact();
}

async function inHead(world: FakeWorld, runId: string): Promise<boolean> {
  const { state } = await world.read();
  return state.base.indexOf(runId) >= 0;
}

async function rare(world: FakeWorld) {
  const catalog = await world.read();
  const table = catalog.tables().find(({ name }) => name === 'rare');
  const { edges } = catalog.lineage({ table: at('rare') });
  return {
    latest: table?.latest_run.run_id,
    status: table?.latest_run.status,
    success: table?.latest_success?.run_id,
    edges: edges.map(({ run_id }) => run_id),
  };
}

/** Answers of the head, and of all rows that a reader can come by, as of the version. */
async function bothAnswers(world: FakeWorld) {
  const { base, manifest } = (await world.read()).state;
  const version = new CatalogState(ORG, manifest, base, withTombstones(manifest));
  const all = new RowsBuilder(ORG);
  const context = { store: world.memory, limits: world.compactor.limits };
  for await (const row of runsWithHistory(context, version, {})) all.add(row);
  const named = (rows: Parameters<typeof answersOf>[0]) =>
    [...answersOf(rows)].map(([key, { ref }]) => `${key}: ${ref.rows.runId(ref.i)}`).sort();
  return { head: named(base), all: named(all.build()) };
}

async function expectAnswers(world: FakeWorld): Promise<void> {
  const { head, all } = await bothAnswers(world);
  expect(head).toEqual(all);
}

/** What `repair` makes of the canonical runs says the same. */
async function expectAsRepaired(world: FakeWorld): Promise<void> {
  const views = async () => {
    const catalog = await world.read();
    return [catalog.tables(), catalog.tables().map((table) => catalog.lineage({ table }))];
  };
  const before = await views();
  await repairOrg(world.compactor, ORG);
  expect(before).toEqual(await views());
}

function readsOfHistory(world: FakeWorld, calls: StoreCall[]) {
  return intercept(world.memory, (call, go) => {
    if (call.operation === 'get' && call.get?.range !== undefined) calls.push(call);
    return go();
  });
}

describe('an answer that the head loses', () => {
  it('comes back from history when its run is deleted', async () => {
    const world = await sealedWorld();
    await world.session.recorder.apply(ORG, 'new', { type: 'delete' });
    expect(await rare(world)).toEqual({
      latest: undefined,
      status: undefined,
      success: undefined,
      edges: [],
    });
    const calls: StoreCall[] = [];
    await compactOrg(compactorOn(world, readsOfHistory(world, calls)), ORG);
    expect(await rare(world)).toEqual({ latest: 'old', status: 'SUCCEEDED', success: 'old', edges: ['old'] });
    const { parts } = await currentManifest(world);
    expect(calls.length).toBeGreaterThan(0);
    expect(calls.length).toBeLessThanOrEqual(parts.filter(({ level }) => level > 0).length);
    expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
    await expectAsRepaired(world);
  });

  it('comes back when a late event says that the latest success failed, and outlives retention', async () => {
    const world = await sealedWorld();
    await told(world, 'new', 79 * DAY, 'failure', ['rare']);
    await world.compact();
    expect(await rare(world)).toEqual({ latest: 'new', status: 'FAILED', success: 'old', edges: ['new'] });
    await expectAnswers(world);
    await compactOrg(world.compactor, ORG, { policy: { retain_ms: 30 * DAY, time_travel_ms: 0 } });
    expect(await rare(world)).toEqual({ latest: 'old', status: 'SUCCEEDED', success: 'old', edges: ['old'] });
    await expectAnswers(world);
    expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
    await expectAsRepaired(world);
  });

  it('comes back before retention decides, where both happen in one fold', async () => {
    const world = await sealedWorld();
    await told(world, 'new', 79 * DAY, 'failure', ['rare']);
    await compactOrg(world.compactor, ORG, { policy: { retain_ms: 30 * DAY, time_travel_ms: 0 } });
    expect(await rare(world)).toMatchObject({ latest: 'old', success: 'old' });
    await expectAsRepaired(world);
  });

  it('comes back when its run no longer wrote the table or read the other: a create took it over', async () => {
    const world = await sealedWorld();
    const { base } = (await world.read()).state;
    const row = base.get(base.indexOf('new'));
    const payload = { ...row.payload, target_namespace: null, target_table: null };
    const other = { ...row, revision: row.revision + 1, payload, inputs: [], outputs: [at('other')] };
    const body = encodeEntry({ org_id: ORG, records: [{ kind: 'put', row: other }] });
    await world.memory.put(entryKey(ORG, uuidv7(world.clock.now(), seededRandom(9))), body, {});
    await world.compact();
    expect(await rare(world)).toEqual({ latest: 'old', status: 'SUCCEEDED', success: 'old', edges: ['old'] });
    await expectAnswers(world);
  });

  it('is the newest revision of a run that history has twice, and none that it was once', async () => {
    const world = await sealedWorld();
    // In history twice: as the success that it was, and as the failure that it became.
    await told(world, 'old', 85 * DAY, 'failure', ['rare']);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 20; i++) await told(world, `k${round}-${i}`, DAY - i, 'success', [`t${i % 4}`]);
      await settled(world);
    }
    expect(await inHead(world, 'old')).toBe(false);
    await world.session.recorder.apply(ORG, 'new', { type: 'delete' });
    await world.compact();
    expect(await rare(world)).toMatchObject({ latest: 'old', status: 'FAILED', success: undefined });
    await expectAsRepaired(world);
  });

  it('costs no other fold a look at history', async () => {
    const world = await sealedWorld();
    const calls: StoreCall[] = [];
    const compactor = compactorOn(world, readsOfHistory(world, calls));
    for (let i = 0; i < 6; i++) {
      await told(world, `m${i}`, DAY, 'success', ['rare'], ['source']);
      await world.session.recorder.create(ORG, { run_id: `c${i}` });
      await world.session.recorder.apply(ORG, `c${i}`, { type: 'started', attempt: 1 });
      await compactOrg(compactor, ORG);
      await world.session.recorder.apply(ORG, `c${i}`, { type: 'succeeded', attempt: 1 });
      // A late word on a run that history has, and one that is nobody's latest.
      await told(world, 'old', 85 * DAY, 'failure', ['rare']);
      await told(world, 'n2', 55 * DAY, 'failure', ['t2']);
      await compactOrg(compactor, ORG);
    }
    await world.session.recorder.apply(ORG, 'new', { type: 'delete' });
    expect((await compactOrg(compactor, ORG)).outcome).toBe('committed');
    expect(calls).toEqual([]);
    await expectAnswers(world);
  });

  it('stays lost where history cannot be read, which is told, until it can be repaired', async () => {
    const world = await sealedWorld();
    const { parts } = await currentManifest(world);
    const broken = new Set(parts.filter(({ level }) => level > 0).map(({ name }) => partKey(ORG, name)));
    const store = intercept(world.memory, async (call, go) => {
      const answer = await go();
      if (call.operation !== 'get' || !broken.has(call.key)) return answer;
      const got = answer as { outcome: string; body: Uint8Array };
      const body = Uint8Array.from(got.body);
      body[0]! ^= 1;
      body[body.length >> 1]! ^= 1;
      return { ...got, body };
    });
    await world.session.recorder.apply(ORG, 'new', { type: 'delete' });
    const compacted = await compactOrg(compactorOn(world, store), ORG);
    expect(compacted.outcome).toBe('committed');
    expect(compacted.quarantined).toBeGreaterThan(0);
    const { problems } = await verifyOrg(world.compactor, ORG);
    const told = problems.filter(({ law }) => law === 2).map(({ message }) => message);
    expect(told).toEqual(
      expect.arrayContaining([
        'the latest run of lake/rare is old; the head says none',
        'the latest success of lake/rare is old; the head says none',
        'the newest run from lake/source to lake/rare is old; the head says none',
      ]),
    );
    await repairOrg(world.compactor, ORG);
    expect(await rare(world)).toMatchObject({ latest: 'old', success: 'old' });
    expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
  });
});

describe('random histories', () => {
  for (const seed of [1, 2, 3, 4]) {
    it(`answer from the head as from all rows after every fold (seed ${seed})`, async () => {
      const random = seededRandom(seed);
      const world = await fakeWorld({ limits: { ...LIMITS, headRowsMax: 3 + (seed % 4) } });
      const retain = seed % 2 === 0;
      for (let step = 0; step < 20; step++) {
        for (let n = 0; n < 6; n++) await anything(world, random);
        await world.clock.advance(uniform(random) < 0.5 ? HOUR : 60_000);
        const policy = { retain_ms: 40 * DAY, time_travel_ms: 0 };
        await compactOrg(world.compactor, ORG, retain && step === 10 ? { policy } : {});
        await expectAnswers(world);
      }
      const { parts } = await currentManifest(world);
      expect(parts.some(({ level }) => level > 0)).toBe(true);
      expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
      if (!retain) await expectAsRepaired(world);
    });
  }
});

async function anything(world: FakeWorld, random: Random): Promise<void> {
  const pick = (count: number) => Math.floor(uniform(random) * count);
  const runId = `r${pick(60)}`;
  const chance = uniform(random);
  if (chance < 0.15) {
    await world.session.recorder.apply(ORG, runId, { type: 'delete' }).catch(() => undefined);
    return;
  }
  const outputs = Array.from({ length: 1 + pick(2) }, () => `t${pick(7)}`);
  const inputs = Array.from({ length: pick(3) }, () => `s${pick(4)}`);
  const phase = chance < 0.5 ? 'failure' : 'success';
  await told(world, runId, Math.floor(uniform(random) * 80 * DAY), phase, outputs, inputs).catch(
    () => undefined,
  );
}
