import { mapParallel } from '../src/core/concurrency.ts';
import type { CompactorContext } from './context.ts';
import { type Found, garbageList, type WaitingGarbage } from './plan.ts';

export interface Collected {
  objects: number;
  lists: number;
  /** Lists whose grace is not over, or of which something could not be deleted. */
  listsWaiting: number;
}

/**
 * Deletes what committed versions listed as garbage, once each list's grace is over by the server's clock, and
 * then the list itself. Everything is deleted by generation; a list with any doubt stays for the next pass. A
 * collector that slept for a week does no harm: what a committed version gave up is never needed again.
 */
export async function collect(
  context: CompactorContext,
  found: Found,
  signal?: AbortSignal,
): Promise<Collected> {
  const collected: Collected = { objects: 0, lists: 0, listsWaiting: 0 };
  for (const waiting of found.garbage) {
    const done =
      isDue(context, waiting, found.listedAt) &&
      (await collectList(context, found.orgId, waiting, collected, signal));
    if (done) collected.lists++;
    else collected.listsWaiting++;
  }
  return collected;
}

function isDue({ limits }: CompactorContext, { kind, committedAt }: WaitingGarbage, now: number): boolean {
  const grace = kind === 'entries' ? limits.entryGraceMs : limits.partGraceMs;
  return now - committedAt >= grace + limits.serverTimeResolutionMs;
}

async function collectList(
  { store, limits }: CompactorContext,
  orgId: string,
  waiting: WaitingGarbage,
  collected: Collected,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const list = await garbageList(store, orgId, waiting, signal);
  if (list === null) return true;
  const answers = await mapParallel(
    list.objects,
    limits.parallelMax,
    ({ key, generation }, stop) => store.delete(key, { ifGeneration: generation, signal: stop }),
    signal,
  );
  collected.objects += answers.filter(({ outcome }) => outcome === 'deleted').length;
  if (answers.some(({ outcome }) => outcome === 'unknown')) return false;
  const { outcome } = await store.delete(waiting.meta.key, { ifGeneration: waiting.meta.generation, signal });
  return outcome !== 'unknown';
}
