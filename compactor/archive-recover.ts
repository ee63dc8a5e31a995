import { mapParallel } from '../src/core/concurrency.ts';
import { isId } from '../src/core/ids.ts';
import { uuidv7Floor, uuidv7Time } from '../src/core/uuid.ts';
import { traceOf } from '../src/runs/traces.ts';
import { archiveKey, archivesPrefix, nameOfKey } from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import { changeWork, type Work } from '../src/traces/work.ts';
import { nameTtlMs, withNames } from './archive-entries.ts';
import { isNobodys } from './archive-orphans.ts';
import type { ArchivePass } from './archive-pass.ts';

/**
 * After a work list that could not be read was begun anew: finds the archives that only the old one named, by what each
 * says of its run, and deletes those that nobody can commit any more; what the run may yet come to name is in the list
 * again. What says nothing, or whose run cannot be found, stays until the policy lets it go. Goes on where the last full
 * pass ended. 1 LIST per 1000 archives of the time in question, 1 GET each (where LIST has no metadata, 1 HEAD more), 1
 * GET and 1 PUT.
 */
export async function recoverNames(pass: ArchivePass): Promise<void> {
  const { context, orgId, budget, signal } = pass;
  const { store, recorder, limits } = context;
  const renewed = pass.work.renewed ?? null;
  // Until then most are still being worked on.
  if (renewed === null || recorder.now() <= renewed.until + nameTtlMs(limits)) return;
  let { from } = renewed;
  const pending: Pending[] = [];
  let pageToken: string | undefined;
  do {
    const page = await store.list({
      prefix: archivesPrefix(orgId),
      start: archiveKey(orgId, uuidv7Floor(from)),
      end: archiveKey(orgId, uuidv7Floor(renewed.until + 1)),
      pageToken,
      signal,
    });
    const found = await mapParallel(
      page.items,
      limits.parallelMax,
      (meta, stop) => removeUnnamed(pass, meta, stop),
      signal,
    );
    pass.report.orphans_deleted += found.filter((one) => one === 'deleted').length;
    for (const one of found) if (one !== null && one !== 'deleted') pending.push(one);
    const last = page.items.at(-1);
    from = last === undefined ? from : (uuidv7Time(nameOfKey(last.key)) ?? from);
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined && !budget.isOver());
  const rest = pageToken === undefined ? null : { ...renewed, from };
  if (rest !== null) pass.report.complete = false;
  const now = recorder.now();
  const settle = (before: Work) => {
    if (before.renewed?.until !== renewed.until) return null;
    const known = pending.reduce((work, { runId, name }) => withNames(work, runId, [name], now), before);
    return { ...known, renewed: rest };
  };
  pass.work = await changeWork(context, orgId, now, settle, signal);
}

/** Somebody may yet commit it. */
interface Pending {
  runId: string;
  name: string;
}

/** Null: it is explained, or stays for another reason. */
async function removeUnnamed(
  { context, orgId, work }: ArchivePass,
  item: ObjectMeta,
  signal: AbortSignal,
): Promise<'deleted' | Pending | null> {
  const { store, runs } = context;
  const meta = store.capabilities.listMetadata ? item : await store.head(item.key, { signal });
  const { run: runId, attempt } = meta?.metadata ?? {};
  if (meta === null || !isId(runId) || attempt === undefined) return null;
  const name = nameOfKey(meta.key);
  if (Object.values(work.entries).some(({ names }) => names.includes(name))) return null;
  const run = (await runs.read(orgId, runId, signal))?.run ?? null;
  if (run === null || traceOf(run, Number(attempt))?.archive?.uri === meta.key) return null;
  if (!isNobodys(run, meta.key, meta.metadata)) return { runId, name };
  const { outcome } = await store.delete(meta.key, { ifGeneration: meta.generation, signal });
  return outcome === 'deleted' ? 'deleted' : null;
}
