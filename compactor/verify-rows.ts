import { type OrgCatalog, openCatalog } from '../src/catalog/catalog.ts';
import { isPast } from '../src/catalog/fold.ts';
import type { CatalogState } from '../src/catalog/state.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, reasonFor } from '../src/core/errors.ts';
import { type Projection, project } from '../src/runs/projection.ts';
import type { Run } from '../src/runs/run.ts';
import { type Rows, RowsBuilder } from '../src/snapshot/rows.ts';
import { runKey } from '../src/store/keys.ts';
import type { CompactorContext } from './context.ts';
import { verifyAnswers } from './verify-answers.ts';
import type { Problem, Verified, VerifyOptions } from './verify-report.ts';

/**
 * Law 2: what a refresh shows, history included, is the projection of all canonical runs that the horizon left; and the head
 * gives the answers of all its rows.
 */
export async function verifyRows(
  context: CompactorContext,
  verified: Verified,
  { signal, onProgress }: VerifyOptions,
): Promise<void> {
  const { org_id: orgId, problems, checked } = verified;
  const { store, clock, limits, runs } = context;
  const catalog = openCatalog(store, { clock, limits, runs }).org(orgId);
  let shown: Rows;
  try {
    shown = await allRows(await catalog.refresh({ signal }), signal);
  } catch (error) {
    if (signal?.aborted) throw error;
    problems.push({ law: 2, message: `the catalog cannot be read: ${errorMessage(error)}` });
    return;
  }
  checked.rows = shown.length;
  const seen = new Uint8Array(shown.length);
  const suspects: string[] = [];
  for await (const scanned of runs.scan({ orgId, signal })) {
    if ('problem' in scanned) {
      problems.push({ law: 8, key: scanned.key, message: reasonFor(scanned.key, scanned.problem) });
      continue;
    }
    // As repair counts them: a deleted run's stub is none any more.
    if (scanned.run.deleted_at === null) checked.runs++;
    if (checked.runs % 1000 === 0) onProgress?.(checked);
    const at = shown.indexOf(scanned.run.run_id);
    if (at >= 0) seen[at] = 1;
    const row = at < 0 ? null : shown.get(at);
    if (difference(scanned.run, row, catalog.state) !== null) suspects.push(scanned.run.run_id);
  }
  for (let i = 0; i < shown.length; i++) if (seen[i] === 0) suspects.push(shown.runId(i));
  problems.push(...(await lookAgain(context, catalog, shown, suspects, signal)));
  await verifyAnswers(context, verified, catalog.state, signal);
}

async function allRows(catalog: OrgCatalog, signal: AbortSignal | undefined): Promise<Rows> {
  const builder = new RowsBuilder(catalog.orgId);
  for await (const row of catalog.runs({}, signal ? { signal } : {})) builder.add(row);
  return builder.build();
}

/** A writer may have been between the canonical run and its record; what stays is a problem. */
async function lookAgain(
  context: CompactorContext,
  catalog: OrgCatalog,
  shown: Rows,
  runIds: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Problem[]> {
  let open = runIds;
  let found: Problem[] = [];
  for (let round = 0; round < 3 && open.length > 0; round++) {
    if (round > 0) await context.clock.sleep(1_000, signal);
    found = [];
    const stored = await mapParallel(
      open,
      context.limits.parallelMax,
      // An unreadable canonical run was reported by the scan.
      (runId, stop) => context.runs.read(catalog.orgId, runId, stop).catch(() => 'unreadable' as const),
      signal,
    );
    const { state } = await catalog.refresh({ signal });
    open = open.filter((runId, i) => {
      const canonical = stored[i]!;
      if (canonical === 'unreadable') return false;
      const row = findRow(state, shown, runId);
      const message =
        canonical === null ? row && 'the row has no canonical run' : difference(canonical.run, row, state);
      if (message !== null) found.push({ law: 2, run_id: runId, key: runKey(catalog.orgId, runId), message });
      return message !== null;
    });
  }
  return found;
}

/** From head and tail as they are now, else from what was shown: sealed rows do not change. */
function findRow(state: CatalogState, shown: Rows, runId: string): Projection | null {
  for (const { rows, replaced } of state.segments) {
    const at = rows.indexOf(runId);
    if (at >= 0 && (replaced === null || replaced[at] === 0)) return rows.get(at);
  }
  if (state.overlay.facts.get(runId)?.kind === 'delete') return null;
  const at = shown.indexOf(runId);
  return at < 0 ? null : shown.get(at);
}

/** Why `row` is not what the canonical run projects to; null when it is, heartbeats and clean-up in between allowed. */
function difference(run: Run, row: Projection | null, { manifest }: CatalogState): string | null {
  if (run.deleted_at !== null) return row === null ? null : 'the run was deleted, but has a row';
  if (row === null) return isPast(run, manifest?.horizon ?? null) ? null : 'the canonical run has no row';
  const expected = project(run);
  if (row.revision === run.revision)
    return sameRow(expected, row) ? null : 'the row differs from the canonical run';
  if (row.revision > run.revision)
    return `the row is at revision ${row.revision}, the canonical run at ${run.revision}`;
  if (row.revision < run.indexed_revision)
    return `the row is at revision ${row.revision}; ${run.indexed_revision} should be visible`;
  const { revision, updated_at, heartbeat_at, changed_at, artifacts } = row;
  return sameRow({ ...expected, revision, updated_at, heartbeat_at, changed_at, artifacts }, row)
    ? null
    : 'the row differs by more than heartbeats and the clean-up of artifacts';
}

function sameRow(expected: Projection, row: Projection): boolean {
  const { projection_version } = row;
  return JSON.stringify({ ...expected, projection_version }) === JSON.stringify(row);
}
