import { mapParallel } from '../src/core/concurrency.ts';
import type { Manifest } from '../src/manifest/manifest.ts';
import { removeTraces } from '../src/traces/remove.ts';
import type { CompactorContext } from './context.ts';

/**
 * Removes the canonical stubs of deleted runs whose tombstone the committed version `after` no longer has: nothing
 * remembers the run any more, so its id may be used again. What fails here stays as a stub, which is harmless.
 */
export async function removeStubs(
  { store, runs, limits }: CompactorContext,
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
      // The stub is the last that knows of them; whoever deleted the run may have died before it removed them.
      await removeTraces({ store, limits }, stored.run, stop);
      await runs.remove(after.org_id, run_id, stored.token, stop);
    },
    signal,
  );
}
