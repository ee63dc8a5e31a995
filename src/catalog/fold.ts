import { StateHash } from '../manifest/state-hash.ts';
import { type Projection, projectionHash, tablesOf } from '../runs/projection.ts';
import {
  type DeleteRecord,
  type IntentRecord,
  type LogRecord,
  type PutRecord,
  revisionOf,
  runIdOf,
} from '../runs/record.ts';
import { isTerminal } from '../runs/run.ts';
import { type Picked, type Rows, RowsBuilder } from '../snapshot/rows.ts';
import type { NumberVector, TextVector } from '../snapshot/vectors.ts';
import { datasetId } from './shapes.ts';

/** A record that states what is; an intent only states what somebody is about to do. */
export type Fact = PutRecord | DeleteRecord;

/**
 * What a set of records says: for each run the greatest fact, and beside it the greatest intent. Applying records
 * is commutative, associative and idempotent (law 1): late, repeated and reordered records do no harm.
 */
export class Overlay {
  readonly facts = new Map<string, Fact>();
  readonly intents = new Map<string, IntentRecord>();
  /** By run: the time in the name of the latest entry with an intent, ms. */
  readonly announcedAt = new Map<string, number>();
  /** Records that met another of the same revision with different bytes. A measure, not part of the state. */
  ties = 0;

  apply(record: LogRecord): void {
    const runId = runIdOf(record);
    if (record.kind === 'intent') {
      const known = this.intents.get(runId);
      if (known === undefined || compareRecords(record, known) > 0) this.intents.set(runId, record);
      return;
    }
    const known = this.facts.get(runId);
    const order = known === undefined ? 1 : compareRecords(record, known);
    if (order > 0) this.facts.set(runId, record);
    if (known !== undefined && order !== 0 && revisionOf(known) === revisionOf(record)) this.ties++;
  }

  applyAll(records: Iterable<LogRecord>): this {
    for (const record of records) this.apply(record);
    return this;
  }

  /** The records of one entry; `namedAt` is the time in its name, ms. */
  applyEntry(records: Iterable<LogRecord>, namedAt: number): void {
    for (const record of records) {
      this.apply(record);
      if (record.kind !== 'intent') continue;
      const runId = runIdOf(record);
      this.announcedAt.set(runId, Math.max(namedAt, this.announcedAt.get(runId) ?? 0));
    }
  }

  copy(): Overlay {
    const copy = new Overlay();
    for (const [runId, fact] of this.facts) copy.facts.set(runId, fact);
    for (const [runId, intent] of this.intents) copy.intents.set(runId, intent);
    for (const [runId, namedAt] of this.announcedAt) copy.announcedAt.set(runId, namedAt);
    copy.ties = this.ties;
    return copy;
  }

  get size(): number {
    return this.facts.size + this.intents.size;
  }
}

/** A total order on records of one run: revision; then delete over put; then projection version; then content. */
export function compareRecords(a: LogRecord, b: LogRecord): number {
  if (a === b) return 0;
  const byRevision = revisionOf(a) - revisionOf(b);
  if (byRevision !== 0) return byRevision;
  if (a.kind === 'delete' || b.kind === 'delete') {
    if (a.kind === 'delete' && b.kind === 'delete') return a.deleted_at - b.deleted_at;
    return a.kind === 'delete' ? 1 : -1;
  }
  const byVersion = a.row.projection_version - b.row.projection_version;
  if (byVersion !== 0) return byVersion;
  const [hashA, hashB] = [projectionHash(a.row), projectionHash(b.row)];
  return hashA < hashB ? -1 : hashA > hashB ? 1 : 0;
}

/** Intents whose revision nothing in `base` or `overlay` has reached: the canonical run decides about them. */
export function pendingIntents(base: Rows, overlay: Overlay): IntentRecord[] {
  const pending: IntentRecord[] = [];
  for (const [runId, intent] of overlay.intents) {
    const fact = overlay.facts.get(runId);
    const at = base.indexOf(runId);
    const known = Math.max(fact === undefined ? 0 : revisionOf(fact), at < 0 ? 0 : base.revision(at));
    if (intent.row.revision > known) pending.push(intent);
  }
  return pending;
}

/** Rows of a base that facts are weighed against. Whole rows are read for facts of the same revision alone. */
class Weighing {
  readonly #base: Rows;
  /** Runs whose fact is of the revision that their row has, by row. */
  readonly #even = new Map<number, number>();
  readonly #picked: Picked;

  constructor(base: Rows, facts: ReadonlyMap<string, Fact>) {
    this.#base = base;
    const even: number[] = [];
    for (const [runId, fact] of facts) {
      const at = base.indexOf(runId);
      if (at >= 0 && fact.kind === 'put' && fact.row.revision === base.revision(at)) even.push(at);
    }
    const rising = Uint32Array.from(even).sort();
    for (const [k, at] of rising.entries()) this.#even.set(at, k);
    this.#picked = base.pick(rising);
  }

  /** Whether `record` says more than row `at` does. */
  outranks(record: Fact, at: number): boolean {
    const revision = revisionOf(record);
    if (revision !== this.#base.revision(at)) return revision > this.#base.revision(at);
    // Of the same revision a deletion is greater than any row.
    if (record.kind === 'delete') return true;
    const { rows, at: places } = this.#picked;
    return compareRecords(record, { kind: 'put', row: rows.get(places[this.#even.get(at)!]!) }) > 0;
  }
}

/** The rows of `base` that facts replace or remove, and the facts that hold against it. */
export interface Merge {
  /** 1 for each row of `base` that no longer stands. */
  readonly replaced: Uint8Array;
  readonly replacedCount: number;
  readonly puts: readonly PutRecord[];
  readonly deletes: readonly DeleteRecord[];
}

/**
 * `horizon`: what ended before it is forgotten, so a late record of a run that `base` no longer has is ignored and no
 * tombstone is needed; unless it is the latest success of a table, which outlives the horizon whenever it arrives.
 */
export function merge(base: Rows, overlay: Overlay, horizon: number | null = null): Merge {
  const replaced = new Uint8Array(base.length);
  let replacedCount = 0;
  const puts: PutRecord[] = [];
  const deletes: DeleteRecord[] = [];
  const late: PutRecord[] = [];
  const weighing = new Weighing(base, overlay.facts);
  for (const [runId, fact] of overlay.facts) {
    const at = base.indexOf(runId);
    if (at >= 0 && !weighing.outranks(fact, at)) continue;
    if (at < 0 && fact.kind === 'put' && isPast(fact.row, horizon)) {
      if (fact.row.status === 'SUCCEEDED') late.push(fact);
      continue;
    }
    if (at >= 0) {
      replaced[at] = 1;
      replacedCount++;
    }
    if (fact.kind === 'delete') deletes.push(fact);
    else puts.push(fact);
  }
  if (late.length > 0) puts.push(...latestSuccesses(base, replaced, puts, late));
  return { replaced, replacedCount, puts, deletes };
}

/** Of successes that the horizon has passed, those that are the latest of one of their tables all the same. */
function latestSuccesses(
  base: Rows,
  replaced: Uint8Array,
  puts: readonly PutRecord[],
  late: readonly PutRecord[],
): PutRecord[] {
  const latest = new Map<string, { at: number; runId: string }>();
  for (const { row } of late)
    for (const table of tablesOf(row)) latest.set(datasetId(table), { at: -1, runId: '' });
  const offer = (row: Pick<Projection, 'payload' | 'outputs'>, at: number, runId: string) => {
    for (const table of tablesOf(row)) {
      const known = latest.get(datasetId(table));
      if (known === undefined || at < known.at || (at === known.at && runId < known.runId)) continue;
      known.at = at;
      known.runId = runId;
    }
  };
  for (let i = 0; i < base.length; i++) {
    if (replaced[i] === 1 || base.status(i) !== 'SUCCEEDED') continue;
    const payload = {
      target_namespace: base.text('target_namespace', i),
      target_table: base.text('target_table', i),
      source_type: null,
    };
    offer({ payload, outputs: [...base.datasets('outputs', i)] }, base.time('updated_at', i)!, base.runId(i));
  }
  for (const { row } of [...puts, ...late])
    if (row.status === 'SUCCEEDED') offer(row, row.updated_at, row.run_id);
  return late.filter(({ row }) =>
    tablesOf(row).some((table) => latest.get(datasetId(table))!.runId === row.run_id),
  );
}

/** Whether a run ended before the horizon. */
export function isPast(
  { status, finished_at }: Pick<Projection, 'status' | 'finished_at'>,
  horizon: number | null,
): boolean {
  return horizon !== null && isTerminal(status) && finished_at !== null && finished_at < horizon;
}

/** Forgets facts that say nothing beyond `base`, so that later merges do not weigh them again. */
export function prune(overlay: Overlay, base: Rows): void {
  const weighing = new Weighing(base, overlay.facts);
  for (const [runId, fact] of overlay.facts) {
    const at = base.indexOf(runId);
    if (at >= 0 && !weighing.outranks(fact, at)) overlay.facts.delete(runId);
  }
}

export interface Folded {
  rows: Rows;
  /** Rows of the base that no longer stand. */
  replaced: Uint32Array;
  /** state(rows) = state(base) ⊕ added ⊖ removed, each over (run id, revision). */
  added: StateHash;
  removed: StateHash;
  deletes: readonly DeleteRecord[];
  changed: boolean;
}

/** The new head: rows of `base` that still stand, then the new ones. Pure. */
export function fold(base: Rows, overlay: Overlay, horizon: number | null = null): Folded {
  const { replaced, replacedCount, puts, deletes } = merge(base, overlay, horizon);
  const added = StateHash.empty();
  const removed = StateHash.empty();
  const builder = new RowsBuilder(base.orgId, base.length - replacedCount + puts.length);
  const standing = new Uint32Array(base.length - replacedCount);
  const gone = new Uint32Array(replacedCount);
  for (let i = 0, n = 0, g = 0; i < base.length; i++) {
    if (replaced[i] === 0) {
      standing[n++] = i;
      continue;
    }
    gone[g++] = i;
    removed.add(base.runId(i), base.revision(i));
  }
  builder.gather(base, standing);
  for (const { row } of puts) {
    builder.add(row);
    added.add(row.run_id, row.revision);
  }
  const changed = replacedCount > 0 || puts.length > 0;
  return { rows: builder.build(), replaced: gone, added, removed, deletes, changed };
}

export function stateHashOf(rows: Rows): StateHash {
  const state = StateHash.empty();
  const ids = rows.vector('run_id') as TextVector;
  const revisions = rows.vector('revision') as NumberVector;
  const { bytes } = ids;
  for (let i = 0; i < rows.length; i++)
    state.addUtf8(bytes, ids.start(i), ids.start(i + 1), revisions.raw(i));
  return state;
}
