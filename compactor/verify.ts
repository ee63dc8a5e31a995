import { type OrgCatalog, openCatalog } from '../src/catalog/catalog.ts';
import { stateHashOf } from '../src/catalog/fold.ts';
import type { CatalogState } from '../src/catalog/state.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage } from '../src/core/errors.ts';
import { decodeEntry } from '../src/log/entry.ts';
import { decodeGarbage } from '../src/manifest/garbage.ts';
import { decodeManifest, type Manifest } from '../src/manifest/manifest.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { type Projection, project } from '../src/runs/projection.ts';
import type { Run } from '../src/runs/run.ts';
import { decodePart } from '../src/snapshot/codec.ts';
import { isHistory } from '../src/snapshot/history-directory.ts';
import { decodeHistory } from '../src/snapshot/history-read.ts';
import { objectOf, partBytes } from '../src/snapshot/parts.ts';
import {
  garbagePrefix,
  logPrefix,
  manifestKey,
  manifestsPrefix,
  orgPrefix,
  partsPrefix,
  runKey,
} from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';

export interface Problem {
  law: 2 | 5 | 8;
  key?: string;
  run_id?: string;
  message: string;
}

export interface Verified {
  org_id: string;
  problems: Problem[];
  checked: { objects: number; bytes: number; manifests: number; runs: number; rows: number };
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((checked: Verified['checked']) => void) | undefined;
}

/**
 * Holds laws 8, 5 and 2 against real storage: reads every object of the org, and every canonical run. Writers and
 * compactors may go on meanwhile: what looks wrong is looked at again before it is called a problem.
 */
export async function verifyOrg(
  context: CompactorContext,
  orgId: string,
  options: VerifyOptions = {},
): Promise<Verified> {
  const verified: Verified = {
    org_id: orgId,
    problems: [],
    checked: { objects: 0, bytes: 0, manifests: 0, runs: 0, rows: 0 },
  };
  const manifests = await verifyObjects(context, verified, options);
  await verifyChain(context, verified, manifests, options);
  await verifyRows(context, verified, options);
  return verified;
}

interface Manifests {
  current: Manifest | null;
  copies: Map<number, Manifest>;
}

/** Law 8: every object is whole and says what its name promises. */
async function verifyObjects(
  context: CompactorContext,
  verified: Verified,
  { signal, onProgress }: VerifyOptions,
): Promise<Manifests> {
  const { store, limits } = context;
  const { org_id: orgId, problems, checked } = verified;
  const manifests: Manifests = { current: null, copies: new Map() };
  const checkOne = async (key: string, stop: AbortSignal) => {
    try {
      const got = await store.get(key, { signal: stop });
      // Collected since it was listed: nothing to check.
      if (got.outcome !== 'found') return;
      checked.objects++;
      checked.bytes += got.body.length;
      await decodeObject(orgId, key, got.body, manifests);
    } catch (error) {
      if (stop.aborted) throw error;
      problems.push({ law: 8, key, message: errorMessage(error) });
    }
    onProgress?.(checked);
  };
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: orgPrefix(orgId), pageToken, signal });
    await mapParallel(page.items, limits.parallelMax, ({ key }, stop) => checkOne(key, stop), signal);
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return manifests;
}

async function decodeObject(
  orgId: string,
  key: string,
  body: Uint8Array,
  manifests: Manifests,
): Promise<void> {
  if (key === manifestKey(orgId)) manifests.current = decodeManifest(key, orgId, body);
  else if (key.startsWith(manifestsPrefix(orgId))) {
    const copy = decodeManifest(key, orgId, body);
    manifests.copies.set(copy.version, copy);
    if (!key.endsWith(`/${copy.version}.json`)) throw new Error(`it holds version ${copy.version}`);
  } else if (key.startsWith(logPrefix(orgId))) decodeEntry(key, orgId, body);
  else if (key.startsWith(garbagePrefix(orgId))) decodeGarbage(key, orgId, body);
  else if (key.startsWith(partsPrefix(orgId))) await decodeAnyPart(orgId, key, body);
  else throw new Error('no object of this name belongs to an org');
}

async function decodeAnyPart(orgId: string, key: string, body: Uint8Array): Promise<StateHash> {
  if (!isHistory(body)) return stateHashOf(await decodePart(key, body));
  const state = StateHash.empty();
  for (const { history } of decodeHistory(key, orgId, body)) {
    const { rows } = history;
    for (let i = 0; i < rows.length; i++)
      if (history.isPrimary(i)) state.add(rows.runId(i), rows.revision(i));
  }
  return state;
}

/** Law 5: versions rise by one, each state is the previous one plus what its fold says, and the rows are that state. */
async function verifyChain(
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
  const oldest = Math.min(...chain.keys());
  for (let version = oldest + 1; version <= current.version; version++) {
    const [before, after] = [chain.get(version - 1), chain.get(version)];
    if (after === undefined)
      problem(`version ${version} is missing between ${oldest} and ${current.version}`);
    if (before !== undefined && after !== undefined && !follows(before, after)) {
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
      else if ((await decodeAnyPart(orgId, objectOf(orgId, part), bytes)).hex() !== part.state_hash) {
        problem(`part ${part.name} does not hold the rows of its state hash`);
      }
    } catch (error) {
      problems.push({ law: 8, key: manifestKey(orgId), message: errorMessage(error) });
    }
  }
  const sum = current.parts.reduce(
    (state, part) => state.plus(StateHash.parse(part.state_hash)),
    StateHash.empty(),
  );
  if (sum.hex() !== current.state_hash) problem('the state hash is not the sum of those of its parts');
  for (const { key, reason } of current.quarantine)
    problems.push({ law: 8, key, message: `in quarantine: ${reason}` });
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

/** Law 2: what a refresh shows is the projection of all canonical runs. */
async function verifyRows(
  context: CompactorContext,
  verified: Verified,
  { signal, onProgress }: VerifyOptions,
): Promise<void> {
  const { org_id: orgId, problems, checked } = verified;
  const catalog = openCatalog(context.store, {
    clock: context.clock,
    limits: context.limits,
    runs: context.runs,
  }).org(orgId);
  let state: CatalogState;
  try {
    ({ state } = await catalog.refresh({ signal }));
  } catch (error) {
    if (signal?.aborted) throw error;
    problems.push({ law: 2, message: `the catalog cannot be read: ${errorMessage(error)}` });
    return;
  }
  checked.rows = state.rowCount;
  const seen = new Set<string>();
  const suspects = new Set<string>();
  for await (const scanned of context.runs.scan({ orgId, signal })) {
    checked.runs++;
    if (checked.runs % 1000 === 0) onProgress?.(checked);
    if ('problem' in scanned) {
      problems.push({ law: 8, key: scanned.key, message: errorMessage(scanned.problem) });
      continue;
    }
    seen.add(scanned.run.run_id);
    if (difference(scanned.run, findRow(state, scanned.run.run_id)) !== null)
      suspects.add(scanned.run.run_id);
  }
  for (const { rows, i } of standingRows(state)) if (!seen.has(rows.runId(i))) suspects.add(rows.runId(i));
  for (const message of await suspicions(context, catalog, [...suspects], signal)) problems.push(message);
}

function* standingRows(state: CatalogState) {
  for (const { rows, replaced } of state.segments) {
    for (let i = 0; i < rows.length; i++) if (replaced === null || replaced[i] === 0) yield { rows, i };
  }
}

/** Looks again, because a writer may have been between the canonical run and its record; what stays is a problem. */
async function suspicions(
  context: CompactorContext,
  catalog: OrgCatalog,
  runIds: string[],
  signal: AbortSignal | undefined,
): Promise<Problem[]> {
  let open = runIds;
  let found: Problem[] = [];
  for (let round = 0; round < 3 && open.length > 0; round++) {
    if (round > 0) await context.clock.sleep(1_000, signal);
    found = [];
    const runs = await mapParallel(
      open,
      context.limits.parallelMax,
      (runId, stop) =>
        context.runs.read(catalog.orgId, runId, stop).catch((problem: unknown) => ({ problem })),
      signal,
    );
    const { state } = await catalog.refresh({ signal });
    open = open.filter((runId, i) => {
      const stored = runs[i]!;
      // An unreadable canonical run was reported by the scan.
      if (stored !== null && 'problem' in stored) return false;
      const row = findRow(state, runId);
      const message =
        stored === null
          ? row === null
            ? null
            : 'the row has no canonical run'
          : difference(stored.run, row);
      if (message !== null) found.push({ law: 2, run_id: runId, key: runKey(catalog.orgId, runId), message });
      return message !== null;
    });
  }
  return found;
}

function findRow(state: CatalogState, runId: string): Projection | null {
  for (const { rows, replaced } of state.segments) {
    const at = rows.indexOf(runId);
    if (at >= 0 && (replaced === null || replaced[at] === 0)) return rows.get(at);
  }
  return null;
}

/** Why `row` is not what the canonical run projects to; null when it is, heartbeats in between allowed. */
function difference(run: Run, row: Projection | null): string | null {
  if (run.deleted_at !== null) return row === null ? null : 'the run was deleted, but has a row';
  if (row === null) return 'the canonical run has no row';
  const expected = project(run);
  if (row.revision === run.revision)
    return sameRow(expected, row) ? null : 'the row differs from the canonical run';
  if (row.revision > run.revision)
    return `the row is at revision ${row.revision}, the canonical run at ${run.revision}`;
  if (row.revision < run.indexed_revision)
    return `the row is at revision ${row.revision}; ${run.indexed_revision} should be visible`;
  const { revision, updated_at, heartbeat_at } = row;
  return sameRow({ ...expected, revision, updated_at, heartbeat_at }, row)
    ? null
    : 'the row differs by more than heartbeats';
}

function sameRow(expected: Projection, row: Projection): boolean {
  const { projection_version } = row;
  return JSON.stringify({ ...expected, projection_version }) === JSON.stringify(row);
}
