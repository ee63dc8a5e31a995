import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError } from '../src/core/errors.ts';
import { logPrefix, manifestsPrefix, partsPrefix } from '../src/store/keys.ts';
import type { DeleteOutcome } from '../src/store/object-store.ts';
import { listAll } from '../src/store/pages.ts';
import type { CompactorContext } from './context.ts';
import { type Found, garbageList, type WaitingGarbage } from './plan.ts';

export interface Collected {
  objects: number;
  lists: number;
  /** Lists whose grace is not over, or of which something could not be deleted; and those of them with entries. */
  listsWaiting: number;
  entryListsWaiting: number;
}

export interface CollectOptions {
  signal?: AbortSignal | undefined;
}

/**
 * Deletes what committed versions listed as garbage, once each list's grace is over by the server's clock, and
 * then the list itself. Everything is deleted by generation; a list with any doubt stays for the next pass. A
 * collector that slept for a week does no harm: what a committed version gave up is never needed again.
 */
export async function collect(
  context: CompactorContext,
  found: Found,
  { signal }: CollectOptions = {},
): Promise<Collected> {
  const collected: Collected = { objects: 0, lists: 0, listsWaiting: 0, entryListsWaiting: 0 };
  for (const waiting of found.garbage) {
    const done =
      dueAt(context, found, waiting) <= found.listedAt &&
      (await collectList(context, found.orgId, waiting, collected, signal).catch(falseIfCorrupt));
    if (done) collected.lists++;
    else {
      collected.listsWaiting++;
      if (waiting.kind === 'entries') collected.entryListsWaiting++;
    }
  }
  return collected;
}

/** A corrupt list is never guessed at: it stays until `repair`. */
function falseIfCorrupt(error: unknown): false {
  if (error instanceof CorruptError) return false;
  throw error;
}

export interface GarbageObject {
  key: string;
  kind: WaitingGarbage['kind'];
  /** Server time from which it may be deleted, ms. */
  due_at: number;
  due: boolean;
  reason: string;
}

/**
 * What `collect` would delete now or later, and why; nothing is changed. What a collector that was killed has deleted
 * already is not among it. One GET per waiting list, and one LIST per 1000 entries, parts and copies.
 */
export async function inspectGarbage(
  context: CompactorContext,
  found: Found,
  { signal }: CollectOptions = {},
): Promise<GarbageObject[]> {
  const objects: GarbageObject[] = [];
  const present = found.garbage.length === 0 ? new Set() : await keysOf(context, found.orgId, signal);
  const quarantine = found.current.manifest?.quarantine ?? [];
  const released = new Set(quarantine.filter((one) => one.released).map(({ key }) => key));
  for (const waiting of found.garbage) {
    const due_at = dueAt(context, found, waiting);
    const list = await garbageList(context.store, found.orgId, waiting, signal).catch(reasonIfCorrupt);
    if (typeof list === 'string') {
      const reason = `kept until \`runfold repair\`: ${list}`;
      objects.push({ key: waiting.meta.key, kind: waiting.kind, due_at, due: false, reason });
      continue;
    }
    if (list === null) continue;
    const verb = waiting.kind === 'entries' ? 'folded' : 'superseded';
    const reasonOf = (key: string) => {
      if (key === waiting.meta.key) return 'the list of the others';
      if (released.has(key)) return `corrupt, and made good by the repair that is version ${list.version}`;
      return `${verb} by version ${list.version}`;
    };
    const due = due_at <= found.listedAt;
    for (const { key } of [...list.objects, { key: waiting.meta.key }]) {
      // A repair may have discarded it, or a collector that died have deleted it.
      if (key !== waiting.meta.key && !present.has(key)) continue;
      objects.push({ key, kind: waiting.kind, due_at, due, reason: reasonOf(key) });
    }
  }
  return objects;
}

/** What garbage lists name: entries, parts and copies of manifests. */
async function keysOf(
  { store }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<Set<string>> {
  const prefixes = [logPrefix(orgId), partsPrefix(orgId), manifestsPrefix(orgId)];
  const listed = await Promise.all(prefixes.map((prefix) => listAll(store, { prefix, signal })));
  return new Set(listed.flat().map(({ key }) => key));
}

function reasonIfCorrupt(error: unknown): string {
  if (error instanceof CorruptError) return error.message;
  throw error;
}

/** Superseded snapshots stay readable for as long as the policy wants to travel back. */
function dueAt(
  { limits }: CompactorContext,
  { current }: Found,
  { kind, committedAt }: WaitingGarbage,
): number {
  const travelMs = current.manifest?.policy.time_travel_ms ?? 0;
  const grace = kind === 'entries' ? limits.entryGraceMs : Math.max(limits.partGraceMs, travelMs);
  return committedAt + grace + limits.serverTimeResolutionMs;
}

async function collectList(
  context: CompactorContext,
  orgId: string,
  waiting: WaitingGarbage,
  collected: Collected,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { store, limits } = context;
  const list = await garbageList(store, orgId, waiting, signal);
  if (list === null) return true;
  const answers = await mapParallel(
    list.objects,
    limits.parallelMax,
    ({ key, generation }, stop) => removeObject(context, key, generation, stop),
    signal,
  );
  collected.objects += answers.filter(({ outcome }) => outcome === 'deleted').length;
  if (answers.some(({ outcome }) => outcome === 'unknown')) return false;
  const { outcome } = await removeObject(context, waiting.meta.key, waiting.meta.generation, signal);
  return outcome !== 'unknown';
}

/** An object too damaged to tell its generation is overwritten first: it is garbage, and what is there is lost anyway. */
export async function removeObject(
  { store }: CompactorContext,
  key: string,
  generation: string,
  signal: AbortSignal | undefined,
): Promise<DeleteOutcome> {
  try {
    return await store.delete(key, { ifGeneration: generation, signal });
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    const put = await store.put(key, new Uint8Array(), { signal });
    if (put.outcome !== 'written') return { outcome: 'unknown', cause: error };
    return store.delete(key, { ifGeneration: put.meta.generation, signal });
  }
}
