import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { collect, inspectGarbage } from '../../compactor/collect.ts';
import { compactOrg } from '../../compactor/compact.ts';
import { find } from '../../compactor/plan.ts';
import { repairOrg } from '../../compactor/repair.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { inspectOrg } from '../../src/cli/inspection.ts';
import { readManifest } from '../../src/manifest/manifest-store.ts';
import { openFileStore } from '../../src/store/file.ts';
import { logPrefix, manifestCopyKey, manifestKey, partKey } from '../../src/store/keys.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { type World, worldOn } from '../support/world.ts';
import { historySchema, inspectSchema, repairSchema } from './contract.ts';
import { onStore, tempDir } from './support.ts';

const DAY = 86_400_000;
const ORG = 'acme';
const { signal } = new AbortController();

/** Four versions twenty minutes apart, all kept; each sealed what the one before had in its head. */
async function kept() {
  const dir = join(tempDir(), 'store');
  const clock = new FakeClock(Date.now() - DAY);
  const store = await openFileStore(dir, { clock, fsync: false });
  const world = await worldOn(store, { clock, limits: { inlineHeadBytesMax: 0, headRowsMax: 2 } });
  const committed: number[] = [];
  for (let n = 1; n <= 4; n++) {
    for (let i = 0; i < 3; i++) await ended(world, `run-${n}-${i}`);
    await clock.advance(120_000);
    const policy = { retain_ms: null, time_travel_ms: 30 * DAY };
    await compactOrg(world.compactor, ORG, n === 1 ? { policy } : {});
    committed.push(clock.now());
    await clock.advance(1_200_000);
  }
  await world.session.recorder.create(ORG, { run_id: 'tail' });
  await clock.advance(1_000);
  return { dir, clock, world, committed, runfold: onStore(`file:${dir}?fsync=off`) };
}

async function ended({ session }: World, run_id: string) {
  await session.recorder.create(ORG, { run_id, outputs: [{ namespace: 'db', name: 't' }] });
  await session.recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
  await session.recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
}

/** As a disk does it, behind the store's back. */
function rot(dir: string, key: string) {
  const path = join(dir, key);
  const bytes = readFileSync(path);
  bytes[200]! ^= 1;
  writeFileSync(path, bytes);
}

async function historyParts({ world }: { world: World }): Promise<string[]> {
  const read = await readManifest(world.store, ORG);
  const parts = read === 'unchanged' ? [] : (read.manifest?.parts ?? []);
  return parts.filter(({ level }) => level > 0).map(({ name }) => partKey(ORG, name));
}

const version = async (world: World, query: { version: number } | { asOf: number }) =>
  world.session.catalog.open(ORG, query);

async function runsOf(world: World, query: { version: number } | { asOf: number }): Promise<number> {
  let runs = 0;
  for await (const _ of (await version(world, query)).runs()) runs++;
  return runs;
}

describe('what rotted is told by inspect, verify and repair in one voice', () => {
  let at: Awaited<ReturnType<typeof kept>>;
  let [entry, part, copy] = ['', '', ''];
  const inspect = (check = false) => inspectOrg(at.world.compactor, ORG, { signal, check });
  const verify = async () => (await at.clock.run(verifyOrg(at.world.compactor, ORG))).problems;
  const keysOf = (found: { key?: string }[]) => found.map(({ key }) => key).sort();

  beforeAll(async () => {
    at = await kept();
    entry = `${logPrefix(ORG)}${readdirSync(join(at.dir, logPrefix(ORG)))
      .sort()
      .at(-1)}`;
    part = (await historyParts(at))[0]!;
    copy = manifestCopyKey(ORG, 2);
    for (const key of [entry, part, copy]) rot(at.dir, key);
  });

  it('plain inspect tells what it read, and that it did not read the rest', async () => {
    const plain = await inspect();
    expect([plain.checked, keysOf(plain.corrupt)]).toEqual([false, [entry]]);
    const checked = await inspect(true);
    expect([checked.checked, keysOf(checked.corrupt)]).toEqual([true, [entry, copy, part].sort()]);
    const told = await at.runfold('inspect', '--org', ORG);
    expect(told.code).toBe(1);
    expect(told.stdout).toContain('History parts and copies of manifests were not read');
    // The key stands once in a line.
    expect(told.stdout.split('\n').filter((line) => line.split(entry).length > 2)).toEqual([]);
  });

  it('once a fold has set it aside, plain inspect shows it too, and verify names each object once', async () => {
    expect(await at.world.compact()).toMatchObject({ quarantined: 1 });
    const { corrupt } = await inspect();
    expect(corrupt).toEqual([{ key: entry, reason: expect.stringMatching(/^in quarantine: its /) }]);
    expect(
      inspectSchema.parse(JSON.parse((await at.runfold('inspect', '--org', ORG, '--json')).stdout)),
    ).toMatchObject({ corrupt });
    const problems = (await verify()).filter(({ law }) => law === 8);
    expect(keysOf(problems)).toEqual([entry, copy, part].sort());
    expect(problems.find(({ key }) => key === entry)?.message).toMatch(/^in quarantine since 20/);
  });

  it('repair says what becomes of it; inspect and verify find nothing then; a repeat releases nothing', async () => {
    const would = await repairOrg(at.world.compactor, ORG, { dryRun: true });
    expect(would).toMatchObject({
      released: [entry],
      discarded: [copy, part].sort(),
      lost_versions: [2, 3, 4, 5],
    });
    const told = await at.runfold('repair', '--org', ORG);
    expect(told.stdout).toContain('verify and inspect pass them over');
    expect(told.stdout).toContain('versions 2, 3, 4, 5: see runfold history');
    const check = await inspect(true);
    expect(check.corrupt).toEqual([]);
    expect(check.manifest?.quarantine).toMatchObject([{ key: entry, released: true }]);
    expect(await verify()).toEqual([]);
    const again = repairSchema.parse(JSON.parse((await at.runfold('repair', '--org', ORG, '--json')).stdout));
    expect(again).toMatchObject({ released: [], discarded: [], lost_versions: [] });
    expect((await inspect(true)).manifest?.quarantine).toMatchObject([{ key: entry, released: true }]);
  });

  it('collect lists what is there, each object once, and why', async () => {
    const { compactor } = at.world;
    const waiting = await inspectGarbage(compactor, await find(compactor, ORG), { signal });
    const keys = waiting.map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).not.toContain(part);
    expect(keys).not.toContain(copy);
    expect(waiting.find(({ key }) => key === entry)?.reason).toContain('made good by the repair');
    await collect(compactor, await find(compactor, ORG), { signal });
    expect(await verify()).toEqual([]);
  });

  it('history marks versions that cannot be read, and who asks for one is told why and which can', async () => {
    const history = historySchema.parse(
      JSON.parse((await at.runfold('history', '--org', ORG, '--json')).stdout),
    );
    expect(history.versions.map(({ version, readable }) => [version, readable])).toEqual([
      [7, 'all'],
      [6, 'all'],
      [5, 'head'],
      [4, 'head'],
      [3, 'head'],
      [1, 'all'],
    ]);
    expect(history.versions[2]!.why).toMatch(/^its history part .* is gone$/);
    expect((await version(at.world, { version: 4 })).tables()).toHaveLength(1);
    const refused = await at.runfold('runs', '--org', ORG, '--version', '4');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /Version 4 of org acme cannot be read any more: its history part \S+ is gone/,
    );
    expect(refused.stderr).toContain('Versions 7 to 6, 1 can be read.');
    expect(refused.stderr).not.toContain('Refresh');
    expect(await runsOf(at.world, { version: 1 })).toBe(3);
  });

  it('by time, a version below a gap is not taken for the one that was discarded', async () => {
    const [first, second, third, fourth] = at.committed as [number, number, number, number];
    // Version 1 was current until the commit of version 2, which its discarded copy alone could place.
    for (const asOf of [first + 1, second + 1])
      await expect(version(at.world, { asOf })).rejects.toMatchObject({ code: 'VERSION_NOT_FOUND' });
    expect((await version(at.world, { asOf: third + 1 })).version).toBe(3);
    expect((await version(at.world, { asOf: fourth + 1 })).version).toBe(4);
  });
});

describe('a lost manifest', () => {
  it('is no version that can be read: what stands for it keeps the chain, and answers nobody', async () => {
    const at = await kept();
    rot(at.dir, manifestKey(ORG));
    // Others are not stopped; who runs the pass is told what to do.
    const pass = await at.runfold('compact', '--all');
    expect(pass.stderr).toContain(
      `(CORRUPT); run runfold verify --org ${ORG}, and runfold repair --org ${ORG}`,
    );
    await repairOrg(at.world.compactor, ORG);
    expect((await at.clock.run(verifyOrg(at.world.compactor, ORG))).problems).toEqual([]);
    await at.world.compact();
    const history = historySchema.parse(
      JSON.parse((await at.runfold('history', '--org', ORG, '--json')).stdout),
    );
    expect(history.versions.map(({ version, readable }) => [version, readable])).toEqual([
      [5, 'all'],
      [4, 'none'],
      [3, 'all'],
      [2, 'all'],
      [1, 'all'],
    ]);
    await expect(version(at.world, { version: 4 })).rejects.toMatchObject({
      code: 'VERSION_NOT_FOUND',
      message: expect.stringContaining('was lost before a repair'),
    });
    const [, , third, fourth] = at.committed as [number, number, number, number];
    for (const asOf of [third + 1, fourth + 1])
      await expect(version(at.world, { asOf })).rejects.toMatchObject({ code: 'VERSION_NOT_FOUND' });
    expect(await runsOf(at.world, { version: 3 })).toBe(9);
  });
});

it('verify refuses an org that does not exist: a name that is mistyped is no org without a problem', async () => {
  const at = await kept();
  const typo = await at.runfold('verify', '--org', 'acmee');
  expect(typo).toMatchObject({ code: 2, stderr: expect.stringContaining('There is no org acmee') });
});
