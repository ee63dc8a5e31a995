import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError, FormatError } from '../src/core/errors.ts';
import type { Manifest, Tombstone } from '../src/manifest/manifest.ts';
import { objectsOf } from '../src/runs/open.ts';
import type { Run } from '../src/runs/run.ts';
import { removeTraces } from '../src/traces/remove.ts';
import { decodeFlat, flatKey } from './backfill-legacy.ts';
import type { CompactorContext } from './context.ts';

/**
 * Removes the canonical stubs of deleted runs whose tombstone the committed version `after` no longer has: nothing
 * remembers the run any more, so its id may be used again. What fails here stays as a stub, which is harmless. So does
 * the stub of a run whose flat copy is still there (ADR 0003): without it the next backfill would bring the run back.
 */
export async function removeStubs(
  context: CompactorContext,
  before: Manifest | null,
  after: Manifest,
  signal?: AbortSignal,
): Promise<void> {
  const { runs, limits } = context;
  const kept = new Set(after.tombstones.map(({ run_id }) => run_id));
  const gone = (before?.tombstones ?? []).filter(({ run_id }) => !kept.has(run_id));
  await mapParallel(
    gone,
    limits.parallelMax,
    async ({ run_id }, stop) => {
      const stored = await runs.read(after.org_id, run_id, stop);
      if (stored === null || stored.run.deleted_at === null) return;
      if (await hasFlatCopy(context, stored.run, stop)) return;
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

/** One GET, which finds nothing but where an older deployment left flat runs. One that cannot be read may yet be mended. */
async function hasFlatCopy(
  { runs, store }: CompactorContext,
  { org_id, run_id }: Run,
  signal: AbortSignal,
): Promise<boolean> {
  const key = flatKey(run_id);
  const got = await (objectsOf(runs, store) ?? store).get(key, { signal });
  if (got.outcome !== 'found') return false;
  try {
    return decodeFlat(key, got.body).org_id === org_id;
  } catch (error) {
    if (error instanceof CorruptError || error instanceof FormatError) return true;
    throw error;
  }
}
