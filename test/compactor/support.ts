import { expect } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { seededRandom } from '../../src/core/random.ts';
import type { Manifest } from '../../src/manifest/manifest.ts';
import { readManifest, readManifestCopy } from '../../src/manifest/manifest-store.ts';
import { StateHash } from '../../src/manifest/state-hash.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import { logPrefix, manifestKey, partKey } from '../../src/store/keys.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { expectLaw2, type fakeWorld } from '../support/world.ts';

export type FakeWorld = Awaited<ReturnType<typeof fakeWorld>>;

/** Longer than any grace of entries, by the server's clock. */
export const AFTER_GRACE = 122_000;

export const create = (world: FakeWorld, run_id: string, orgId = ORG) =>
  world.session.recorder.create(orgId, { run_id });

export async function currentManifest(world: FakeWorld, orgId = ORG): Promise<Manifest> {
  const read = await readManifest(world.memory, orgId);
  if (read === 'unchanged' || read.manifest === null) throw new Error(`${orgId} has no manifest`);
  return read.manifest;
}

export async function keysUnder(world: FakeWorld, prefix: string): Promise<string[]> {
  return (await world.memory.list({ prefix })).items.map(({ key }) => key);
}

export const entryKeys = (world: FakeWorld, orgId = ORG) => keysUnder(world, logPrefix(orgId));

export const isCommit = (call: StoreCall) => call.operation === 'put' && call.key === manifestKey(ORG);

/** Another compactor, in another process, that reaches the store through `store`. */
export function compactorOn(world: FakeWorld, store: ObjectStore, seed = 77): CompactorContext {
  return {
    ...world.compactor,
    store,
    runs: new ObjectRunStore(store, world.compactor.limits),
    random: seededRandom(seed),
  };
}

export const compactOn = (world: FakeWorld, store: ObjectStore, seed?: number) =>
  compactOrg(compactorOn(world, store, seed), ORG);

/** Laws 2, 5 and 6 as they stand now. */
export async function expectWhole(world: FakeWorld, orgId = ORG): Promise<void> {
  await expectLaw2(world, await world.read(orgId));
  const current = await currentManifest(world, orgId);
  // Copies of superseded versions go after their grace: the chain is checked as far as it is there.
  let before: Manifest | null = null;
  for (let version = 1; version <= current.version; version++) {
    const manifest: Manifest | null =
      version === current.version ? current : await readManifestCopy(world.memory, orgId, version);
    if (manifest !== null && (before !== null || version === 1)) {
      expect(manifest.version).toBe(version);
      const state = before === null ? StateHash.empty() : StateHash.parse(before.state_hash);
      const { added_hash, removed_hash } = manifest.fold;
      const expected = state.plus(StateHash.parse(added_hash)).minus(StateHash.parse(removed_hash));
      expect(manifest.state_hash).toBe(expected.hex());
    }
    before = manifest;
  }
  for (const part of current.parts) {
    if (part.inline === null) expect(await world.memory.head(partKey(orgId, part.name))).not.toBeNull();
  }
}

/** Everything is folded, collected and clean in the end, and nothing was lost on the way. */
export async function expectSettles(world: FakeWorld): Promise<void> {
  await expectWhole(world);
  await world.compact();
  await expectWhole(world);
  await world.clock.advance(AFTER_GRACE);
  await world.compact();
  await world.clock.advance(world.compactor.limits.partGraceMs + 2_000);
  expect(await world.compact()).toMatchObject({ outcome: 'clean', settled: true, waiting: 0 });
  expect(await entryKeys(world)).toEqual([]);
  await expectWhole(world);
}
