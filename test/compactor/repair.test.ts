import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetMetadata } from 'hyparquet';
import { afterAll, describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import { repairOrg } from '../../compactor/repair.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { inspectOrg } from '../../src/cli/inspection.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { isRunfoldError } from '../../src/core/errors.ts';
import { type Limits, limits } from '../../src/core/limits.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import { encodeManifest, type Manifest } from '../../src/manifest/manifest.ts';
import { readManifest } from '../../src/manifest/manifest-store.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { openFileStore } from '../../src/store/file.ts';
import {
  entryKey,
  garbagePrefix,
  logPrefix,
  manifestCopyKey,
  manifestKey,
  partKey,
  runKey,
} from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import { verified } from '../../src/store/verified.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ORG } from '../support/runs.ts';
import { canonicalRuns, type World, worldOn } from '../support/world.ts';
import { AFTER_GRACE } from './support.ts';

/** Heads are objects, and history comes soon. */
const LIMITS = { inlineHeadBytesMax: 0, headRowsMax: 10, historyGroupRows: 8 };

interface Rot {
  kind: 'memory' | 'file';
  clock: FakeClock;
  world: World;
  /**
   * From now on one bit of the object is another; its checksum is what it was. `at`: where, from 0 to 1; anywhere unless
   * told.
   */
  flip(key: string, at?: number): void;
}

const dirs: string[] = [];
afterAll(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

async function rotOn(kind: Rot['kind'], random: Random, limitsOf: Partial<Limits> = LIMITS): Promise<Rot> {
  const clock = new FakeClock();
  if (kind === 'file') {
    const dir = mkdtempSync(join(tmpdir(), 'runfold-repair-'));
    dirs.push(dir);
    const world = await worldOn(verified(await openFileStore(dir, { clock, fsync: false })), {
      clock,
      limits: limitsOf,
    });
    const flip = (key: string, at = uniform(random)) => {
      const bytes = readFileSync(join(dir, key));
      bytes[Math.floor(at * bytes.length)]! ^= 1 << (random.u32() % 8);
      writeFileSync(join(dir, key), bytes);
    };
    return { kind, clock, world, flip };
  }
  // Entries that do not travel in the listing, so that their bytes are always read.
  const memory = new MemoryStore({ clock, capabilities: { listMetadata: false } });
  const rotten = new Map<string, { at: number; bit: number; generation: string | null }>();
  const world = await worldOn(verified(corrupting(memory, rotten)), { clock, limits: limitsOf });
  const flip = (key: string, at = uniform(random)) => {
    rotten.set(key, { at, bit: random.u32() % 8, generation: null });
  };
  return { kind, clock, world, flip };
}

/** Only the generation that was there rots: what is written later is new. */
function corrupting(
  store: ObjectStore,
  rotten: Map<string, { at: number; bit: number; generation: string | null }>,
): ObjectStore {
  return {
    ...passThrough(store),
    async get(key, options) {
      const got = await store.get(key, options);
      const rot = rotten.get(key);
      if (got.outcome !== 'found' || rot === undefined) return got;
      rot.generation ??= got.meta.generation;
      if (rot.generation !== got.meta.generation) return got;
      const [start = 0, end = got.meta.sizeBytes] = [options?.range?.start, options?.range?.end];
      const at = Math.floor(rot.at * got.meta.sizeBytes);
      if (at < start || at >= end) return got;
      const body = got.body.slice();
      body[at - start]! ^= 1 << rot.bit;
      return { ...got, body };
    },
  };
}

const table = (n: number) => ({ namespace: 'db', name: `t${n}` });

async function ended(world: World, run_id: string, n: number): Promise<void> {
  const { recorder } = world.session;
  await recorder.create(ORG, { run_id, outputs: [table(n % 3)] });
  await recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
  await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
}

/** Head, history, garbage of both kinds, copies, and a tail; nothing is due for collection. */
async function build({ clock, world }: Rot): Promise<Manifest> {
  for (let n = 0; n < 30; n++) await ended(world, `old-${n}`, n);
  await world.session.recorder.create(ORG, { run_id: 'gone' });
  await world.session.recorder.apply(ORG, 'gone', { type: 'cancel' });
  await world.session.recorder.apply(ORG, 'gone', { type: 'delete' });
  await world.compact();
  await clock.advance(2 * limits().sealAgeMs);
  await ended(world, 'new-1', 1);
  await world.compact();
  await ended(world, 'new-2', 2);
  await world.compact();
  await ended(world, 'new-3', 3);
  await world.session.recorder.create(ORG, { run_id: 'live' });
  return current(world);
}

async function current(world: World): Promise<Manifest> {
  const read = await readManifest(world.store, ORG);
  if (read === 'unchanged' || read.manifest === null) throw new Error('there is no manifest');
  return read.manifest;
}

async function keysUnder(world: World, prefix: string): Promise<string[]> {
  return (await world.store.list({ prefix })).items.map(({ key }) => key);
}

async function allRuns(world: World): Promise<Projection[]> {
  const runs: Projection[] = [];
  for await (const run of (await world.read()).runs()) runs.push(run);
  return runs;
}

const revisions = (runs: readonly { run_id: string; revision: number }[]) =>
  runs.map(({ run_id, revision }) => `${run_id}@${revision}`).sort();

/** Law 8: a read gives what is true, or says what is corrupt; never anything else. */
async function expectNeverServed(world: World): Promise<'served' | 'refused'> {
  const truth = (await canonicalRuns(world)).filter(({ deleted_at }) => deleted_at === null);
  try {
    const shown = await allRuns(world);
    expect(revisions(shown)).toEqual(revisions(truth));
    return 'served';
  } catch (error) {
    if (!isRunfoldError(error)) throw error;
    expect(error.code).toBe('CORRUPT');
    return 'refused';
  }
}

/** `verify` sleeps before it looks again. */
const verify = ({ clock, world }: Rot) => clock.run(verifyOrg(world.compactor, ORG));

async function reportedBy(rot: Rot): Promise<{ verify: (string | undefined)[]; inspect: string[] }> {
  const { problems } = await verify(rot);
  const inspect = await inspectOrg(rot.world.compactor, ORG, {
    signal: new AbortController().signal,
    check: true,
  }).then(
    ({ corrupt }) => corrupt.map(({ key }) => key),
    (error) => [error.key as string],
  );
  return { verify: problems.filter(({ law }) => law === 8).map(({ key }) => key), inspect };
}

type Victim = (world: World, manifest: Manifest) => Promise<string> | string;
const garbageOf =
  (kind: string) =>
  (_: World, { garbage }: Manifest) =>
    `${garbagePrefix(ORG)}${garbage.findLast((ref) => ref.kind === kind)!.name}.json`;
const partOf =
  (isHead: boolean) =>
  (_: World, { parts }: Manifest) =>
    partKey(ORG, parts.find(({ level }) => (level === 0) === isHead)!.name);
const tailEntry: Victim = async (world, { garbage }) => {
  const folded = new Set<string>();
  for (const { name, kind } of garbage) {
    if (kind !== 'entries') continue;
    const got = await world.store.get(`${garbagePrefix(ORG)}${name}.json`);
    if (got.outcome !== 'found') continue;
    const list = JSON.parse(new TextDecoder().decode(got.body)) as { objects: { key: string }[] };
    for (const { key } of list.objects) folded.add(key);
  }
  return (await keysUnder(world, logPrefix(ORG))).filter((key) => !folded.has(key)).at(-1)!;
};

const VICTIMS: [name: string, victim: Victim][] = [
  ['manifest', () => manifestKey(ORG)],
  ['entry of the tail', tailEntry],
  ['head part', partOf(true)],
  ['history part', partOf(false)],
  ['garbage list of entries', garbageOf('entries')],
  ['garbage list of a snapshot', garbageOf('snapshot')],
  ['manifest copy', (_, { version }) => manifestCopyKey(ORG, version - 1)],
];
const CASES = VICTIMS.flatMap(([name, victim], i) =>
  (['memory', 'file'] as const).flatMap((kind) =>
    [1, 2, 3].map((seed) => [name, kind, seed * 100 + i, victim] as const),
  ),
);

describe('one flipped bit is reported, never served, and healed', () => {
  it.each(CASES)('%s, %s store, seed %i', async (_, kind, seed, victim) => {
    const rot = await rotOn(kind, seededRandom(seed));
    const { world, clock } = rot;
    const manifest = await build(rot);
    expect(manifest.parts.some(({ level }) => level > 0)).toBe(true);
    expect((await verify(rot)).problems).toEqual([]);
    const key = await victim(world, manifest);
    rot.flip(key);

    const reported = await reportedBy(rot);
    expect(reported.verify).toContain(key);
    expect(reported.inspect).toContain(key);
    await expectNeverServed(world);
    // Whatever a compactor makes of it, nothing wrong is served afterwards either.
    await world.compact().catch((error) => expect(error.code).toBe('CORRUPT'));
    if (key.startsWith(logPrefix(ORG))) {
      const { quarantine } = await current(world);
      expect(quarantine.every((one) => one.key === key)).toBe(true);
    } else await expectNeverServed(world);

    // A writer goes on through all of it.
    let writes = 0;
    const busy = {
      ...world.compactor,
      runs: {
        ...world.compactor.runs,
        read: world.compactor.runs.read.bind(world.compactor.runs),
        scan: (options: Parameters<typeof world.compactor.runs.scan>[0]) => scanning(options),
      } as typeof world.compactor.runs,
    };
    async function* scanning(options: Parameters<typeof world.compactor.runs.scan>[0]) {
      await ended(world, `during-${++writes}`, writes);
      yield* world.compactor.runs.scan(options);
      await ended(world, `during-${++writes}`, writes);
      await world.session.recorder.create(ORG, { run_id: `live-${writes}` });
    }
    const before = await keysUnder(world, logPrefix(ORG));
    const preview = await repairOrg(world.compactor, ORG, { dryRun: true });
    expect(await keysUnder(world, logPrefix(ORG))).toEqual(before);
    const repaired = await repairOrg(busy, ORG);
    expect(writes).toBe(2);
    expect(repaired.unreadable).toEqual([]);
    expect({ ...repaired, runs: 0 }).toEqual({ ...preview, runs: 0 });
    expect(await expectNeverServed(world)).toBe('served');

    // Entries wait out their grace; everything else was mended at once.
    const left = (await verify(rot)).problems;
    expect(left.filter((problem) => problem.key !== key || !key.startsWith(logPrefix(ORG)))).toEqual([]);
    await clock.advance(AFTER_GRACE);
    await world.compact();
    expect((await verify(rot)).problems).toEqual([]);
    expect((await reportedBy(rot)).inspect).toEqual([]);
    await world.compact();
    expect((await current(world)).quarantine).toEqual([]);
    expect(await expectNeverServed(world)).toBe('served');
    await world.store.close();
  });
});

describe('a corrupt head', () => {
  it('is passed over exactly within the grace of the entries, and refused clearly after it', async () => {
    for (const kind of ['memory', 'file'] as const) {
      const rot = await rotOn(kind, seededRandom(7));
      const { world, clock } = rot;
      const manifest = await build(rot);
      rot.flip(partKey(ORG, manifest.parts[0]!.name));
      const catalog = await world.read();
      expect(catalog.stats.fallbackVersion).toBe(manifest.version - 1);
      expect(await expectNeverServed(world)).toBe('served');
      await clock.advance(limits().entryGraceMs - 1);
      expect((await world.read()).stats.fallbackVersion).toBe(manifest.version - 1);
      await clock.advance(1);
      await expect(world.read()).rejects.toMatchObject({
        code: 'CORRUPT',
        key: partKey(ORG, manifest.parts[0]!.name),
      });
      await expect(world.compact()).rejects.toMatchObject({ code: 'CORRUPT' });
      await repairOrg(world.compactor, ORG);
      expect((await world.read()).stats.fallbackVersion).toBeNull();
      expect(await expectNeverServed(world)).toBe('served');
    }
  });

  it('is not passed over when the version before it is corrupt too', async () => {
    const rot = await rotOn('memory', seededRandom(8));
    const manifest = await build(rot);
    rot.flip(partKey(ORG, manifest.parts[0]!.name));
    rot.flip(manifestCopyKey(ORG, manifest.version - 1));
    await expect(rot.world.read()).rejects.toMatchObject({ code: 'CORRUPT' });
  });
});

/** Gives the current head other bytes, which the manifest describes exactly: not rot, but a defect of who wrote it. */
async function writeDefect(world: World, { parts }: Manifest, column: string): Promise<string> {
  const head = parts[0]!;
  const key = partKey(ORG, head.name);
  const got = await world.store.get(key);
  if (got.outcome !== 'found') throw new Error('the head is gone');
  const { row_groups } = parquetMetadata(got.body);
  const chunk = row_groups[0]!.columns.find(({ meta_data }) => meta_data!.path_in_schema[0] === column)!;
  const { data_page_offset, total_compressed_size, dictionary_page_offset: at } = chunk.meta_data!;
  got.body[Number(at ?? data_page_offset) + Number(total_compressed_size) - 1]! ^= 1;
  const put = await world.store.put(key, got.body);
  if (put.outcome !== 'written') throw new Error('the head was not written');
  const manifest = await current(world);
  manifest.parts[0] = { ...head, crc32c: crc32c(got.body), generation: put.meta.generation };
  await world.store.put(manifestKey(ORG), encodeManifest(manifest));
  return key;
}

describe('a head whose column was written corrupt, under the right checksum', () => {
  it('fails what asks for the column, and only that; the fold commits nothing, verify tells, repair heals', async () => {
    const rot = await rotOn('file', seededRandom(12));
    const { world, clock } = rot;
    await build(rot);
    for (let k = 0; k < 2; k++) {
      await world.compact();
      await clock.advance(AFTER_GRACE);
    }
    await world.compact();
    const key = await writeDefect(world, await current(world), 'error_message');
    const catalog = await world.read();
    expect(catalog.tables()).toHaveLength(3);
    for (let k = 0; k < 2; k++) expect(() => catalog.active()).toThrow(`${key} is corrupt`);
    expect(await expectNeverServed(world)).toBe('refused');
    const { version } = await current(world);
    await ended(world, 'later', 1);
    await expect(world.compact()).rejects.toMatchObject({ code: 'CORRUPT', key });
    expect((await current(world)).version).toBe(version);
    expect((await reportedBy(rot)).verify).toContain(key);
    await repairOrg(world.compactor, ORG);
    expect(await expectNeverServed(world)).toBe('served');
    expect((await verify(rot)).problems).toEqual([]);
  });
});

describe('a corrupt history part', () => {
  const MERGING = { ...LIMITS, headRowsMax: 5, mergeFanIn: 2 };

  /** Enough runs that have ended to seal one part more. */
  async function seal({ world, clock }: Rot, name: string) {
    for (let n = 0; n < 12; n++) await ended(world, `${name}-${n}`, n);
    await clock.advance(2 * limits().sealAgeMs);
    return world.compact();
  }

  const historyOf = ({ parts }: Manifest) => parts.filter(({ level }) => level > 0);

  async function withCorruptPart(kind: Rot['kind'], seed: number) {
    const rot = await rotOn(kind, seededRandom(seed), MERGING);
    await seal(rot, 'a');
    const [part] = historyOf(await current(rot.world));
    const key = partKey(ORG, part!.name);
    // Among its row groups: the footer is for other readers, and a merge does without.
    rot.flip(key, 0.1);
    return { rot, key };
  }

  it.each(['memory', 'file'] as const)(
    'is left out of merges, and the org goes on (%s store)',
    async (kind) => {
      for (const seed of [21, 22, 23]) {
        const { rot, key } = await withCorruptPart(kind, seed);
        const { world } = rot;
        // Two parts of a level: a merge is due, and finds the first corrupt.
        expect(await seal(rot, 'b')).toMatchObject({ outcome: 'committed', quarantined: 1 });
        const after = await current(world);
        expect(after.quarantine).toMatchObject([{ key, reason: expect.stringContaining('is corrupt') }]);
        expect(historyOf(after).map(({ level }) => level)).toEqual([1, 1]);
        const since = after.quarantine[0]!.since;

        // The others merge without it, nobody finds it anew, and it stays an object and a part.
        expect(await seal(rot, 'c')).toMatchObject({ outcome: 'committed', quarantined: 0 });
        expect(await seal(rot, 'd')).toMatchObject({ outcome: 'committed', quarantined: 0 });
        const later = await current(world);
        expect(later.quarantine).toMatchObject([{ key, since }]);
        expect(historyOf(later).some(({ name, level }) => partKey(ORG, name) === key && level === 1)).toBe(
          true,
        );
        expect(historyOf(later).some(({ level }) => level > 1)).toBe(true);
        expect(await world.store.head(key).then(Boolean, () => true)).toBe(true);
        expect(await world.compact()).toMatchObject({ outcome: 'clean' });

        // Head and tail answer, the part's rows are refused, and everybody who looks is told.
        const catalog = await world.read();
        expect(catalog.tables()).toHaveLength(3);
        expect(catalog.stats.quarantined).toBe(0);
        expect(await expectNeverServed(world)).toBe('refused');
        const reported = await reportedBy(rot);
        expect(reported.verify).toContain(key);
        expect(reported.inspect).toContain(key);
        const { problems } = await verify(rot);
        expect(problems.filter(({ law }) => law === 5)).toEqual([]);
        expect(problems.map(({ message }) => message)).toContainEqual(
          expect.stringMatching(/^in quarantine/),
        );

        expect(await repairOrg(world.compactor, ORG)).toMatchObject({ discarded: [key], released: [] });
        expect((await current(world)).quarantine).toEqual([]);
        expect(await expectNeverServed(world)).toBe('served');
        expect((await verify(rot)).problems).toEqual([]);
        await world.store.close();
      }
    },
  );

  it('that a tombstone waits for does not make a version at every pass', async () => {
    const { rot, key } = await withCorruptPart('memory', 24);
    const { world, clock } = rot;
    await clock.advance(1_000);
    await world.session.recorder.apply(ORG, 'a-0', { type: 'delete' });
    await world.compact();
    await clock.advance(limits().tombstoneTtlMs + 60_000);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', quarantined: 1 });
    expect(await current(world)).toMatchObject({ quarantine: [{ key }], tombstones: [{ run_id: 'a-0' }] });
    expect(await world.compact()).toMatchObject({ outcome: 'clean' });
    await repairOrg(world.compactor, ORG);
    expect(await expectNeverServed(world)).toBe('served');
    expect((await allRuns(world)).map(({ run_id }) => run_id)).not.toContain('a-0');
  });

  it('goes with what retention forgets, and leaves quarantine then', async () => {
    const { rot, key } = await withCorruptPart('memory', 25);
    const { world, clock } = rot;
    await seal(rot, 'b');
    expect((await current(world)).quarantine).toMatchObject([{ key }]);
    await clock.advance(3 * 86_400_000);
    for (let n = 0; n < 3; n++) await ended(world, `new-${n}`, n);
    await compactOrg(world.compactor, ORG, { policy: { retain_ms: 86_400_000, time_travel_ms: 0 } });
    await world.compact();
    const { quarantine, parts } = await current(world);
    expect(quarantine).toEqual([]);
    expect(parts.map(({ name }) => partKey(ORG, name))).not.toContain(key);
  });
});

describe('quarantine', () => {
  it('is shown by inspect and verify; repair releases it, and the entry goes after its grace', async () => {
    const rot = await rotOn('memory', seededRandom(9));
    const { world, clock } = rot;
    const manifest = await build(rot);
    const key = (await tailEntry(world, manifest)) as string;
    rot.flip(key);
    await expect(world.read()).rejects.toMatchObject({ code: 'CORRUPT', key });
    expect(await world.compact()).toMatchObject({ outcome: 'committed', quarantined: 1 });
    expect((await current(world)).quarantine).toMatchObject([{ key }]);
    expect((await world.read()).stats.quarantined).toBe(1);
    const messages = (await verify(rot)).problems.filter((problem) => problem.key === key);
    expect(messages.map(({ message }) => message)).toContainEqual(expect.stringMatching(/^in quarantine/));
    // No number of passes takes it away.
    await clock.advance(10 * AFTER_GRACE);
    await world.compact();
    expect(await keysUnder(world, logPrefix(ORG))).toContain(key);

    expect(await repairOrg(world.compactor, ORG)).toMatchObject({ released: [key], discarded: [] });
    // Readers pass it over until it is gone.
    expect(await expectNeverServed(world)).toBe('served');
    expect(await keysUnder(world, logPrefix(ORG))).toContain(key);
    await clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await keysUnder(world, logPrefix(ORG))).toEqual([]);
    expect((await verify(rot)).problems).toEqual([]);
    await world.compact();
    expect((await current(world)).quarantine).toEqual([]);
    expect((await world.read()).stats.quarantined).toBe(0);
    expect((await verify(rot)).problems).toEqual([]);
  });
});

describe('an entry that was folded from the copy in its listing', () => {
  it('is no problem where its body is corrupt: it waits for its deletion, and goes', async () => {
    const clock = new FakeClock();
    const rotten = new Map<string, { at: number; bit: number; generation: string | null }>();
    const world = await worldOn(verified(corrupting(new MemoryStore({ clock }), rotten)), { clock });
    await world.session.recorder.create(ORG, { run_id: 'a' });
    for (const key of await keysUnder(world, logPrefix(ORG)))
      rotten.set(key, { at: 0.5, bit: 1, generation: null });
    // Still needed: who reads it otherwise than by listing would miss it.
    expect((await verifyOrg(world.compactor, ORG)).problems).not.toEqual([]);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', quarantined: 0 });
    const inspect = () =>
      inspectOrg(world.compactor, ORG, { signal: new AbortController().signal, check: true });
    for (let look = 0; look < 2; look++) {
      expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
      expect((await inspect()).corrupt).toEqual([]);
      await repairOrg(world.compactor, ORG);
    }
    expect((await allRuns(world)).map(({ run_id }) => run_id)).toEqual(['a']);
    await clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await keysUnder(world, logPrefix(ORG))).toEqual([]);
  });
});

describe('repair', () => {
  it('tells of canonical runs that cannot be read, and leaves them out', async () => {
    const rot = await rotOn('file', seededRandom(10));
    await build(rot);
    rot.flip(runKey(ORG, 'old-3'));
    const repaired = await repairOrg(rot.world.compactor, ORG);
    expect(repaired.unreadable).toMatchObject([{ key: runKey(ORG, 'old-3') }]);
    expect(repaired.runs).toBe(33);
    expect((await allRuns(rot.world)).map(({ run_id }) => run_id)).not.toContain('old-3');
  });

  it('without any manifest or copy: a late record does not bring a deleted run back', async () => {
    const rot = await rotOn('memory', seededRandom(11));
    const { world, clock } = rot;
    const { recorder } = world.session;
    await recorder.create(ORG, { run_id: 'gone' });
    await recorder.apply(ORG, 'gone', { type: 'cancel' });
    const [late] = (await keysUnder(world, logPrefix(ORG))).slice(-1);
    const record = await world.store.get(late!);
    await recorder.apply(ORG, 'gone', { type: 'delete' });
    await world.compact();
    await clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await keysUnder(world, logPrefix(ORG))).toEqual([]);
    rot.flip(manifestKey(ORG));
    await expect(world.read()).rejects.toMatchObject({ code: 'CORRUPT' });
    await repairOrg(world.compactor, ORG);
    expect(await allRuns(world)).toEqual([]);
    if (record.outcome === 'found') {
      const name = late!.split('/').at(-1)!.replace('.json', '');
      await world.store.put(entryKey(ORG, name), record.body);
    }
    await compactOrg(world.compactor, ORG);
    expect(await allRuns(world)).toEqual([]);
    expect((await verify(rot)).problems).toEqual([]);
  });
});
