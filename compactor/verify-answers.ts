import { runsWithHistory } from '../src/catalog/history.ts';
import { withTombstones } from '../src/catalog/load.ts';
import { CatalogState } from '../src/catalog/state.ts';
import { errorMessage } from '../src/core/errors.ts';
import type { Dataset } from '../src/runs/run.ts';
import { RowsBuilder } from '../src/snapshot/rows.ts';
import { type Answer, answersOf } from './answers.ts';
import type { CompactorContext } from './context.ts';
import type { Problem, Verified } from './verify-report.ts';

/**
 * Law 2 for what the head says without history: as of the version that was read, which no writer changes. A head that an
 * older runfold folded may have lost answers whose successors lie in history. Costs nothing without history, else one more
 * read of it.
 */
export async function verifyAnswers(
  context: CompactorContext,
  { problems }: Verified,
  state: CatalogState,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    problems.push(...(await wrongAnswers(context, state, signal)));
  } catch (error) {
    if (signal?.aborted) throw error;
    problems.push({ law: 2, message: `history cannot be read: ${errorMessage(error)}` });
  }
}

async function wrongAnswers(
  { store, limits }: CompactorContext,
  { orgId, manifest, base }: CatalogState,
  signal: AbortSignal | undefined,
): Promise<Problem[]> {
  if (manifest === null || !manifest.parts.some(({ level }) => level > 0)) return [];
  const version = new CatalogState(orgId, manifest, base, withTombstones(manifest));
  const all = new RowsBuilder(orgId);
  for await (const row of runsWithHistory({ store, limits }, version, {}, signal)) all.add(row);
  const told = answersOf(version.rows());
  const problems: Problem[] = [];
  for (const [key, { answer, ref }] of answersOf(all.build())) {
    const runId = ref.rows.runId(ref.i);
    const head = told.get(key)?.ref;
    const shown = head === undefined ? 'none' : head.rows.runId(head.i);
    if (shown !== runId)
      problems.push({
        law: 2,
        run_id: runId,
        message: `${nameOf(answer)} is ${runId}; the head says ${shown}`,
      });
  }
  return problems;
}

function nameOf({ kind, table, from }: Answer): string {
  const name = (dataset: Dataset) => `${dataset.namespace}/${dataset.name}`;
  if (from !== null) return `the newest run from ${name(from)} to ${name(table)}`;
  return `the latest ${kind} of ${name(table)}`;
}
