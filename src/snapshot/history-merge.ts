import { throwIfAborted } from '../core/clock.ts';
import { defaultLimits } from '../core/limits.ts';
import { StateHash } from '../manifest/state-hash.ts';
import type { Dataset } from '../runs/run.ts';
import type { HistoryGroup } from './history-index.ts';
import { decodeHistoryGroup } from './history-read.ts';
import { compareTables, compareTexts, type HistoryRows } from './history-rows.ts';
import { coalesce, groupBytes, type HistoryRange } from './history-select.ts';
import { type EncodedHistory, type HistoryOptions, HistoryWriter } from './history-write.ts';
import type { Rows } from './rows.ts';
import type { NumberVector, TextVector } from './vectors.ts';

export interface HistorySource {
  /** Names the object in errors. */
  key: string;
  groups: readonly HistoryGroup[];
  /** One request, for one or more neighbouring groups; called in turn, one request ahead of what is being merged. */
  read(range: { offset: number; size: number }): Promise<Uint8Array>;
}

export interface MergeOptions extends HistoryOptions {
  /** Rows to leave out. It must say the same of every row of one revision of a run, under whichever table. */
  drop?: ((rows: Rows, i: number) => boolean) | undefined;
  /** Bytes per request; `limits.historyMergeRangeBytesMax` unless told. A larger group has one to itself. */
  rangeBytesMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface MergedHistory extends EncodedHistory {
  /** Over the primary rows that were superseded or left out: `stateHash` = Σ of the sources − `dropped`. */
  dropped: StateHash;
  droppedRuns: number;
}

/**
 * Merges history parts of one org into one. Of rows with the same key (table, created_at, run_id) the highest
 * revision stays, among equals the highest projection version, then the earlier source. Holds one group of rows
 * and two compressed ranges of each source, what HistoryWriter holds, and the output: never a part of rows.
 *
 * Two revisions of one run may have different keys, because outputs grow and created_at may move back. Then the
 * older one stays beside the newer: harmless, because readers merge by revision whatever they read, and the state
 * hash counts both until a fold or a rebuild drops one. So whoever decides by absence (retention, deletion) must
 * decide by what every older revision shares as well: `drop` alone sees one row at a time.
 *
 * Throws CorruptError for a group that is not the one of its index; whatever `read` and `signal` throw.
 */
export async function mergeHistory(
  orgId: string,
  sources: readonly HistorySource[],
  options: MergeOptions = {},
): Promise<MergedHistory> {
  const sourceBytes = sources.flatMap(({ groups }) => groups).reduce((sum, { size }) => sum + size, 0);
  const writer = new HistoryWriter(orgId, { sizeHintBytes: sourceBytes * 1.1 + 64 * 1024, ...options });
  const leaving = new Leaving();
  const drop = options.drop ?? (() => false);
  let live: Cursor[] = [];
  const advance = async (cursor: Cursor, to: number) => {
    cursor.moveTo(to);
    if (cursor.isLive) cursor.shareTable(live);
    else if (await cursor.load()) cursor.shareTable(live);
    else live = live.filter((other) => other !== cursor);
  };
  const opened = sources.map((source) => new Cursor(orgId, source, options));
  const loaded = await Promise.all(opened.map((cursor) => cursor.load()));
  live = opened.filter((_, s) => loaded[s]);

  while (live.length > 0) {
    const [first, second] = leastTwo(live);
    if (second !== null && compareCursors(first, second) === 0) {
      const rivals = live.filter((cursor) => compareCursors(cursor, first) === 0);
      const best = rivals.reduce((a, b) => (b.outranks(a) ? b : a));
      for (const rival of rivals) {
        const { history, i } = rival;
        if (rival !== best || drop(history.rows, i)) leaving.add(history, i);
        else writer.push(history, i, i + 1);
      }
      for (const rival of rivals) await advance(rival, rival.i + 1);
      continue;
    }
    const { history, i: start } = first;
    const end = first.endBefore(second);
    if (options.drop === undefined) writer.push(history, start, end);
    else {
      for (let i = start; i < end; i++) {
        if (drop(history.rows, i)) leaving.add(history, i);
        else writer.push(history, i, i + 1);
      }
    }
    await advance(first, end);
  }
  return { ...writer.finish(), dropped: leaving.state, droppedRuns: leaving.runs };
}

class Leaving {
  readonly state = StateHash.empty();
  runs = 0;

  add(history: HistoryRows, i: number): void {
    if (!history.isPrimary(i)) return;
    this.state.add(history.rows.runId(i), history.rows.revision(i));
    this.runs++;
  }
}

/** Where the merge is in one source. */
class Cursor {
  readonly #orgId: string;
  readonly #source: HistorySource;
  readonly #signal: AbortSignal | undefined;
  readonly #ranges: readonly HistoryRange[];
  /** The range that is being merged, its bytes, and how many of its groups have been taken. */
  #range = -1;
  #bytes: Uint8Array = new Uint8Array(0);
  #taken = 0;
  #ahead: Promise<Uint8Array> | null = null;
  #tableEnd = 0;
  history!: HistoryRows;
  created!: NumberVector;
  ids!: TextVector;
  i = 0;
  /** Of row `i`. The same object as that of another cursor that stands at the same table. */
  table: Dataset | null = null;

  constructor(orgId: string, source: HistorySource, { rangeBytesMax, signal }: MergeOptions) {
    this.#orgId = orgId;
    this.#source = source;
    this.#signal = signal;
    this.#ranges = coalesce(source.groups, {
      historyGapBytesMax: 0,
      historyRangeBytesMax: rangeBytesMax ?? defaultLimits.historyMergeRangeBytesMax,
    });
  }

  get isLive(): boolean {
    return this.i < this.history.length;
  }

  /** Goes to the start of the next group. False: there is none. */
  async load(): Promise<boolean> {
    throwIfAborted(this.#signal);
    const done = this.#ranges[this.#range];
    if (done === undefined || this.#taken === done.groups.length) {
      if (!(await this.#nextRange())) return false;
    }
    const range = this.#ranges[this.#range]!;
    const group = range.groups[this.#taken++]!;
    const bytes = groupBytes(range, this.#bytes, group);
    this.history = decodeHistoryGroup(this.#source.key, this.#orgId, bytes, group);
    this.created = this.history.rows.vector('created_at') as NumberVector;
    this.ids = this.history.rows.vector('run_id') as TextVector;
    this.#tableEnd = 0;
    this.moveTo(0);
    return true;
  }

  async #nextRange(): Promise<boolean> {
    const range = this.#ranges[++this.#range];
    if (range === undefined) return false;
    this.#bytes = await (this.#ahead ?? this.#source.read(range));
    this.#taken = 0;
    const next = this.#ranges[this.#range + 1];
    this.#ahead = next === undefined ? null : this.#source.read(next);
    // Its failure is thrown when its turn comes, and must not count as unhandled until then.
    this.#ahead?.catch(() => {});
    return true;
  }

  moveTo(i: number): void {
    this.i = i;
    if (i < this.#tableEnd || i >= this.history.length) return;
    this.#tableEnd = this.history.tableEnd(i);
    this.table = this.history.table(i);
  }

  /** So that most comparisons of tables are of one object with itself. */
  shareTable(others: readonly Cursor[]): void {
    const same = others.find((other) => compareTables(other.table, this.table) === 0);
    if (same !== undefined) this.table = same.table;
  }

  /** The first row from `i` on that does not come before where `other` stands. */
  endBefore(other: Cursor | null): number {
    if (other === null) return this.history.length;
    let { i } = this;
    for (;;) {
      const order = compareTables(this.history.table(i), other.table);
      if (order > 0) return i;
      const end = this.history.tableEnd(i);
      if (order < 0) i = end;
      else while (i < end && compareRows(this, i, other, other.i) < 0) i++;
      if (i < end || i >= this.history.length) return i;
    }
  }

  outranks(other: Cursor): boolean {
    const byRevision = this.history.rows.revision(this.i) - other.history.rows.revision(other.i);
    if (byRevision !== 0) return byRevision > 0;
    const version = ({ history, i }: Cursor) => history.rows.number('projection_version', i)!;
    return version(this) > version(other);
  }
}

function leastTwo(cursors: readonly Cursor[]): [Cursor, Cursor | null] {
  let first = cursors[0]!;
  let second: Cursor | null = null;
  for (let k = 1; k < cursors.length; k++) {
    const cursor = cursors[k]!;
    if (compareCursors(cursor, first) < 0) [first, second] = [cursor, first];
    else if (second === null || compareCursors(cursor, second) < 0) second = cursor;
  }
  return [first, second];
}

function compareCursors(a: Cursor, b: Cursor): number {
  return compareTables(a.table, b.table) || compareRows(a, a.i, b, b.i);
}

/** Of rows under one table. */
function compareRows(a: Cursor, i: number, b: Cursor, j: number): number {
  return a.created.raw(i) - b.created.raw(j) || compareTexts(a.ids, i, b.ids, j);
}
