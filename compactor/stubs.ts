import { mapParallel } from '../src/core/concurrency.ts';
import type { Manifest, Tombstone } from '../src/manifest/manifest.ts';
import { removeTraces } from '../src/traces/remove.ts';
import type { CompactorContext } from './context.ts';

/**
 * Removes the canonical stubs of deleted runs whose tombstone the committed version `after` no longer has: nothing
 * remembers the run any more, so its id may be used again. What fails here stays as a stub, which is harmless.
 */
export async function removeStubs(
  { runs, limits }: CompactorContext,
  before: Manifest | null,
  after: Manifest,
  signal?: AbortSignal,
): Promise<void> {
  const kept = new Set(after.tombstones.map(({ run_id }) => run_id));
  const gone = (before?.tombstones ?? []).filter(({ run_id }) => !kept.has(run_id));
  await mapParallel(
    gone,
    limits.parallelMax,
    async ({ run_id }, stop) => {
      const stored = await runs.read(after.org_id, run_id, stop);
      if (stored === null || stored.run.deleted_at === null) return;
      await runs.remove(after.org_id, run_id, stored.token, stop);
    },
    signal,
  );
}

/**
 * Removes the logs of deleted runs whose tombstones may go, and gives those where that did not succeed: they must stay,
 * since the tombstone leads to the stub, and the stub is the last that knows of the logs. Whoever deleted the run may
 * have died before it removed them. 1 GET each, and what `removeTraces` costs.
 */
export async function withLogs(
  { store, runs, limits }: Pick<CompactorContext, 'store' | 'runs' | 'limits'>,
  orgId: string,
  tombstones: readonly Tombstone[],
): Promise<Tombstone[]> {
  const kept = await mapParallel(tombstones, limits.parallelMax, async (tombstone) => {
    try {
      const stored = await runs.read(orgId, tombstone.run_id);
      if (stored !== null) await removeTraces({ store, limits }, stored.run);
      return null;
    } catch {
      return tombstone;
    }
  });
  return kept.filter((tombstone) => tombstone !== null);
}
