import { type OrgCatalog, openCatalog } from '../src/catalog/catalog.ts';
import { isPast, stateHashOf } from '../src/catalog/fold.ts';
import type { CatalogState } from '../src/catalog/state.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, reasonFor } from '../src/core/errors.ts';
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
import { type Rows, RowsBuilder } from '../src/snapshot/rows.ts';
import {
  garbagePrefix,
  logPrefix,
  manifestKey,
  manifestsPrefix,
  orgPrefix,
  partsPrefix,
  runKey,
} from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
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
  /** `runs`: canonical ones that can be read and were not deleted; `rows`: those that the catalog shows. */
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
  const { org_id: orgId, problems, checked } = verified;
  const manifests: Manifests = { current: null, copies: new Map() };
  const bad = await unreadableObjects(context, orgId, {
    signal,
    manifests,
    onObject: (bytes) => {
      checked.objects++;
      checked.bytes += bytes;
      onProgress?.(checked);
    },
  });
  // What `repair` released is garbage that waits: nobody needs it to be whole.
  const released = new Set(manifests.current?.quarantine.filter((one) => one.released).map(({ key }) => key));
  for (const { meta, error } of bad) {
    if (!released.has(meta.key))
      problems.push({ law: 8, key: meta.key, message: reasonFor(meta.key, error) });
  }
  return manifests;
}

/** An object whose bytes are not what its name promises, and why. */
export interface UnreadableObject {
  meta: ObjectMeta;
  error: unknown;
}

/** Reads and decodes every object under the org's prefix: one GET each. */
export async function unreadableObjects(
  { store, limits }: CompactorContext,
  orgId: string,
  options: {
    signal?: AbortSignal | undefined;
    manifests?: Manifests;
    onObject?: (bytes: number) => void;
  } = {},
): Promise<UnreadableObject[]> {
  const { signal, manifests = { current: null, copies: new Map() }, onObject } = options;
  const bad: UnreadableObject[] = [];
  const checkOne = async (meta: ObjectMeta, stop: AbortSignal) => {
    try {
      const got = await store.get(meta.key, { signal: stop });
      // Collected since it was listed: nothing to check.
      if (got.outcome !== 'found') return;
      onObject?.(got.body.length);
      await decodeObject(orgId, meta.key, got.body, manifests);
    } catch (error) {
      if (stop.aborted) throw error;
      bad.push({ meta, error });
    }
  };
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: orgPrefix(orgId), pageToken, signal });
    await mapParallel(page.items, limits.parallelMax, checkOne, signal);
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return bad.sort((a, b) => (a.meta.key < b.meta.key ? -1 : 1));
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
      else if ((await decodeAnyPart(orgId, objectOf(orgId, part), bytes)).hex() !== part.state_hash) {
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

/** Law 2: what a refresh shows, history included, is the projection of all canonical runs that the horizon left. */
async function verifyRows(
  context: CompactorContext,
  verified: Verified,
  { signal, onProgress }: VerifyOptions,
): Promise<void> {
  const { org_id: orgId, problems, checked } = verified;
  const { store, clock, limits, runs } = context;
  const catalog = openCatalog(store, { clock, limits, runs }).org(orgId);
  let shown: Rows;
  try {
    shown = await allRows(await catalog.refresh({ signal }), signal);
  } catch (error) {
    if (signal?.aborted) throw error;
    problems.push({ law: 2, message: `the catalog cannot be read: ${errorMessage(error)}` });
    return;
  }
  checked.rows = shown.length;
  const seen = new Uint8Array(shown.length);
  const suspects: string[] = [];
  for await (const scanned of runs.scan({ orgId, signal })) {
    if ('problem' in scanned) {
      problems.push({ law: 8, key: scanned.key, message: reasonFor(scanned.key, scanned.problem) });
      continue;
    }
    // As repair counts them: a deleted run's stub is none any more.
    if (scanned.run.deleted_at === null) checked.runs++;
    if (checked.runs % 1000 === 0) onProgress?.(checked);
    const at = shown.indexOf(scanned.run.run_id);
    if (at >= 0) seen[at] = 1;
    const row = at < 0 ? null : shown.get(at);
    if (difference(scanned.run, row, catalog.state) !== null) suspects.push(scanned.run.run_id);
  }
  for (let i = 0; i < shown.length; i++) if (seen[i] === 0) suspects.push(shown.runId(i));
  problems.push(...(await lookAgain(context, catalog, shown, suspects, signal)));
}

async function allRows(catalog: OrgCatalog, signal: AbortSignal | undefined): Promise<Rows> {
  const builder = new RowsBuilder(catalog.orgId);
  for await (const row of catalog.runs({}, signal ? { signal } : {})) builder.add(row);
  return builder.build();
}

/** A writer may have been between the canonical run and its record; what stays is a problem. */
async function lookAgain(
  context: CompactorContext,
  catalog: OrgCatalog,
  shown: Rows,
  runIds: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Problem[]> {
  let open = runIds;
  let found: Problem[] = [];
  for (let round = 0; round < 3 && open.length > 0; round++) {
    if (round > 0) await context.clock.sleep(1_000, signal);
    found = [];
    const stored = await mapParallel(
      open,
      context.limits.parallelMax,
      // An unreadable canonical run was reported by the scan.
      (runId, stop) => context.runs.read(catalog.orgId, runId, stop).catch(() => 'unreadable' as const),
      signal,
    );
    const { state } = await catalog.refresh({ signal });
    open = open.filter((runId, i) => {
      const canonical = stored[i]!;
      if (canonical === 'unreadable') return false;
      const row = findRow(state, shown, runId);
      const message =
        canonical === null ? row && 'the row has no canonical run' : difference(canonical.run, row, state);
      if (message !== null) found.push({ law: 2, run_id: runId, key: runKey(catalog.orgId, runId), message });
      return message !== null;
    });
  }
  return found;
}

/** From head and tail as they are now, else from what was shown: sealed rows do not change. */
function findRow(state: CatalogState, shown: Rows, runId: string): Projection | null {
  for (const { rows, replaced } of state.segments) {
    const at = rows.indexOf(runId);
    if (at >= 0 && (replaced === null || replaced[at] === 0)) return rows.get(at);
  }
  if (state.overlay.facts.get(runId)?.kind === 'delete') return null;
  const at = shown.indexOf(runId);
  return at < 0 ? null : shown.get(at);
}

/** Why `row` is not what the canonical run projects to; null when it is, heartbeats and clean-up in between allowed. */
function difference(run: Run, row: Projection | null, { manifest }: CatalogState): string | null {
  if (run.deleted_at !== null) return row === null ? null : 'the run was deleted, but has a row';
  if (row === null) return isPast(run, manifest?.horizon ?? null) ? null : 'the canonical run has no row';
  const expected = project(run);
  if (row.revision === run.revision)
    return sameRow(expected, row) ? null : 'the row differs from the canonical run';
  if (row.revision > run.revision)
    return `the row is at revision ${row.revision}, the canonical run at ${run.revision}`;
  if (row.revision < run.indexed_revision)
    return `the row is at revision ${row.revision}; ${run.indexed_revision} should be visible`;
  const { revision, updated_at, heartbeat_at, changed_at, artifacts } = row;
  return sameRow({ ...expected, revision, updated_at, heartbeat_at, changed_at, artifacts }, row)
    ? null
    : 'the row differs by more than heartbeats and the clean-up of artifacts';
}

function sameRow(expected: Projection, row: Projection): boolean {
  const { projection_version } = row;
  return JSON.stringify({ ...expected, projection_version }) === JSON.stringify(row);
}
