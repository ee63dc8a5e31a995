import { keptVersions } from '../src/catalog/versions.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError, errorMessage, OutcomeUnknownError, RunfoldError } from '../src/core/errors.ts';
import { listLog, type ReadEntry, readEntries } from '../src/log/tail.ts';
import { checkWritable, type Manifest, type Quarantined } from '../src/manifest/manifest.ts';
import { commitManifest, readManifest, readManifestCopy } from '../src/manifest/manifest-store.ts';
import { project } from '../src/runs/projection.ts';
import { type LogRecord, recordOf, runIdOf } from '../src/runs/record.ts';
import { type Rows, RowsBuilder } from '../src/snapshot/rows.ts';
import {
  garbagePrefix,
  logPrefix,
  manifestCopyKey,
  manifestKey,
  nameOfKey,
  parseRunKey,
  partKey,
} from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import { noRunsError } from './backfill-source.ts';
import { removeObject } from './collect.ts';
import type { CompactorContext } from './context.ts';
import { findWhatIsLeft } from './lost-manifest.ts';
import { type Found, type Plan, planOn } from './plan.ts';
import { prepare } from './prepare.ts';
import { unreadableObjects } from './verify-objects.ts';

export interface Repaired {
  org_id: string;
  /** The version that was committed; with `dryRun`, the one that would be. */
  version: number;
  /** Canonical ones that can be read and were not deleted: each has a row now. */
  runs: number;
  /** Corrupt entries that are garbage now: the canonical runs have made good what they said. */
  released: string[];
  /** Parts, garbage lists and manifest copies that are corrupt: deleted once no version needs them. */
  discarded: string[];
  /** Versions that time travel can no longer read, or not all of: they name what is discarded. Ascending. */
  lost_versions: number[];
  /** Canonical runs that cannot be read. They are missing from the catalog until somebody restores them. */
  unreadable: { key: string; reason: string }[];
}

export interface RepairOptions {
  dryRun?: boolean | undefined;
  /** Repair also an org that has rows and not one canonical run: its catalog is empty then. */
  force?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((runs: number) => void) | undefined;
}

/**
 * Builds the org's snapshot anew from its canonical runs, whatever became of manifest, parts and entries, while writers
 * go on. Entries listed before the scan are covered by it; what comes later stays in the log as ever. Cost: one read
 * per canonical run of the org. Throws InputError for an org that has no canonical run at all, unless it had no row either.
 */
export async function repairOrg(
  context: CompactorContext,
  orgId: string,
  options: RepairOptions = {},
): Promise<Repaired> {
  const { signal } = options;
  for (let round = 0; round < context.limits.contentionRoundsMax; round++) {
    const bad = await corruptObjects(context, orgId, signal);
    const found = without(bad, await findWhatIsLeft(context, orgId, options));
    const { items } = await listLog(context.store, orgId, { signal });
    const quarantined = new Set(found.current.manifest?.quarantine.map(({ key }) => key));
    const { rows, stubs, unreadable } = await scan(context, orgId, options);
    if (rows.length + stubs.length + unreadable.length === 0 && !options.force && mayHaveRows(found))
      throw noRunsError(context, orgId);
    const { entries } = await readEntries(context.store, orgId, found.unfolded, {
      parallel: context.limits.parallelMax,
      signal,
    });
    const lost = new Set(unreadable.map(({ key }) => runIdOfKey(key)));
    const intents = entries.map((read) => intentsOf(read, lost));
    const work = await planOn(context, found, rows, intents, signal);
    // Where the manifest was lost, so were its tombstones: late records must not bring a deleted run back.
    for (const stub of stubs) work.overlay.apply(stub);
    const corrupt = new Set([...quarantined, ...work.quarantined.map(({ key }) => key)]);
    const waiting = releasedBefore(found);
    const released = items.filter(({ key }) => corrupt.has(key) && !waiting.has(key));
    const repaired = {
      org_id: orgId,
      runs: rows.length,
      released: released.map(({ key }) => key),
      discarded: bad.map(({ key }) => key),
      lost_versions: await versionsWithout(context, orgId, bad, signal),
      unreadable,
    };
    const version = (found.current.manifest?.version ?? 0) + 1;
    if (found.current.manifest !== null) checkWritable(manifestKey(orgId), found.current.manifest);
    if (options.dryRun) return { ...repaired, version };
    const next = await prepare(
      context,
      found,
      {
        ...work,
        consumed: [...work.consumed, ...released],
        quarantined: reasonsOf(
          items.filter(({ key }) => corrupt.has(key)),
          found,
          work,
        ),
      },
      { rebuild: true },
    );
    const commit = await commitManifest(context.store, next, found.current.generation);
    if (commit.outcome === 'committed') {
      // No grace: who still looks for one of these finds nothing instead of nothing that makes sense.
      await mapParallel(
        bad,
        context.limits.parallelMax,
        ({ key, generation }, stop) => removeObject(context, key, generation, stop),
        signal,
      );
      return { ...repaired, version };
    }
    if (commit.outcome === 'unknown') {
      throw new OutcomeUnknownError(`The store did not confirm the manifest of org ${orgId}.`, {
        cause: commit.cause,
      });
    }
  }
  throw new RunfoldError(
    'REVISION_CONFLICT',
    `The manifest of org ${orgId} changes too often to be repaired.`,
    {
      hint: 'Stop the compactors of this org, and try again.',
    },
  );
}

/** Where no manifest is left to say otherwise, it may: what was lost would not come back. */
function mayHaveRows({ current, unfolded }: Found): boolean {
  return current.manifest === null || current.manifest.rows > 0 || unfolded.length > 0;
}

/**
 * Of an entry that was listed before the scan, the scan knows all but what somebody is still about to do. Not of runs that
 * cannot be read: nothing could tell what became of their intents.
 */
function intentsOf(read: ReadEntry, lost: ReadonlySet<string>): ReadEntry {
  if (!('entry' in read)) return read;
  const records = read.entry.records.filter(
    (record) => record.kind === 'intent' && !lost.has(runIdOf(record)),
  );
  return { item: read.item, entry: { ...read.entry, records } };
}

/** Of an object, or of a row of a database, which is `<org>/<run>`. */
function runIdOfKey(key: string): string {
  return parseRunKey(key)?.runId ?? key.slice(key.lastIndexOf('/') + 1);
}

async function scan({ runs }: CompactorContext, orgId: string, { signal, onProgress }: RepairOptions) {
  const builder = new RowsBuilder(orgId);
  const unreadable: Repaired['unreadable'] = [];
  const stubs: LogRecord[] = [];
  for await (const scanned of runs.scan({ orgId, signal })) {
    if ('problem' in scanned) unreadable.push({ key: scanned.key, reason: errorMessage(scanned.problem) });
    else if (scanned.run.deleted_at === null) builder.add(project(scanned.run));
    else stubs.push(recordOf(scanned.run));
    if (builder.length % 1000 === 0) onProgress?.(builder.length);
  }
  const rows: Rows = builder.build();
  return { rows, stubs, unreadable };
}

/**
 * What is corrupt but for the manifest, which is replaced, and entries, which wait out their grace: a reader that has
 * an older manifest must meet them, not miss them.
 */
async function corruptObjects(
  context: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<ObjectMeta[]> {
  const bad = await unreadableObjects(context, orgId, { signal });
  return bad
    .filter(({ error }) => error instanceof CorruptError)
    .map(({ meta }) => meta)
    .filter(({ key }) => key !== manifestKey(orgId) && !key.startsWith(logPrefix(orgId)));
}

/** Released entries stay in quarantine until they are gone: readers that list them must go on to pass them over. */
function reasonsOf(released: readonly ObjectMeta[], found: Found, work: Plan): Quarantined[] {
  const known = [...(found.current.manifest?.quarantine ?? []), ...work.quarantined];
  return released.map(({ key }) => ({ ...known.find((one) => one.key === key)!, released: true }));
}

/** What an earlier repair has released, and a list that can be read names: it waits out its grace already. */
function releasedBefore({ current, garbage }: Found): ReadonlySet<string> {
  const released = new Set(current.manifest?.quarantine.filter((one) => one.released).map(({ key }) => key));
  const named = garbage.flatMap(({ list }) => list?.objects.map(({ key }) => key) ?? []);
  return new Set(named.filter((key) => released.has(key)));
}

/** Kept versions that name one of these objects, or whose copy is one. One GET per kept version, if there are any. */
async function versionsWithout(
  { store, limits }: CompactorContext,
  orgId: string,
  bad: readonly ObjectMeta[],
  signal: AbortSignal | undefined,
): Promise<number[]> {
  if (bad.length === 0) return [];
  const keys = new Set(bad.map(({ key }) => key));
  const isLost = (manifest: Manifest | null) =>
    manifest?.parts.some(({ name, inline }) => inline === null && keys.has(partKey(orgId, name))) ?? false;
  const versions = await keptVersions(store, orgId, { signal });
  const current = await readManifest(store, orgId, { signal }).catch(() => null);
  const lost = await mapParallel(
    versions,
    limits.parallelMax,
    async (version, stop) =>
      keys.has(manifestCopyKey(orgId, version)) ||
      isLost(await readManifestCopy(store, orgId, version, { signal: stop }).catch(() => null)),
    signal,
  );
  const all = versions.filter((_, i) => lost[i]);
  if (current !== null && current !== 'unchanged' && isLost(current.manifest))
    all.push(current.manifest!.version);
  return [...new Set(all)].sort((a, b) => a - b);
}

/** A corrupt garbage list is forgotten: what it named are orphans, or entries that are folded once more. */
function without(bad: readonly ObjectMeta[], found: Found): Found {
  const names = new Set(
    bad.filter(({ key }) => key.startsWith(garbagePrefix(found.orgId))).map(({ key }) => nameOfKey(key)),
  );
  const { manifest } = found.current;
  if (manifest === null || names.size === 0) return found;
  const garbage = manifest.garbage.filter(({ name }) => !names.has(name));
  return {
    ...found,
    current: { ...found.current, manifest: { ...manifest, garbage }, body: null },
    garbage: found.garbage.filter(({ meta }) => !names.has(nameOfKey(meta.key))),
  };
}
