import { mapParallel } from '../src/core/concurrency.ts';
import { isId } from '../src/core/ids.ts';
import { uuidv7Floor, uuidv7Time } from '../src/core/uuid.ts';
import { traceOf } from '../src/runs/traces.ts';
import { archiveKey, archivesPrefix, nameOfKey } from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import { changeWork } from '../src/traces/work.ts';
import { nameTtlMs } from './archive-entries.ts';
import type { ArchivePass } from './archive-pass.ts';

/**
 * After a work list that could not be read was begun anew: finds the archives that only the old one named, by what each
 * says of its run, and deletes those that the run does not name and that nobody can commit any more. What says nothing,
 * or whose run cannot be found, stays until the policy lets it go. Goes on where the last full pass ended. 1 LIST per
 * 1000 archives of the time in question, 1 GET each (where LIST has no metadata, 1 HEAD more), 1 GET and 1 PUT.
 */
export async function recoverNames(pass: ArchivePass): Promise<void> {
  const { context, orgId, budget, signal } = pass;
  const { store, recorder, limits } = context;
  const renewed = pass.work.renewed ?? null;
  // Until then somebody may still commit one.
  if (renewed === null || recorder.now() <= renewed.until + nameTtlMs(limits)) return;
  let { from } = renewed;
  let pageToken: string | undefined;
  do {
    const page = await store.list({
      prefix: archivesPrefix(orgId),
      start: archiveKey(orgId, uuidv7Floor(from)),
      end: archiveKey(orgId, uuidv7Floor(renewed.until)),
      pageToken,
      signal,
    });
    const deleted = await mapParallel(
      page.items,
      limits.parallelMax,
      (meta, stop) => removeUnnamed(pass, meta, stop),
      signal,
    );
    pass.report.orphans_deleted += deleted.filter((one) => one).length;
    const last = page.items.at(-1);
    from = last === undefined ? from : (uuidv7Time(nameOfKey(last.key)) ?? from);
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined && !budget.isOver());
  const rest = pageToken === undefined ? null : { ...renewed, from };
  if (rest !== null) pass.report.complete = false;
  const settle = (before: typeof pass.work) =>
    before.renewed?.until === renewed.until ? { ...before, renewed: rest } : null;
  pass.work = await changeWork(context, orgId, recorder.now(), settle, signal);
}

async function removeUnnamed(
  { context, orgId, work }: ArchivePass,
  item: ObjectMeta,
  signal: AbortSignal,
): Promise<boolean> {
  const { store, runs } = context;
  const meta = store.capabilities.listMetadata ? item : await store.head(item.key, { signal });
  const { run: runId, attempt } = meta?.metadata ?? {};
  if (meta === null || !isId(runId) || attempt === undefined) return false;
  const name = nameOfKey(meta.key);
  if (Object.values(work.entries).some(({ names }) => names.includes(name))) return false;
  const run = (await runs.read(orgId, runId, signal))?.run ?? null;
  if (run === null || traceOf(run, Number(attempt))?.archive?.uri === meta.key) return false;
  const { outcome } = await store.delete(meta.key, { ifGeneration: meta.generation, signal });
  return outcome === 'deleted';
}
