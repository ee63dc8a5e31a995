import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { compactOrg } from '../compactor/compact.ts';
import { compactPass } from '../compactor/pass.ts';
import { repairOrg } from '../compactor/repair.ts';
import { upgradeOrg } from '../compactor/upgrade.ts';
import { verifyOrg } from '../compactor/verify.ts';
import type { FormatError } from '../src/core/errors.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../src/manifest/manifest.ts';
import { readManifest } from '../src/manifest/manifest-store.ts';
import { PROJECTION_VERSION, type Projection } from '../src/runs/projection.ts';
import { openFileStore } from '../src/store/file.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { ObjectStore } from '../src/store/object-store.ts';
import { asToday } from './snapshot/tables.ts';
import { FakeClock } from './support/fake-clock.ts';
import { GOLDEN_LIMITS, goldenStores, makeStore, unpackStore } from './support/golden-store.ts';
import { recording, type StoreCall } from './support/intercept.ts';
import { dataset, ORG } from './support/runs.ts';
import { fakeWorld, worldOn } from './support/world.ts';

const dirs: string[] = [];
afterAll(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});
function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'runfold-golden-'));
  dirs.push(dir);
  return dir;
}

const { MAKE_GOLDEN_STORE: made } = process.env;
if (made !== undefined) it(`makes ${made}`, () => makeStore(made, tempDir()));

/** A golden store as if it had been left a minute ago. */
async function opened(name: string) {
  const dir = tempDir();
  const golden = unpackStore(name, dir);
  const clock = new FakeClock(golden.at + 60_000);
  const store = await openFileStore(dir, { clock, fsync: false });
  const world = await worldOn(store, { clock, limits: GOLDEN_LIMITS });
  const rowsOf = async (orgId: string) => {
    const rows: Projection[] = [];
    for await (const row of (await world.read(orgId)).runs()) rows.push(row);
    return rows.sort((a, b) => (a.run_id < b.run_id ? -1 : 1));
  };
  const expected = (orgId: string) => golden.rows[orgId]!.map(asToday);
  return { clock, store, world, rowsOf, expected, manifest: () => manifestOf(store) };
}

async function manifestOf(store: ObjectStore, orgId = ORG): Promise<Manifest> {
  const read = await readManifest(store, orgId);
  if (read === 'unchanged' || read.manifest === null) throw new Error(`${orgId} has no manifest`);
  return read.manifest;
}

describe.each(goldenStores())('%s', (name) => {
  it('reads as it did, at every version that it kept', async () => {
    const { store, world, rowsOf, expected, manifest } = await opened(name);
    for (const orgId of ['acme', 'globex']) expect(await rowsOf(orgId)).toEqual(expected(orgId));
    const { version, parts } = await manifest();
    expect(parts.filter(({ level }) => level > 0).length).toBeGreaterThan(1);
    for (let older = 1; older < version; older++) {
      const snapshot = await world.session.catalog.open('acme', { version: older });
      let runs = 0;
      for await (const row of snapshot.runs()) runs += row.org_id === 'acme' ? 1 : 0;
      expect(runs).toBeGreaterThan(older * 8);
    }
    for (const orgId of ['acme', 'globex'])
      expect((await verifyOrg(world.compactor, orgId)).problems).toEqual([]);
    await store.close();
  });

  it('is folded and written to by today, and upgraded part by part', async () => {
    const { clock, store, world, rowsOf, expected, manifest } = await opened(name);
    const { compactor, session } = world;
    const before = await manifest();
    expect((await compactPass(compactor)).map(({ outcome }) => outcome)).toEqual(['committed', 'committed']);
    for (const orgId of ['acme', 'globex']) expect(await rowsOf(orgId)).toEqual(expected(orgId));
    await session.recorder.create('acme', { run_id: 'today', outputs: [dataset('t1', 'lake')] });

    const old = (await manifest()).parts.filter(({ projection = 1 }) => projection < PROJECTION_VERSION);
    const dry = await upgradeOrg(compactor, 'acme', { dryRun: true });
    expect(dry.rewritten.sort()).toEqual(old.map((part) => part.name).sort());
    expect((await manifest()).version).toBe(before.version + 1);
    const done = await upgradeOrg(compactor, 'acme');
    expect(done).toEqual({ ...dry, version: before.version + 1 + done.commits });
    const after = await manifest();
    expect(after.parts.every(({ projection }) => projection === PROJECTION_VERSION)).toBe(true);
    expect(after.parts.filter(({ name: part }) => done.rewritten.includes(part))).toEqual([]);
    expect(await upgradeOrg(compactor, 'acme')).toMatchObject({ rewritten: [], commits: 0 });

    const rows = await rowsOf('acme');
    expect(rows.filter(({ run_id }) => run_id !== 'today')).toEqual(expected('acme'));
    expect(rows).toHaveLength(expected('acme').length + 1);
    expect((await verifyOrg(compactor, 'acme')).problems).toEqual([]);
    // Once what was superseded is collected, nothing is missing.
    await clock.advance(8 * 86_400_000);
    await compactPass(compactor, { orgs: 'all' });
    expect((await verifyOrg(compactor, 'acme')).problems).toEqual([]);
    await store.close();
  });
});

it('there is a golden store of every version of the projection', () => {
  const versions = goldenStores().map((name) => Number(/^store-projection-([0-9]+)$/.exec(name)?.[1]));
  expect(versions).toEqual(Array.from({ length: PROJECTION_VERSION }, (_, i) => i + 1));
});

/** A manifest of today, changed. */
async function manifestWith(change: Partial<Manifest>) {
  const world = await fakeWorld();
  await world.session.recorder.create(ORG, { run_id: 'a', outputs: [dataset('t')] });
  await world.compact();
  const key = manifestKey(ORG);
  const manifest = { ...(await manifestOf(world.store)), ...change };
  await world.memory.put(key, encodeManifest(manifest));
  return { world, manifest };
}

const refusal = (work: () => unknown): FormatError => {
  try {
    work();
  } catch (error) {
    return error as FormatError;
  }
  throw new Error('It was not refused.');
};

describe('a feature that this runfold does not know', () => {
  const decode = (manifest: object) =>
    decodeManifest('k', ORG, new TextEncoder().encode(JSON.stringify(manifest)));

  it('of readers: refused before anything is made of it, with the version that reads it', async () => {
    const { world, manifest } = await manifestWith({
      reader_features: ['bloom', 'zip'],
      feature_versions: { bloom: '0.7.0' },
    });
    const error = refusal(() => decode({ ...manifest, parts: 'laid out in another way' }));
    expect(error).toMatchObject({ code: 'UNSUPPORTED_FORMAT', details: { features: ['bloom', 'zip'] } });
    expect(error.message).toBe(
      'k: the manifest needs the reader features bloom (since runfold 0.7.0), zip; this runfold cannot read it',
    );
    await expect(world.read()).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    await expect(world.compact()).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
  });

  it('what the bucket says of versions is not taken at its word', async () => {
    const { manifest } = await manifestWith({});
    for (const feature_versions of [null, 7, [], { zip: 8 }, { zip: '1\n2' }, { zip: 'x'.repeat(40) }]) {
      const error = refusal(() => decode({ ...manifest, reader_features: ['zip'], feature_versions }));
      expect(error.message).toBe('k: the manifest needs the reader feature zip; this runfold cannot read it');
    }
    const odd = refusal(() => decode({ ...manifest, reader_features: ['constructor'] }));
    expect(odd.message).toContain('the reader feature constructor; this');
  });

  it('of writers: stops compactors, policies and repair; readers and writers go on', async () => {
    const { world } = await manifestWith({
      writer_features: ['projection-2', 'projection-9'],
      feature_versions: { 'projection-9': '0.9.0' },
    });
    await world.session.recorder.create(ORG, { run_id: 'b' });
    const calls: StoreCall[] = [];
    const context = { ...world.compactor, store: recording(world.memory, calls) };
    const [result] = await world.clock.run(compactPass(context, { orgs: 'all' }));
    expect(result).toMatchObject({ outcome: 'failed', code: 'UNSUPPORTED_FORMAT' });
    expect(result).toMatchObject({
      message: expect.stringContaining(
        'the writer feature projection-9 (since runfold 0.9.0); this runfold can read it, but must not replace it',
      ),
    });
    const policy = { retain_ms: 1, time_travel_ms: 0 };
    const refused = { code: 'UNSUPPORTED_FORMAT' };
    await expect(world.clock.run(compactOrg(context, ORG, { policy }))).rejects.toMatchObject(refused);
    await expect(world.clock.run(repairOrg(context, ORG))).rejects.toMatchObject(refused);
    expect(calls.filter(({ operation }) => operation === 'put' || operation === 'delete')).toEqual([]);
    expect((await world.read()).active().map(({ run_id }) => run_id)).toEqual(['b', 'a']);
    await world.session.recorder.apply(ORG, 'b', { type: 'started', attempt: 1 });
    expect((await world.read()).active()[0]).toMatchObject({ run_id: 'b', status: 'RUNNING' });
  });
});

it('optional fields of a later version are kept by a fold, everywhere in the manifest', async () => {
  const world = await fakeWorld({ limits: { headRowsMax: 6, sealAgeMs: 0 } });
  for (let i = 0; i < 20; i++) {
    await world.session.recorder.create(ORG, { run_id: `r${i}` });
    await world.session.recorder.apply(ORG, `r${i}`, { type: 'cancel' });
    await world.clock.advance(10);
  }
  await world.session.recorder.apply(ORG, 'r19', { type: 'delete' });
  await world.compact();
  const later = { later: { x: [1] } };
  const now = await manifestOf(world.store);
  expect(now.parts.map(({ level }) => level)).toEqual([0, 1]);
  const changed = {
    ...now,
    ...later,
    parts: now.parts.map((part) => ({ ...part, ...later })),
    policy: { ...now.policy, ...later },
    tombstones: now.tombstones.map((one) => ({ ...one, ...later })),
    garbage: now.garbage.map((one) => ({ ...one, ...later })),
    totals: { ...now.totals, ...later },
  };
  await world.memory.put(manifestKey(ORG), encodeManifest(changed));
  await world.session.recorder.create(ORG, { run_id: 'new' });
  await world.compact();
  const next = await manifestOf(world.store);
  expect(next.version).toBe(now.version + 1);
  expect(next).toMatchObject({ ...later, policy: later, tombstones: [later] });
  // The head is a new part; the history part is the one that was there.
  expect(next.parts.map((part) => 'later' in part)).toEqual([false, true]);
  expect(next.garbage.filter((one) => 'later' in one)).toHaveLength(now.garbage.length);
});

/** The same code with other features, as another version of runfold in the fleet: nothing of it is shared with ours. */
async function fleetMember(dir: string, clock: FakeClock, features: string[]) {
  vi.resetModules();
  vi.doMock('../src/manifest/features.ts', () => ({
    READER_FEATURES: [],
    WRITER_FEATURES: features,
    FEATURE_VERSIONS: Object.fromEntries(features.map((feature) => [feature, '0.9.0'])),
  }));
  const { compactOrg: compact } = await import('../compactor/compact.ts');
  const { openCompactor } = await import('../compactor/open.ts');
  const { openSession } = await import('../src/session.ts');
  const files = await import('../src/store/file.ts');
  const store = await files.openFileStore(dir, { clock, fsync: false });
  const context = await openCompactor(openSession(store, { clock }));
  return () => compact(context, ORG);
}

describe('a rolling upgrade', () => {
  afterEach(() => {
    vi.doUnmock('../src/manifest/features.ts');
    vi.resetModules();
  });

  it('in a mixed fleet the older compactor stops once the newer one has folded; nobody else notices', async () => {
    const dir = tempDir();
    const clock = new FakeClock();
    const world = await worldOn(await openFileStore(dir, { clock, fsync: false }), { clock });
    const yesterday = await fleetMember(dir, clock, []);
    const tomorrow = await fleetMember(dir, clock, ['projection-2', 'projection-3']);
    const { recorder } = world.session;
    const shown = async () =>
      (await world.read())
        .active()
        .map(({ run_id }) => run_id)
        .sort();

    await recorder.create(ORG, { run_id: 'a' });
    expect(await yesterday()).toMatchObject({ outcome: 'committed', version: 1 });
    expect((await manifestOf(world.store)).writer_features).toEqual([]);
    await recorder.create(ORG, { run_id: 'b' });
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2 });
    expect(await manifestOf(world.store)).toMatchObject({
      writer_features: ['projection-2'],
      feature_versions: { 'projection-2': '0.1.0' },
    });

    await recorder.create(ORG, { run_id: 'c' });
    await expect(yesterday()).rejects.toMatchObject({
      code: 'UNSUPPORTED_FORMAT',
      message: expect.stringContaining('projection-2 (since runfold 0.1.0)'),
    });
    expect(await shown()).toEqual(['a', 'b', 'c']);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 3 });

    await recorder.create(ORG, { run_id: 'd' });
    expect(await tomorrow()).toMatchObject({ outcome: 'committed', version: 4 });
    await recorder.create(ORG, { run_id: 'e' });
    await expect(world.compact()).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    await expect(yesterday()).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    expect(await shown()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(await tomorrow()).toMatchObject({ outcome: 'committed', version: 5, records: 2 });
    expect(await shown()).toEqual(['a', 'b', 'c', 'd', 'e']);
  });
});
