import { mapParallel } from '../core/concurrency.ts';
import { RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../manifest/manifest-store.ts';
import { partKey, partsPrefix } from '../store/keys.ts';
import type { CallOptions, ObjectStore } from '../store/object-store.ts';
import { pagesOf } from '../store/pages.ts';
import { keptVersions } from './versions.ts';

/** How much of a version can still be read: `repair` discards parts that are corrupt, whichever versions name them. */
export interface Readability {
  /** `head`: tables, active runs and lineage, but not the runs of its sealed history. */
  readable: 'all' | 'head' | 'none';
  /** What is missing; null where nothing is. */
  why: string | null;
}

/** Keys of the parts that are objects. One LIST per 1000. Ask for them after the manifests that they are held against. */
export async function presentParts(
  store: ObjectStore,
  orgId: string,
  { signal }: CallOptions = {},
): Promise<ReadonlySet<string>> {
  const keys = new Set<string>();
  for await (const page of pagesOf(store, { prefix: partsPrefix(orgId), signal })) {
    for (const { key } of page.items) keys.add(key);
  }
  return keys;
}

/** `quarantined`: keys that the current version has in quarantine; a part among them is there and cannot be read. */
export function readabilityOf(
  { org_id, parts, lost }: Manifest,
  present: ReadonlySet<string>,
  quarantined: ReadonlySet<string>,
): Readability {
  if (lost) return { readable: 'none', why: 'its manifest was lost before a repair' };
  let readable: Readability['readable'] = 'all';
  const why: string[] = [];
  for (const { name, level, inline } of parts) {
    const key = partKey(org_id, name);
    const isGone = inline === null && !present.has(key);
    if (!isGone && !quarantined.has(key)) continue;
    if (level === 0) readable = 'none';
    else if (readable === 'all') readable = 'head';
    why.push(`${level === 0 ? 'its head' : 'its history part'} ${name} is ${isGone ? 'gone' : 'corrupt'}`);
  }
  return { readable, why: why.length === 0 ? null : why.join('; ') };
}

/**
 * For a version that names parts which are gone: says so, and which versions can be read instead. Requests: GET
 * manifest, LIST copies, LIST parts, and a GET for each of the `versionsToldMax` newest copies.
 */
export async function versionUnreadable(
  store: ObjectStore,
  limits: Limits,
  manifest: Manifest,
  cause: unknown,
  options: CallOptions = {},
): Promise<RunfoldError> {
  const { org_id: orgId, version } = manifest;
  const { current, copies } = await newestVersions(store, limits, orgId, options);
  const present = await presentParts(store, orgId, options);
  const quarantined = new Set(current?.quarantine.map(({ key }) => key));
  const versions = [current, ...copies]
    .filter((one): one is Manifest => one !== null)
    .filter((one) => readabilityOf(one, present, quarantined).readable === 'all')
    .map((one) => one.version);
  const { why } = readabilityOf(manifest, present, quarantined);
  const others =
    versions.length === 0 ? 'No other version can be read.' : `${inWords(versions)} can be read.`;
  return new RunfoldError(
    'SNAPSHOT_EXPIRED',
    `Version ${version} of org ${orgId} cannot be read any more: ${why ?? 'parts of it were collected'}.`,
    {
      hint: `A repair discards corrupt parts, and a collect those of versions that are no longer kept. ${others}`,
      cause,
      details: { version, readable: versions },
    },
  );
}

async function newestVersions(
  store: ObjectStore,
  { versionsToldMax, parallelMax }: Limits,
  orgId: string,
  options: CallOptions,
) {
  const { manifest: current } = (await readManifest(store, orgId, options)) as CurrentManifest;
  const kept = (await keptVersions(store, orgId, options)).filter((version) => version !== current?.version);
  const copies = await mapParallel(
    kept.slice(-versionsToldMax).reverse(),
    parallelMax,
    // One that cannot be read is none that can.
    (version, signal) => readManifestCopy(store, orgId, version, { signal }).catch(() => null),
    options.signal,
  );
  return { current, copies };
}

/** `[6, 5, 4, 1]` is "Versions 6 to 4, 1". */
function inWords(versions: readonly number[]): string {
  const ranges: [from: number, to: number][] = [];
  for (const version of versions) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === version + 1) last[1] = version;
    else ranges.push([version, version]);
  }
  const told = ranges.map(([from, to]) => (from === to ? `${from}` : `${from} to ${to}`)).join(', ');
  return `${versions.length === 1 ? 'Version' : 'Versions'} ${told}`;
}
