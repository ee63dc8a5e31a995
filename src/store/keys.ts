import { crc32c } from '../core/crc32c.ts';
import { checkId, decodeSegment, encodeSegment, isId, nameSegment } from '../core/ids.ts';
import { uuidv7Floor } from '../core/uuid.ts';

/** Where everything lives (docs/FORMAT.md, ADR 0003). Ids are checked here once more: no unchecked id becomes a key. */

export const RUNS_PREFIX = 'authoritative-runs/runs/';
export const RUN_KEYS_PREFIX = 'authoritative-runs/keys/';
/** What `runfold export legacy` writes, for readers that have not moved yet. */
export const EXPORTS_PREFIX = 'authoritative-runs/catalog/orgs/';
export const ORGS_PREFIX = 'catalog/orgs/';
export const DIRTY_PREFIX = 'catalog/dirty/';
export const DIRTY_SHARDS = 256;
export const TRACES_PREFIX = 'traces/orgs/';

/** Under which every key of runfold lies, whoever owns it. A new prefix belongs under one of them, or comes in here. */
const OWN_ROOTS = ['authoritative-runs', 'catalog', 'traces', 'artifact-versions', 'probe'];

/**
 * Whether a key is one of those that runfold itself writes, of any org: nobody may name one as an object of his own.
 * Some file systems take capitals for the same name.
 */
export function isOwnKey(key: string): boolean {
  return OWN_ROOTS.includes(key.replace(/^\/+/, '').split('/', 1)[0]!.toLowerCase());
}

const org = (orgId: string) => encodeSegment(checkId('org id', orgId));

export function runsPrefix(orgId: string): string {
  return `${RUNS_PREFIX}${org(orgId)}/`;
}

export function runKey(orgId: string, runId: string): string {
  return `${runsPrefix(orgId)}${encodeSegment(checkId('run id', runId))}.json`;
}

/** Who holds a caller's own key. `-` is no queue: ids start with a letter or digit. */
export function runKeyClaimKey(orgId: string, queue: string | null, runKey: string): string {
  const queueSegment = queue === null ? '-' : encodeSegment(checkId('queue', queue));
  return `${RUN_KEYS_PREFIX}${org(orgId)}/${queueSegment}/${encodeSegment(checkId('run key', runKey))}.json`;
}

/** The ids in a canonical run's key; null when the key is none. */
export function parseRunKey(key: string): { orgId: string; runId: string } | null {
  const match = /^authoritative-runs\/runs\/([^/]+)\/([^/]+)\.json$/.exec(key);
  const orgId = match && decodeSegment(match[1]!);
  const runId = match && decodeSegment(match[2]!);
  return isId(orgId) && isId(runId) ? { orgId, runId } : null;
}

export function exportPrefix(orgId: string): string {
  return `${EXPORTS_PREFIX}${org(orgId)}/`;
}

export function exportIndexKey(orgId: string): string {
  return `${exportPrefix(orgId)}index.json`;
}

export function exportedRunKey(orgId: string, runId: string): string {
  return `${exportPrefix(orgId)}runs/${encodeSegment(checkId('run id', runId))}.json`;
}

/** A run once more, under one of its tables. */
export function exportedTableKey(
  orgId: string,
  { namespace, name }: { namespace: string; name: string },
  runId: string,
): string {
  const table = `${nameSegment(namespace)}/${nameSegment(name)}`;
  return `${exportPrefix(orgId)}tables/${table}/${encodeSegment(checkId('run id', runId))}.json`;
}

export function orgPrefix(orgId: string): string {
  return `${ORGS_PREFIX}${org(orgId)}/`;
}

/** The org of a key or prefix under `catalog/orgs/`; null when it is none. */
export function orgOfKey(key: string): string | null {
  if (!key.startsWith(ORGS_PREFIX)) return null;
  const orgId = decodeSegment(key.slice(ORGS_PREFIX.length).split('/', 1)[0]!);
  return isId(orgId) ? orgId : null;
}

export function manifestKey(orgId: string): string {
  return `${orgPrefix(orgId)}manifest.json`;
}

export function manifestsPrefix(orgId: string): string {
  return `${orgPrefix(orgId)}manifests/`;
}

export function manifestCopyKey(orgId: string, version: number): string {
  return `${manifestsPrefix(orgId)}${version}.json`;
}

export function logPrefix(orgId: string): string {
  return `${orgPrefix(orgId)}log/`;
}

export function entryKey(orgId: string, name: string): string {
  return `${logPrefix(orgId)}${name}.json`;
}

/** Inclusive lower bound of all entries named at or after `timeMs`. */
export function entryKeyFloor(orgId: string, timeMs: number): string {
  return `${logPrefix(orgId)}${uuidv7Floor(timeMs)}.json`;
}

/** The uuidv7 in the key of an entry, part, garbage list or archive. */
export function nameOfKey(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1).replace(/\.(json|parquet|zst)$/, '');
}

export function partsPrefix(orgId: string): string {
  return `${orgPrefix(orgId)}snapshots/`;
}

export function partKey(orgId: string, name: string): string {
  return `${partsPrefix(orgId)}${name}.parquet`;
}

export function garbagePrefix(orgId: string): string {
  return `${orgPrefix(orgId)}garbage/`;
}

export function garbageKey(orgId: string, name: string): string {
  return `${garbagePrefix(orgId)}${name}.json`;
}

/** The same org is in the same shard for ever: markers and compactors agree on it. */
export function shardOf(orgId: string): number {
  return crc32c(new TextEncoder().encode(orgId)) % DIRTY_SHARDS;
}

export function dirtyShardPrefix(shard: number): string {
  return `${DIRTY_PREFIX}${shard.toString(16).padStart(2, '0')}/`;
}

export function dirtyKey(orgId: string): string {
  return `${dirtyShardPrefix(shardOf(orgId))}${org(orgId)}`;
}

export function orgOfDirtyKey(key: string): string | null {
  const orgId = decodeSegment(key.slice(key.lastIndexOf('/') + 1));
  return isId(orgId) ? orgId : null;
}

const traces = (orgId: string) => `${TRACES_PREFIX}${org(orgId)}/`;

/** Who is being archived, who has failed. */
export function traceWorkKey(orgId: string): string {
  return `${traces(orgId)}work.json`;
}

/** Of all runs of the org that have chunks; of one; of one attempt. */
export function chunksPrefix(orgId: string, runId?: string, attempt?: number): string {
  const all = `${traces(orgId)}chunks/`;
  if (runId === undefined) return all;
  const run = `${all}${encodeSegment(checkId('run id', runId))}/`;
  return attempt === undefined ? run : `${run}${attempt}/`;
}

/** The run and the attempt of a chunk's key, or the run of a prefix; null when it is none of this org. */
export function parseChunksKey(orgId: string, key: string): { runId: string; attempt: number | null } | null {
  const prefix = chunksPrefix(orgId);
  if (!key.startsWith(prefix)) return null;
  const [segment, attempt] = key.slice(prefix.length).split('/');
  const runId = decodeSegment(segment ?? '');
  if (!isId(runId)) return null;
  return { runId, attempt: /^[1-9]\d{0,8}$/.test(attempt ?? '') ? Number(attempt) : null };
}

export function archivesPrefix(orgId: string): string {
  return `${traces(orgId)}archives/`;
}

/** `name` is a uuidv7 of the server's time: archives list by age. */
export function archiveKey(orgId: string, name: string): string {
  return `${archivesPrefix(orgId)}${name}.zst`;
}
