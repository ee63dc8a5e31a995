import { openCatalog } from '../src/catalog/catalog.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError, InputError } from '../src/core/errors.ts';
import type { Projection } from '../src/runs/projection.ts';
import { exportIndexKey, exportPrefix } from '../src/store/keys.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import type { CompactorContext } from './context.ts';
import { EMPTY, type ExportIndex, readExportIndex } from './export-index.ts';
import { Export, type ExportReport } from './export-objects.ts';
import { find } from './plan.ts';

export interface ExportOptions {
  /** Look and report, change nothing. */
  dryRun?: boolean | undefined;
  /** Believe no earlier export: list what is there, and mend what is missing, different or left over. */
  full?: boolean | undefined;
  /** Empty the export of an org that has no catalog any more. */
  force?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((runs: number, total: number) => void) | undefined;
}

export interface Exported extends ExportReport {
  /** Corrupt entries that a compactor set aside: what they said is missing here as well. */
  quarantined: number;
}

const ROWS_AT_ONCE = 1_000;

/**
 * Writes an org's catalog as one JSON object per run, once more per table of it, and one index, for readers that have
 * not moved yet. One way only: nothing reads it back. Idempotent: the index says what the last export wrote, and only
 * what differs is written; runs that are gone are removed, once an index without them is there.
 *
 * Requests: a refresh, all history parts, the index; one PUT per new object, a HEAD and a PUT per changed one, a HEAD and
 * a DELETE per removed one, and one PUT of the index if there was any. With `full` one LIST per 1000 objects besides.
 */
export async function exportLegacy(
  context: CompactorContext,
  orgId: string,
  options: ExportOptions = {},
): Promise<Exported> {
  const { store, clock, limits, runs } = context;
  const { signal } = options;
  // First the index, then the catalog: what is exported is never older than what an earlier export saw.
  const before = await readBefore(context, orgId, options);
  const org = await openCatalog(store, { clock, limits, runs }).org(orgId).refresh({ signal });
  const { manifest } = org.state;
  if (manifest === null) await mustBeNew(context, orgId, before, options);
  const found = options.full ? await listExport(context, orgId, signal) : null;
  const work = new Export(context, before, { orgId, found, dryRun: options.dryRun ?? false });
  const total = Math.max(org.state.rowCount, manifest?.rows ?? 0);
  let wave: Projection[] = [];
  const finish = async () => {
    await mapParallel(wave, limits.parallelMax, (row, stop) => work.run(row, stop), signal);
    wave = [];
    options.onProgress?.(work.runs.size, total);
  };
  for await (const row of org.runs({}, signal && { signal })) {
    wave.push(row);
    if (wave.length >= ROWS_AT_ONCE) await finish();
  }
  await finish();
  await work.finish(manifest?.version ?? null, signal);
  return { ...work.report(), quarantined: org.stats.quarantined };
}

async function readBefore(
  { store }: CompactorContext,
  orgId: string,
  { full, signal }: ExportOptions,
): Promise<ExportIndex & { isCorrupt?: boolean }> {
  try {
    return await readExportIndex(store, orgId, signal);
  } catch (error) {
    if (!full || !(error instanceof CorruptError)) throw error;
    const generation = (await store.head(exportIndexKey(orgId), { signal }))?.generation ?? null;
    return { ...EMPTY, generation, isCorrupt: true };
  }
}

/** A catalog that was removed looks like an org that never was: its export is not emptied on that word alone. */
async function mustBeNew(
  context: CompactorContext,
  orgId: string,
  before: ExportIndex,
  { force, signal }: ExportOptions,
): Promise<void> {
  // Throws where copies of superseded manifests are left.
  await find(context, orgId, signal);
  // An export of a tail alone: all of it is still in the log.
  if (before.version === null || before.runs.size === 0 || force) return;
  throw new InputError(
    `Org ${orgId} has no snapshot, but ${before.runs.size} runs were exported: nothing was removed.`,
    { hint: 'Compact it first; or, if its catalog is gone for good, --force empties the export.' },
  );
}

async function listExport(
  { store }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, ObjectMeta>> {
  const found = new Map<string, ObjectMeta>();
  for await (const page of pagesOf(store, { prefix: exportPrefix(orgId), signal })) {
    for (const item of page.items) found.set(item.key, item);
  }
  found.delete(exportIndexKey(orgId));
  return found;
}
