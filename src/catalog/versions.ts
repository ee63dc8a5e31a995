import { InputError, RunfoldError } from '../core/errors.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { readManifest, readManifestCopy } from '../manifest/manifest-store.ts';
import { manifestsPrefix } from '../store/keys.ts';
import type { CallOptions, ObjectStore } from '../store/object-store.ts';
import { pagesOf } from '../store/pages.ts';

/** A version by number, or the one that was current at a server time (ms). */
export type VersionQuery = { version: number } | { asOf: number };

export interface Version {
  version: number;
  /** Server time of its commit, ms; null when the version after it is not known. */
  committed_at: number | null;
  manifest: Manifest;
}

/** Superseded versions that are still kept, ascending, without the current one. One LIST per 1000. */
export async function keptVersions(
  store: ObjectStore,
  orgId: string,
  options: CallOptions = {},
): Promise<number[]> {
  const prefix = manifestsPrefix(orgId);
  const versions: number[] = [];
  for await (const page of pagesOf(store, { prefix, signal: options.signal })) {
    for (const { key } of page.items) {
      const match = /^(\d+)\.json$/.exec(key.slice(prefix.length));
      if (match !== null) versions.push(Number(match[1]));
    }
  }
  return versions.sort((a, b) => a - b);
}

/** The manifest of that version. Throws VERSION_NOT_FOUND. By number: two GETs; by time: a LIST and log₂(kept) GETs more. */
export async function findVersion(
  store: ObjectStore,
  orgId: string,
  query: VersionQuery,
  options: CallOptions = {},
): Promise<Version> {
  const current = await readManifest(store, orgId, options);
  if (current === 'unchanged' || current.manifest === null) {
    throw new RunfoldError('VERSION_NOT_FOUND', `Org ${orgId} has no manifest yet.`, {
      hint: 'Run `runfold compact` first.',
    });
  }
  const newest: Version = {
    version: current.manifest.version,
    committed_at: current.committedAt,
    manifest: current.manifest,
  };
  return 'version' in query
    ? byNumber(store, orgId, newest, query.version, options)
    : byTime(store, orgId, newest, query.asOf, options);
}

async function byNumber(
  store: ObjectStore,
  orgId: string,
  newest: Version,
  version: number,
  options: CallOptions,
): Promise<Version> {
  if (!Number.isSafeInteger(version) || version < 1) throw new InputError(`${version} is not a version.`);
  if (version === newest.version) return newest;
  const manifest = version < newest.version ? await readManifestCopy(store, orgId, version, options) : null;
  if (manifest === null || manifest.lost) throw notKept(orgId, `version ${version}`, manifest);
  return { version, committed_at: null, manifest };
}

async function byTime(
  store: ObjectStore,
  orgId: string,
  newest: Version,
  asOf: number,
  options: CallOptions,
): Promise<Version> {
  if (!Number.isFinite(asOf)) throw new InputError('asOf is not a time.');
  if (newest.committed_at !== null && newest.committed_at <= asOf) return newest;
  const chain = unbroken(await keptVersions(store, orgId, options), newest.version);
  /** When `chain[i]` was committed is written in the version after it; null: nowhere. */
  const committedAt = async (i: number): Promise<number | null> => {
    const after =
      i + 1 < chain.length ? await readManifestCopy(store, orgId, chain[i]! + 1, options) : newest.manifest;
    return after?.previous_committed_at ?? null;
  };
  let [low, high] = [0, chain.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    let known = middle;
    let at = await committedAt(known);
    while (at === null && known + 1 < high) at = await committedAt(++known);
    if (at !== null && at <= asOf) low = known + 1;
    else high = middle;
  }
  // Between two commits whose times are known lies one answer; where the second is not, any of two would be a guess.
  const isExact = low === chain.length || (await committedAt(low)) !== null;
  const version = isExact ? chain[low - 1] : undefined;
  const manifest = version === undefined ? null : await readManifestCopy(store, orgId, version, options);
  if (version === undefined || manifest === null || manifest.lost)
    throw notKept(orgId, new Date(asOf).toISOString(), manifest);
  return { version, committed_at: await committedAt(low - 1), manifest };
}

/** The kept versions that lead up to the current one. What lies below a gap was current at a time that nobody knows. */
function unbroken(kept: readonly number[], current: number): number[] {
  const older = kept.filter((version) => version < current);
  let from = older.length;
  while (from > 0 && older[from - 1] === current - 1 - (older.length - from)) from--;
  return older.slice(from);
}

function notKept(orgId: string, what: string, manifest: Manifest | null): RunfoldError {
  const why = manifest?.lost ? `: the manifest of version ${manifest.version} was lost before a repair` : '';
  return new RunfoldError('VERSION_NOT_FOUND', `Org ${orgId} keeps nothing of ${what}${why}.`, {
    hint: `\`runfold history --org ${orgId}\` lists the versions that can be read; \`runfold policy set --time-travel\` keeps versions for longer.`,
  });
}
