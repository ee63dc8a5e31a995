import { mapParallel } from '../core/concurrency.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { type IntentRecord, recordOf } from '../runs/record.ts';
import type { RunStore } from '../runs/run-store.ts';
import type { Rows } from '../snapshot/rows.ts';
import type { Fill, LoadContext } from './context.ts';
import { type Overlay, pendingIntents } from './fold.ts';

/**
 * Reads the canonical run behind each intent that nothing has confirmed and no compactor has looked into. What a
 * compactor saw says nothing of an entry that came after its listing: somebody may be trying again.
 */
export async function resolveIntents(
  context: LoadContext,
  orgId: string,
  base: Rows,
  overlay: Overlay,
  manifest: Manifest | null,
  fill: Fill,
  signal: AbortSignal | undefined,
): Promise<void> {
  const looked = new Map(manifest?.intents.map((intent) => [intent.run_id, intent]));
  const open = pendingIntents(base, overlay).filter(({ row: { run_id, revision } }) => {
    const { revision: known = 0, looked_at = 0 } = looked.get(run_id) ?? {};
    const announcedAt = overlay.announcedAt.get(run_id) ?? Infinity;
    return known < revision || announcedAt >= looked_at - context.limits.entryLagMaxMs;
  });
  if (!context.resolveIntents || open.length === 0) return fill({ intentsAsked: 0 });
  fill({ intentsAsked: open.length, intentRounds: Math.ceil(open.length / context.limits.parallelMax) });
  await believe(context.runs, orgId, open, overlay, context.limits.parallelMax, signal);
}

/** The canonical run decides: what is there becomes a fact; where nothing is there the intent stays open. */
export async function believe(
  runs: RunStore,
  orgId: string,
  intents: readonly IntentRecord[],
  overlay: Overlay,
  parallel: number,
  signal?: AbortSignal,
): Promise<void> {
  await mapParallel(
    intents,
    parallel,
    async ({ row }, stop) => {
      const stored = await runs.read(orgId, row.run_id, stop);
      if (stored !== null) overlay.apply(recordOf(stored.run));
    },
    signal,
  );
}
