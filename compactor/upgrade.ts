import { RunfoldError } from '../src/core/errors.ts';
import { checkWritable, type Manifest, type Part } from '../src/manifest/manifest.ts';
import { type CurrentManifest, readManifest } from '../src/manifest/manifest-store.ts';
import { PROJECTION_VERSION } from '../src/runs/projection.ts';
import { manifestKey } from '../src/store/keys.ts';
import { compactOrg } from './compact.ts';
import type { CompactorContext } from './context.ts';
import { isOldPart } from './parts.ts';

/** Parts of one level that were written in one format. */
export interface FormatCount {
  level: number;
  /** The version of the projection whose columns they have. */
  projection: number;
  parts: number;
  runs: number;
  size_bytes: number;
}

export interface Upgraded {
  org_id: string;
  /** The current version, null: the org has no snapshot. */
  version: number | null;
  /** What is written today. */
  projection: number;
  /** As it was before, by level. */
  formats: FormatCount[];
  /** Names of parts that were replaced; with `dryRun`, that would be. */
  rewritten: string[];
  /** Versions committed on the way; with `dryRun`, as many as it takes while nothing merges. */
  commits: number;
}

export interface UpgradeOptions {
  dryRun?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((parts: number, total: number) => void) | undefined;
}

/**
 * Rewrites what an older runfold wrote, so that its format can be dropped one day: the head by a fold, history part by
 * part, each with the ordinary commit while writers, compactors and readers go on. Kill it and call it again: what is
 * rewritten stays. Superseded versions keep their old parts until their grace is over, or the policy's time travel.
 *
 * Requests: one fold per old history part, which is read and written once. Throws FormatError where the manifest asks for
 * a writer feature that this runfold does not know, and REVISION_CONFLICT where others commit all the time.
 */
export async function upgradeOrg(
  context: CompactorContext,
  orgId: string,
  { dryRun = false, signal, onProgress }: UpgradeOptions = {},
): Promise<Upgraded> {
  let manifest = await current(context, orgId, signal);
  const old = oldParts(manifest);
  const upgraded: Upgraded = {
    org_id: orgId,
    version: manifest?.version ?? null,
    projection: PROJECTION_VERSION,
    formats: formatsOf(manifest),
    rewritten: old.map(({ name }) => name),
    commits: old.length === 0 ? 0 : Math.max(1, old.filter(({ level }) => level > 0).length),
  };
  if (manifest !== null && old.length > 0) checkWritable(manifestKey(orgId), manifest);
  if (dryRun) return upgraded;
  upgraded.commits = 0;
  // Nobody who may commit writes an old part any more: each round leaves fewer.
  for (let round = 0; round <= old.length; round++) {
    const left = oldParts(manifest).length;
    if (left === 0) return upgraded;
    onProgress?.(old.length - left, old.length);
    const { outcome, version } = await compactOrg(context, orgId, { upgrade: true, signal });
    if (outcome === 'lost') break;
    if (outcome === 'committed') upgraded.commits++;
    upgraded.version = version;
    manifest = await current(context, orgId, signal);
  }
  throw new RunfoldError('REVISION_CONFLICT', `The manifest of org ${orgId} changes too often.`, {
    hint: 'Repeat the command: what is rewritten already stays.',
  });
}

async function current(
  { store }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<Manifest | null> {
  return ((await readManifest(store, orgId, { signal })) as CurrentManifest).manifest;
}

function oldParts(manifest: Manifest | null): Part[] {
  return (manifest?.parts ?? []).filter(isOldPart);
}

function formatsOf(manifest: Manifest | null): FormatCount[] {
  const counts = new Map<string, FormatCount>();
  for (const { level, projection = 1, runs, size_bytes } of manifest?.parts ?? []) {
    const key = `${level} ${projection}`;
    const known = counts.get(key) ?? { level, projection, parts: 0, runs: 0, size_bytes: 0 };
    known.parts++;
    known.runs += runs;
    known.size_bytes += size_bytes;
    counts.set(key, known);
  }
  return [...counts.values()].sort((a, b) => a.level - b.level || a.projection - b.projection);
}
