import { stateHashOf } from '../src/catalog/fold.ts';
import type { RowRef } from '../src/catalog/views.ts';
import type { Part, Quarantined, Tombstone } from '../src/manifest/manifest.ts';
import { StateHash } from '../src/manifest/state-hash.ts';
import { type Rows, RowsBuilder, rowsAt } from '../src/snapshot/rows.ts';
import { partKey } from '../src/store/keys.ts';
import { type Lost, lostAnswers } from './answers.ts';
import type { CompactorContext } from './context.ts';
import { retired } from './retention.ts';
import { successors } from './successors.ts';

/** An org after the fold, with the parts that it had before. */
export interface StandingInput {
  orgId: string;
  /** Server time of the listing that is folded. */
  listedAt: number;
  current: readonly Part[];
  /** The head before the fold, and those of its rows that no longer stand. */
  before: Rows;
  replaced: Uint32Array;
  /** The head after the fold, and whether the fold changed it. */
  head: Rows;
  headChanged: boolean;
  horizon: number | null;
  tombstones: readonly Tombstone[];
  /** Keys that are set aside already: such a part is not read again. */
  quarantine: ReadonlySet<string>;
}

/** The rows of the next head, before any are sealed. */
export interface Standing {
  rows: Rows;
  /** Rows that came back from history, and rows that retention dropped. */
  added: StateHash;
  removed: StateHash;
  changed: boolean;
  quarantined: Quarantined[];
}

/**
 * The head keeps the law that it holds every answer which all rows of the org give (docs/PROTOCOL.md, answers): where
 * the fold took an answer away, its successor comes back from history, before retention decides; and what retention takes
 * away is looked up once more. Reads nothing where nothing was lost.
 */
export async function standingHead(context: CompactorContext, input: StandingInput): Promise<Standing> {
  const { before, replaced, head, horizon } = input;
  const standing: Standing = {
    rows: head,
    added: StateHash.empty(),
    removed: StateHash.empty(),
    changed: input.headChanged,
    quarantined: [],
  };
  const hasHistory = input.current.some(({ level }) => level > 0);
  if (hasHistory && replaced.length > 0)
    await carry(context, input, standing, head, lostAnswers(before, replaced, head));
  const whole = standing.rows;
  const gone = retired(whole, horizon);
  if (gone.length === 0) return standing;
  standing.rows = without(whole, gone);
  standing.removed = stateHashOf(rowsAt(whole, gone));
  standing.changed = true;
  // What retention takes is no row of history that could come back: `whole` knows all of it.
  if (hasHistory) await carry(context, input, standing, whole, lostAnswers(whole, gone, standing.rows));
  return standing;
}

/** Adds the rows of history that answer instead of those that are gone; `known` says which runs history is not asked about. */
async function carry(
  context: CompactorContext,
  input: StandingInput,
  standing: Standing,
  known: Rows,
  lost: readonly Lost[],
): Promise<void> {
  if (lost.length === 0) return;
  const { orgId, listedAt, tombstones, horizon } = input;
  const setAside = new Set([...input.quarantine, ...standing.quarantined.map(({ key }) => key)]);
  const found = await successors(
    context,
    {
      orgId,
      listedAt,
      history: input.current.filter(({ level, name }) => level > 0 && !setAside.has(partKey(orgId, name))),
      head: known,
      tombstones,
      horizon,
    },
    lost,
  );
  standing.quarantined.push(...found.quarantined);
  if (found.rows.length === 0) return;
  standing.rows = withRows(standing.rows, found.rows);
  for (const { rows, i } of found.rows) standing.added.add(rows.runId(i), rows.revision(i));
  standing.changed = true;
}

function withRows(rows: Rows, more: readonly RowRef[]): Rows {
  const builder = new RowsBuilder(rows.orgId, rows.length + more.length);
  builder.gather(rows, numbers(rows));
  for (const { rows: from, i } of more) builder.copy(from, i);
  return builder.build();
}

function without(rows: Rows, gone: Uint32Array): Rows {
  const dropped = new Set(gone);
  return rowsAt(
    rows,
    numbers(rows).filter((i) => !dropped.has(i)),
  );
}

function numbers(rows: Rows): Uint32Array {
  return Uint32Array.from({ length: rows.length }, (_, i) => i);
}
