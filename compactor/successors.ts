import { datasetId, newestFirst, type RowRef } from '../src/catalog/views.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { CorruptError } from '../src/core/errors.ts';
import type { Part, Quarantined, Tombstone } from '../src/manifest/manifest.ts';
import type { Dataset } from '../src/runs/run.ts';
import { decodeGroups, type HistoryGroup } from '../src/snapshot/history-index.ts';
import { decodeHistoryGroup } from '../src/snapshot/history-read.ts';
import type { HistoryRows } from '../src/snapshot/history-rows.ts';
import { coalesce, groupBytes, type HistoryRange, selectGroups } from '../src/snapshot/history-select.ts';
import { readGroups } from '../src/snapshot/parts.ts';
import type { Rows } from '../src/snapshot/rows.ts';
import { partKey } from '../src/store/keys.ts';
import { Answering, type Lost } from './answers.ts';
import type { CompactorContext } from './context.ts';
import { isPastPart, isPastRow } from './retention.ts';

export interface SuccessorsInput {
  orgId: string;
  listedAt: number;
  /** History parts that can be read. */
  history: readonly Part[];
  /** What it says of older revisions of its runs is over. */
  head: Rows;
  tombstones: readonly Tombstone[];
  horizon: number | null;
}

export interface Successors {
  /** Rows of history that answer now, each run once. */
  rows: RowRef[];
  /** Parts that turned out corrupt: what only they know stays lost until `repair`. */
  quarantined: Quarantined[];
}

/**
 * The newest rows of history that give answers which the head has lost. Reads row groups that may hold the table of a lost
 * answer and are not older than what is left, newest first, up to `historyWaveBytesMax` at a time, until nothing unread
 * can be newer: as a history query does, mostly one round of a ranged GET per part. The newest revision of a run decides.
 * Rows that the horizon has passed are forgotten, but for successes, which outlive it.
 */
export async function successors(
  context: CompactorContext,
  input: SuccessorsInput,
  lost: readonly Lost[],
): Promise<Successors> {
  const search = new Search(input, lost);
  const quarantined: Quarantined[] = [];
  let unread = unitsOf(input, search);
  for (;;) {
    unread = unread.filter((unit) => search.needs(unit));
    const wave = nextWave(unread, context.limits.historyWaveBytesMax);
    if (wave.length === 0) return { rows: search.winners(), quarantined };
    unread = unread.filter((unit) => !wave.includes(unit));
    await mapParallel(rangesOf(context, wave), context.limits.parallelMax, async ({ part, range }) => {
      const key = partKey(input.orgId, part.name);
      try {
        const bytes = await readGroups(context.store, input.orgId, part, range);
        for (const group of range.groups)
          search.take(decodeHistoryGroup(key, input.orgId, groupBytes(range, bytes, group), group));
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        if (!quarantined.some((one) => one.key === key))
          quarantined.push({ key, reason: error.message, since: input.listedAt });
      }
    });
    search.settle();
    const setAside = new Set(quarantined.map(({ key }) => key));
    unread = unread.filter(({ part }) => !setAside.has(partKey(input.orgId, part.name)));
  }
}

/** One row group that may hold rows of these tables. */
interface Unit {
  part: Part;
  group: HistoryGroup;
  tables: LostTable[];
}

interface LostTable {
  table: Dataset;
  /** By key of the answer. */
  open: Map<string, Open>;
}

interface Open {
  lost: Lost;
  best: RowRef | null;
  candidates: RowRef[];
}

function unitsOf({ orgId, history }: SuccessorsInput, { tables }: Search): Unit[] {
  const units: Unit[] = [];
  for (const part of history) {
    const byOffset = new Map<number, Unit>();
    const groups = decodeGroups(partKey(orgId, part.name), part.groups ?? '');
    for (const lost of tables.values()) {
      for (const group of selectGroups(groups, { table: lost.table })) {
        const unit = byOffset.get(group.offset) ?? { part, group, tables: [] };
        unit.tables.push(lost);
        byOffset.set(group.offset, unit);
      }
    }
    units.push(...byOffset.values());
  }
  return units.sort((a, b) => b.group.updated_at_max - a.group.updated_at_max);
}

function nextWave(units: readonly Unit[], bytesMax: number): Unit[] {
  const wave: Unit[] = [];
  let bytes = 0;
  for (const unit of units) {
    bytes += unit.group.size;
    if (wave.length > 0 && bytes > bytesMax) break;
    wave.push(unit);
  }
  return wave;
}

function rangesOf(
  { limits }: CompactorContext,
  wave: readonly Unit[],
): { part: Part; range: HistoryRange }[] {
  const byPart = new Map<Part, HistoryGroup[]>();
  for (const { part, group } of wave) byPart.set(part, [...(byPart.get(part) ?? []), group]);
  return [...byPart].flatMap(([part, groups]) =>
    coalesce(
      groups.sort((a, b) => a.offset - b.offset),
      limits,
    ).map((range) => ({ part, range })),
  );
}

/** What has been found so far. */
class Search {
  /** By id. */
  readonly tables = new Map<string, LostTable>();
  readonly #input: SuccessorsInput;
  readonly #deleted: ReadonlyMap<string, number>;
  /** The highest revision of each run that was met. */
  readonly #revisions = new Map<string, number>();

  constructor(input: SuccessorsInput, lost: readonly Lost[]) {
    this.#input = input;
    this.#deleted = new Map(input.tombstones.map(({ run_id, revision }) => [run_id, revision]));
    for (const one of lost) {
      const { table, key } = one.answer;
      const id = datasetId(table);
      const known = this.tables.get(id) ?? { table, open: new Map<string, Open>() };
      known.open.set(key, { lost: one, best: one.best, candidates: [] });
      this.tables.set(id, known);
    }
  }

  /** Whether the group may hold an answer that is newer than what is known. */
  needs({ part, group, tables }: Unit): boolean {
    const { horizon } = this.#input;
    const isOver = horizon !== null && (isPastPart(part, horizon) || group.updated_at_max < horizon);
    for (const { open } of tables) {
      for (const { lost, best } of open.values()) {
        if (isOver && lost.answer.kind !== 'success') continue;
        if (best === null || group.updated_at_max >= best.rows.time('updated_at', best.i)!) return true;
      }
    }
    return false;
  }

  take(history: HistoryRows): void {
    const { rows } = history;
    const answering = new Answering(rows);
    const known = new Map<Dataset, LostTable | null>();
    for (let i = 0; i < rows.length; i++) {
      const table = history.table(i);
      if (table === null) continue;
      let lost = known.get(table);
      if (lost === undefined) {
        lost = this.tables.get(datasetId(table)) ?? null;
        known.set(table, lost);
      }
      if (lost === null || this.#isKnownBetter(rows, i)) continue;
      const [runId, revision] = [rows.runId(i), rows.revision(i)];
      this.#revisions.set(runId, Math.max(revision, this.#revisions.get(runId) ?? 0));
      const isOver = isPastRow(rows, i, this.#input.horizon);
      for (const { key, kind } of answering.of(i)) {
        const open = lost.open.get(key);
        if (open === undefined || (isOver && kind !== 'success')) continue;
        open.candidates.push({ rows, i });
      }
    }
  }

  /** What the groups that were taken come to. */
  settle(): void {
    for (const { open } of this.tables.values()) for (const one of open.values()) this.#settle(one);
  }

  /** A newer revision may have been met since, of which the run is no candidate any more. */
  #settle(open: Open): void {
    open.candidates = open.candidates.filter(
      ({ rows, i }) => this.#revisions.get(rows.runId(i)) === rows.revision(i),
    );
    open.best = open.lost.best;
    for (const ref of open.candidates)
      if (open.best === null || newestFirst(ref, open.best) < 0) open.best = ref;
  }

  winners(): RowRef[] {
    const byRun = new Map<string, RowRef>();
    for (const { open } of this.tables.values()) {
      for (const { best, lost } of open.values())
        if (best !== null && best !== lost.best) byRun.set(best.rows.runId(best.i), best);
    }
    return [...byRun.values()];
  }

  #isKnownBetter(rows: Rows, i: number): boolean {
    if (this.#input.head.indexOfRow(rows, i) >= 0) return true;
    return this.#deleted.size > 0 && (this.#deleted.get(rows.runId(i)) ?? 0) >= rows.revision(i);
  }
}
