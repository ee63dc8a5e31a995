import { newestFirst, type RowRef, ShapeCache } from '../src/catalog/views.ts';
import type { Dataset } from '../src/runs/run.ts';
import type { Rows } from '../src/snapshot/rows.ts';

/**
 * One thing that a catalog says of one row without looking into history: that it is the latest run of a table, its
 * latest success, or the newest run that read `from` and wrote `table`.
 */
export interface Answer {
  /** The same for the same question. */
  readonly key: string;
  readonly kind: 'run' | 'success' | 'edge';
  readonly table: Dataset;
  /** Null but for edges. */
  readonly from: Dataset | null;
}

/** The questions that each row of `rows` may be the answer to, worked out once for rows that write and read the same. */
export class Answering {
  readonly #rows: Rows;
  readonly #shapes: ShapeCache;
  /** By shape number. */
  readonly #ended: (readonly Answer[])[] = [];
  readonly #succeeded: (readonly Answer[])[] = [];

  constructor(rows: Rows) {
    this.#rows = rows;
    this.#shapes = new ShapeCache(rows);
  }

  of(i: number): readonly Answer[] {
    const { number, tables, inputs } = this.#shapes.of(i);
    const isSuccess = this.#rows.status(i) === 'SUCCEEDED';
    const known = isSuccess ? this.#succeeded : this.#ended;
    const before = known[number];
    if (before !== undefined) return before;
    const answers: Answer[] = [];
    for (const { id, table } of tables) {
      answers.push({ key: `run ${id}`, kind: 'run', table, from: null });
      if (isSuccess) answers.push({ key: `success ${id}`, kind: 'success', table, from: null });
      for (const from of inputs)
        answers.push({ key: `edge ${from.id} ${id}`, kind: 'edge', table, from: from.table });
    }
    known[number] = answers;
    return answers;
  }
}

export interface Answered {
  answer: Answer;
  ref: RowRef;
}

/** Every answer that these rows give, by key. Pure. */
export function answersOf(rows: Rows): Map<string, Answered> {
  const answered = new Map<string, Answered>();
  const answering = new Answering(rows);
  for (let i = 0; i < rows.length; i++) {
    const ref = { rows, i };
    for (const answer of answering.of(i)) offer(answered, answer, ref);
  }
  return answered;
}

function offer(answered: Map<string, Answered>, answer: Answer, ref: RowRef): void {
  const known = answered.get(answer.key);
  if (known === undefined) answered.set(answer.key, { answer, ref });
  else if (newestFirst(ref, known.ref) < 0) known.ref = ref;
}

/** An answer that rows no longer give, though older rows elsewhere may. */
export interface Lost {
  answer: Answer;
  /** What is left that answers: only newer rows are of interest. */
  best: RowRef | null;
}

/**
 * Answers that went with the rows `gone` of `before`: nothing in `after` is as new. While `before` held every answer of the
 * org, nothing elsewhere is newer than the rows that went, so nothing else can be wrong. Rows that were replaced by what
 * is newer, which is what folds are mostly about, cost no look at `after`. Pure.
 */
export function lostAnswers(before: Rows, gone: Uint32Array, after: Rows): Lost[] {
  const open = new Map<string, Answered>();
  const [was, is] = [new Answering(before), new Answering(after)];
  for (const i of gone) {
    const ref = { rows: before, i };
    const own = after.indexOfRow(before, i);
    const isNewer = own >= 0 && newestFirst({ rows: after, i: own }, ref) <= 0;
    const kept = isNewer ? new Set(is.of(own).map(({ key }) => key)) : null;
    for (const answer of was.of(i)) if (!kept?.has(answer.key)) offer(open, answer, ref);
  }
  if (open.size === 0) return [];
  const left = new Map<string, RowRef>();
  for (let i = 0; i < after.length; i++) {
    for (const { key } of is.of(i)) {
      if (!open.has(key)) continue;
      const known = left.get(key);
      const ref = { rows: after, i };
      if (known === undefined || newestFirst(ref, known) < 0) left.set(key, ref);
    }
  }
  const lost: Lost[] = [];
  for (const [key, { answer, ref }] of open) {
    const best = left.get(key) ?? null;
    if (best === null || newestFirst(best, ref) > 0) lost.push({ answer, best });
  }
  return lost;
}
