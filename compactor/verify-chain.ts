import { reasonFor } from '../src/core/errors.ts';
import type { Manifest } from '../src/manifest/manifest.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { objectOf, partBytes } from '../src/snapshot/parts.ts';
import { manifestKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';
import { type Manifests, partStateHash } from './verify-objects.ts';
import type { Verified, VerifyOptions } from './verify-report.ts';

/** Law 5: versions rise by one, each state is the previous one plus what its fold says, and the rows are that state. */
export async function verifyChain(
  context: CompactorContext,
  verified: Verified,
  manifests: Manifests,
  { signal }: VerifyOptions,
): Promise<void> {
  const { org_id: orgId, problems, checked } = verified;
  const { current, copies } = manifests;
  const problem = (message: string) => problems.push({ law: 5, key: manifestKey(orgId), message });
  checked.manifests = copies.size + (current === null ? 0 : 1);
  if (current === null) {
    if (copies.size > 0 && !problems.some(({ key }) => key === manifestKey(orgId)))
      problem('the manifest is missing, but copies of it exist');
    return;
  }
  const beyond = [...copies.keys()].filter((version) => version > current.version);
  if (beyond.length > 0)
    problem(`version ${current.version} is current, but version ${Math.max(...beyond)} was once`);
  const chain = new Map(copies).set(current.version, current);
  // Copies below a gap are leftovers of a compactor that slept: the orphan sweep takes them.
  let oldest = current.version;
  while (chain.has(oldest - 1)) oldest--;
  for (let version = oldest + 1; version <= current.version; version++) {
    if (!follows(chain.get(version - 1)!, chain.get(version)!)) {
      problem(
        `the state hash of version ${version} is not that of version ${version - 1} plus what it folded`,
      );
    }
  }
  if (oldest === 1 && !followsNothing(chain.get(1)!))
    problem('the state hash of version 1 is not that of what it folded');
  for (const part of current.parts) {
    try {
      const bytes = await partBytes(context.store, orgId, part, { signal });
      if (bytes === null) problem(`part ${part.name} of the current version is missing`);
      else if ((await partStateHash(orgId, objectOf(orgId, part), bytes)).hex() !== part.state_hash) {
        problem(`part ${part.name} does not hold the rows of its state hash`);
      }
    } catch (error) {
      // One that makes no sense was told with the other objects; this one is not the one that was asked for.
      const key = objectOf(orgId, part);
      if (!problems.some((one) => one.key === key))
        problems.push({ law: 8, key, message: reasonFor(key, error) });
    }
  }
  const sum = current.parts.reduce(
    (state, part) => state.plus(StateHash.parse(part.state_hash)),
    StateHash.empty(),
  );
  if (sum.hex() !== current.state_hash) problem('the state hash is not the sum of those of its parts');
  for (const { key, reason, since, released } of current.quarantine) {
    if (released) continue;
    // One that is gone was released by `repair`; the next fold strikes it off.
    const there = await context.store.head(key, { signal }).catch(() => 'unreadable');
    if (there === null) continue;
    const message = `in quarantine since ${new Date(since).toISOString()}: ${reasonFor(key, reason)}`;
    const known = problems.find((one) => one.key === key);
    if (known === undefined) problems.push({ law: 8, key, message });
    else known.message = message;
  }
}

function follows(before: Manifest, after: Manifest): boolean {
  const expected = StateHash.parse(before.state_hash)
    .plus(StateHash.parse(after.fold.added_hash))
    .minus(StateHash.parse(after.fold.removed_hash));
  return expected.hex() === after.state_hash;
}

function followsNothing(first: Manifest): boolean {
  return (
    StateHash.parse(first.fold.added_hash).minus(StateHash.parse(first.fold.removed_hash)).hex() ===
    first.state_hash
  );
}
