import { beforeEach, describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import type { Manifest } from '../../src/manifest/manifest.ts';
import { entryKey, garbagePrefix, manifestKey, partsPrefix } from '../../src/store/keys.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { dataset, ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  compactOn,
  compactorOn,
  create,
  currentManifest,
  entryKeys,
  expectSettles,
  expectWhole,
  type FakeWorld,
  keysUnder,
} from './support.ts';

let world: FakeWorld;
beforeEach(async () => {
  world = await fakeWorld();
});
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const rewrite = async (change: (manifest: Manifest) => object) =>
  world.memory.put(manifestKey(ORG), text(change(await currentManifest(world))));

describe('a fold', () => {
  it('commits version by version, each the previous state plus what it folded (law 5)', async () => {
    await create(world, 'a');
    await create(world, 'b');
    expect(await world.compact()).toMatchObject({
      outcome: 'committed',
      version: 1,
      entries: 4,
      records: 4,
      waiting: 0,
    });
    await world.session.recorder.apply(ORG, 'a', { type: 'succeeded', attempt: 1, outputs: [dataset('t')] });
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2, entries: 1, records: 1 });
    expect(await currentManifest(world)).toMatchObject({
      version: 2,
      active: 1,
      fold: { entries: 1, records: 1 },
    });
    expect((await currentManifest(world)).totals).toMatchObject({ entries: 5, records: 5, ties: 0 });
    await expectSettles(world);
  });

  it('an org without anything stays without a manifest', async () => {
    expect(await world.compact()).toMatchObject({ outcome: 'clean', version: null, settled: true });
    expect(await keysUnder(world, '')).toEqual([]);
  });

  it('two in a row: the second is clean and writes nothing', async () => {
    await create(world, 'a');
    await world.compact();
    const calls: StoreCall[] = [];
    const again = await compactOn(world, recording(world.memory, calls));
    expect(again).toMatchObject({ outcome: 'clean', version: 1, entries: 0, waiting: 0 });
    expect(calls.filter(({ operation }) => operation === 'put' || operation === 'delete')).toEqual([]);
    expect((await currentManifest(world)).version).toBe(1);
  });

  it('entries that wait out their grace are not folded again', async () => {
    await create(world, 'a');
    await world.compact();
    await create(world, 'b');
    expect(await world.compact()).toMatchObject({ outcome: 'committed', version: 2, entries: 2 });
    expect(await entryKeys(world)).toHaveLength(4);
  });

  it('coversUntil: everything acknowledged under an older name is folded', async () => {
    await create(world, 'a');
    await world.compact();
    expect((await currentManifest(world)).covers_until).toBe(world.clock.now() - 30_000);
  });

  it('the same records in another fold change no row: redelivery is harmless', async () => {
    await create(world, 'a');
    await world.compact();
    const before = await currentManifest(world);
    await create(world, 'a');
    await world.compact();
    const after = await currentManifest(world);
    expect(after).toMatchObject({ version: 2, state_hash: before.state_hash });
    expect(after.parts.map(({ name }) => name)).toEqual(before.parts.map(({ name }) => name));
    await expectWhole(world);
  });

  it('a deleted run leaves the catalog, and late records do not bring it back', async () => {
    const { recorder } = world.session;
    await create(world, 'a');
    await recorder.apply(ORG, 'a', { type: 'cancel' });
    const late = await world.session.runs.read(ORG, 'a');
    await world.compact();
    await recorder.apply(ORG, 'a', { type: 'delete' });
    await world.compact();
    expect((await world.read()).state.rowCount).toBe(0);
    await recorder.repeatRecord(late!.run);
    expect((await world.read()).state.rowCount).toBe(0);
    await world.compact();
    expect((await world.read()).state.rowCount).toBe(0);
    await expectWhole(world);
  });

  it('fields and features of the manifest that this version does not know stay', async () => {
    await create(world, 'a');
    await world.compact();
    await rewrite((manifest) => ({ ...manifest, from_the_future: { x: 1 } }));
    await create(world, 'b');
    await world.compact();
    expect(await currentManifest(world)).toMatchObject({ version: 2, from_the_future: { x: 1 } });
  });
});

describe('what it must not touch', () => {
  it.each([
    ['a manifest of a newer format', (manifest: Manifest) => ({ ...manifest, format: 2 })],
    ['a reader feature it does not know', (manifest: Manifest) => ({ ...manifest, reader_features: ['x'] })],
    ['a writer feature it does not know', (manifest: Manifest) => ({ ...manifest, writer_features: ['x'] })],
  ])('%s: refused, nothing is written', async (_, change) => {
    await create(world, 'a');
    await world.compact();
    await rewrite(change);
    await create(world, 'b');
    await world.session.close();
    const calls: StoreCall[] = [];
    const compacting = compactOn(world, recording(world.memory, calls));
    await expect(compacting).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    expect(calls.filter(({ operation }) => operation === 'put' || operation === 'delete')).toEqual([]);
  });

  it('an entry of a newer format: refused, not quarantined', async () => {
    await create(world, 'a');
    const key = entryKey(ORG, '0192d3c0-0000-7000-8000-000000000001');
    await world.memory.put(key, text({ format: 2 }), { ifGeneration: ABSENT });
    await expect(world.compact()).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    expect(await keysUnder(world, manifestKey(ORG))).toEqual([]);
  });

  it('a manifest whose state hash does not fit its rows: nothing is committed', async () => {
    await create(world, 'a');
    await world.compact();
    await rewrite((manifest) => ({ ...manifest, state_hash: 'f'.repeat(32) }));
    await create(world, 'b');
    await expect(world.compact()).rejects.toMatchObject({ code: 'CORRUPT' });
    expect(await currentManifest(world)).toMatchObject({ version: 1 });
  });

  it('a head whose bytes are not those that the manifest describes: reported, nothing is committed', async () => {
    await create(world, 'a');
    await world.compact();
    await rewrite((manifest) => ({
      ...manifest,
      parts: manifest.parts.map((part) => ({ ...part, crc32c: part.crc32c ^ 1 })),
    }));
    await create(world, 'b');
    await expect(world.compact()).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  it('a head that is gone: an error, not a race that others won', async () => {
    world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
    await create(world, 'a');
    await world.compact();
    for (const key of await keysUnder(world, partsPrefix(ORG)))
      await world.memory.delete(key, { ifGeneration: (await world.memory.head(key))!.generation });
    await create(world, 'b');
    await expect(world.compact()).rejects.toMatchObject({ code: 'CORRUPT' });
  });
});

describe('a corrupt entry', () => {
  const key = entryKey(ORG, '0192d3c0-0000-7000-8000-000000000001');

  it('is set aside by name, never deleted, and the others are folded', async () => {
    await create(world, 'a');
    await world.memory.put(key, new Uint8Array([1, 2, 3]), { ifGeneration: ABSENT });
    expect(await world.compact()).toMatchObject({
      outcome: 'committed',
      quarantined: 1,
      entries: 2,
      waiting: 0,
    });
    expect((await currentManifest(world)).quarantine).toMatchObject([{ key, since: world.clock.now() }]);
    expect(await world.compact()).toMatchObject({ outcome: 'clean', quarantined: 0 });
    for (const ms of [AFTER_GRACE, 3_700_000, 25 * 3_600_000]) {
      await world.clock.advance(ms);
      await world.compact();
    }
    expect(await entryKeys(world)).toEqual([key]);
    await create(world, 'b');
    await world.compact();
    expect((await currentManifest(world)).quarantine).toHaveLength(1);
    await expectWhole(world);
  });

  it('under a name that is none, likewise', async () => {
    const odd = `${key.slice(0, -10)}x.json`;
    await world.memory.put(odd, new Uint8Array([1]), { ifGeneration: ABSENT });
    expect(await world.compact()).toMatchObject({ quarantined: 1 });
    expect(await entryKeys(world)).toEqual([odd]);
  });
});

describe("garbage waits out its grace, by the server's clock", () => {
  const GRACE = 120_000 + 1_000;

  it('entries go exactly after it, and their list with them', async () => {
    await create(world, 'a');
    await world.compact();
    await world.clock.advance(GRACE - 1);
    expect(await world.compact()).toMatchObject({
      collected: { objects: 0, listsWaiting: 1 },
      settled: false,
    });
    expect(await entryKeys(world)).toHaveLength(2);
    await world.clock.advance(1);
    expect(await world.compact()).toMatchObject({
      collected: { objects: 2, lists: 1, listsWaiting: 0 },
      settled: true,
    });
    expect(await entryKeys(world)).toEqual([]);
    expect(await keysUnder(world, garbagePrefix(ORG))).toEqual([]);
  });

  it.each([-600_000, 600_000])('whatever the clock of the compactor says (%i ms off)', async (offByMs) => {
    await create(world, 'a');
    const wrong = { ...compactorOn(world, world.memory), clock: world.clock.offBy(offByMs) };
    await compactOrg(wrong, ORG);
    await world.clock.advance(GRACE - 1);
    expect(await compactOrg(wrong, ORG)).toMatchObject({ collected: { objects: 0 } });
    await world.clock.advance(1);
    expect(await compactOrg(wrong, ORG)).toMatchObject({ collected: { objects: 2 } });
  });

  it('counted from the commit that gave it up, also when later versions have come since', async () => {
    await create(world, 'a');
    await world.compact();
    await world.clock.advance(100_000);
    await create(world, 'b');
    await world.compact();
    const second = (await entryKeys(world)).slice(2);
    await world.clock.advance(GRACE - 100_000);
    expect(await world.compact()).toMatchObject({ collected: { objects: 2, lists: 1, listsWaiting: 2 } });
    expect(await entryKeys(world)).toEqual(second);
    await expectSettles(world);
  });

  it('a superseded head has the longer grace of parts', async () => {
    world = await fakeWorld({ limits: { inlineHeadBytesMax: 0 } });
    await create(world, 'a');
    await world.compact();
    const [old] = await keysUnder(world, partsPrefix(ORG));
    await create(world, 'b');
    await world.compact();
    await world.clock.advance(3_600_000 + 999);
    await world.compact();
    expect(await keysUnder(world, partsPrefix(ORG))).toContain(old);
    await world.clock.advance(1);
    await world.compact();
    expect(await keysUnder(world, partsPrefix(ORG))).not.toContain(old);
    await expectWhole(world);
  });

  it('a name that was written again since is another object, and stays', async () => {
    await create(world, 'a');
    await world.compact();
    const [key] = await entryKeys(world);
    const got = await world.memory.get(key!);
    if (got.outcome !== 'found') throw new Error('gone');
    await world.memory.put(key!, got.body, { metadata: got.meta.metadata });
    await world.clock.advance(GRACE);
    await world.compact();
    expect(await entryKeys(world)).toEqual([key]);
    await expectWhole(world);
  });
});
