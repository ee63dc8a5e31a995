import { mapParallel } from '../core/concurrency.ts';
import { OutcomeUnknownError } from '../core/errors.ts';
import type { Run } from '../runs/run.ts';
import { archivesPrefix, chunksPrefix } from '../store/keys.ts';
import type { DeleteOutcome } from '../store/object-store.ts';
import { pagesOf } from '../store/pages.ts';
import type { TraceContext } from './context.ts';

type RemoveContext = Pick<TraceContext, 'store' | 'limits'>;

/**
 * Removes chunks and archives of a deleted run. May be repeated; what fails is done before the compactor forgets the
 * run. Throws where the store did not confirm that an object is gone. 1 LIST per 1000 chunks, 1 HEAD per archive, 1 DELETE per object. Runs without a trace cost nothing.
 */
export async function removeTraces(context: RemoveContext, run: Run, signal?: AbortSignal): Promise<number> {
  const traces = Object.values(run.traces ?? {});
  if (traces.length === 0 || run.deleted_at === null) return 0;
  const archives = traces.flatMap(({ archive }) => archive?.uri ?? []);
  const chunks = await removeChunks(context, run, signal);
  return chunks + (await removeArchives(context, run.org_id, archives, signal));
}

async function removeChunks(
  { store, limits }: RemoveContext,
  { org_id, run_id }: Run,
  signal: AbortSignal | undefined,
): Promise<number> {
  let removed = 0;
  for await (const page of pagesOf(store, { prefix: chunksPrefix(org_id, run_id), signal })) {
    const answers = await mapParallel(
      page.items,
      limits.parallelMax,
      ({ key, generation }, stop) => store.delete(key, { ifGeneration: generation, signal: stop }),
      signal,
    );
    removed += confirmed(answers);
  }
  return removed;
}

/** Only objects of runfold's own naming: an imported archive belongs to whoever wrote it. */
export async function removeArchives(
  { store, limits }: RemoveContext,
  orgId: string,
  keys: readonly string[],
  signal?: AbortSignal,
): Promise<number> {
  const own = keys.filter((key) => key.startsWith(archivesPrefix(orgId)));
  const gone = await mapParallel(
    own,
    limits.parallelMax,
    async (key, stop) => {
      const meta = await store.head(key, { signal: stop });
      if (meta === null) return { outcome: 'absent' } as const;
      return store.delete(key, { ifGeneration: meta.generation, signal: stop });
    },
    signal,
  );
  return confirmed(gone);
}

/** How many were deleted. */
function confirmed(answers: readonly DeleteOutcome[]): number {
  const unknown = answers.find((answer) => answer.outcome === 'unknown');
  if (unknown !== undefined) {
    const { cause } = unknown;
    throw new OutcomeUnknownError('The store did not confirm that a log is deleted.', { cause });
  }
  return answers.filter(({ outcome }) => outcome === 'deleted').length;
}
