import { mapParallel } from '../src/core/concurrency.ts';
import { uuidv7Floor } from '../src/core/uuid.ts';
import { archiveKey, archivesPrefix, nameOfKey } from '../src/store/keys.ts';
import { pagesOf } from '../src/store/pages.ts';
import { changeWork, type Work } from '../src/traces/work.ts';
import type { ArchivePass } from './archive-pass.ts';

/**
 * Deletes archives that are older than the policy keeps them, at most every `traceRetentionEveryMs`. The horizon is
 * written first: whoever then finds an archive missing knows why. 1 GET, 1 PUT, 1 LIST per 1000 that go, 1 DELETE each.
 */
export async function expireArchives(
  { context, orgId, budget, signal }: ArchivePass,
  work: Work,
  retainMs: number,
): Promise<number> {
  const { store, recorder, limits } = context;
  const now = recorder.now();
  if (work.retained_at !== null && now - work.retained_at < limits.traceRetentionEveryMs) return 0;
  const { archives_horizon, entries } = await changeWork(
    context,
    orgId,
    now,
    (before) => ({
      ...before,
      retained_at: now,
      archives_horizon: Math.max(before.archives_horizon ?? 0, now - retainMs),
    }),
    signal,
  );
  // What a sleeping archiver may yet commit is not old, however old its name is: its log is not archived.
  const pending = new Set(Object.values(entries).flatMap(({ names }) => names));
  let deleted = 0;
  for await (const page of pagesOf(store, {
    prefix: archivesPrefix(orgId),
    end: archiveKey(orgId, uuidv7Floor(archives_horizon!)),
    signal,
  })) {
    const answers = await mapParallel(
      page.items.filter(({ key }) => !pending.has(nameOfKey(key))),
      limits.parallelMax,
      ({ key, generation }, stop) => store.delete(key, { ifGeneration: generation, signal: stop }),
      signal,
    );
    deleted += answers.filter(({ outcome }) => outcome === 'deleted').length;
    if (budget.isOver()) break;
  }
  return deleted;
}
