import { Overlay, pendingIntents } from '../src/catalog/fold.ts';
import { listedUntil } from '../src/catalog/tail.ts';
import { CorruptError } from '../src/core/errors.ts';
import type { Limits } from '../src/core/limits.ts';
import { decodeEntry, inlineBody } from '../src/log/entry.ts';
import { entryTime } from '../src/log/tail.ts';
import type { LogRecord } from '../src/runs/record.ts';
import { isTerminal } from '../src/runs/run.ts';
import { Rows } from '../src/snapshot/rows.ts';
import type { ObjectMeta } from '../src/store/object-store.ts';
import type { CompactorContext } from './context.ts';
import type { Found } from './plan.ts';

/** When a fold is worth it; short of that a tail waits for more. Defaults and reasons: docs/adr/0010-folds-that-are-worth-it.md. */
export interface FoldPolicy {
  /** No entry waits longer than this for the next pass to fold it, ms. */
  afterMs: number;
  /** So many entries are due. */
  entries: number;
  /** So many records are due. */
  records: number;
}

/**
 * Why an org is folded: `age`, `entries`, `records` are bounds of the policy. `apart`: an entry did not travel in the LIST, so
 * every refresh pays a request for it. `intent`: an announcement that nothing confirms, for which every refresh asks the
 * canonical store. `answer`: a run was deleted, or ended another way than it had ended, so a table may have another latest run
 * or success, which only a fold looks up in history. `unreadable`: an entry for the quarantine. `upkeep`: the manifest has something to forget or to strike off.
 */
export type DueReason =
  | 'age'
  | 'entries'
  | 'records'
  | 'apart'
  | 'intent'
  | 'answer'
  | 'unreadable'
  | 'upkeep';

/** A tail as a LIST shows it. */
export interface ListedTail {
  orgId: string;
  /** Entries that no fold has looked at. */
  fresh: readonly ObjectMeta[];
  /** Entries that the last fold left in the log, because of an intent. */
  left?: readonly ObjectMeta[] | undefined;
  /** Server time of the listing of that fold. */
  foldedAt?: number | undefined;
  /** Server time of the LIST. */
  listedAt: number;
}

export interface Verdict {
  /** Null: it may wait. */
  due: DueReason | null;
  entries: number;
  oldest_age_ms: number;
}

/** The bounds that a compactor on a schedule goes by. */
export function foldPolicy({ foldAfterMs, foldEntriesMin, foldRecordsMin }: Limits): FoldPolicy {
  return { afterMs: foldAfterMs, entries: foldEntriesMin, records: foldRecordsMin };
}

/** Whether a tail is worth a fold. Pure; what only the manifest can tell is not in it. */
export function judge(tail: ListedTail, policy: FoldPolicy, limits: Limits): Verdict {
  const { fresh, listedAt } = tail;
  const oldest_age_ms = fresh.reduce(
    (age, { key }) => Math.max(age, listedAt - (entryTime(key) ?? listedAt)),
    0,
  );
  const verdict = { entries: fresh.length, oldest_age_ms };
  if (fresh.length >= policy.entries) return { due: 'entries', ...verdict };
  if (oldest_age_ms >= policy.afterMs) return { due: 'age', ...verdict };
  return { due: byContent(tail, policy, limits), ...verdict };
}

/** The same for an org of which everything is known. Null: it has no tail but what an earlier fold has left there. */
export function judgeFound(
  { limits }: CompactorContext,
  { orgId, current, unfolded, listedAt }: Found,
  policy: FoldPolicy,
): Verdict | null {
  const { manifest } = current;
  const since = listedUntil(manifest, limits);
  const isFresh = (key: string) => (entryTime(key) ?? since) >= since;
  const fresh = unfolded.filter(({ key }) => isFresh(key));
  if (fresh.length === 0) return null;
  const left = unfolded.filter(({ key }) => !isFresh(key));
  return judge({ orgId, fresh, left, foldedAt: manifest?.created_at, listedAt }, policy, limits);
}

/** Decodes what travelled in the listing, as a reader would. */
function byContent(tail: ListedTail, policy: FoldPolicy, limits: Limits): DueReason | null {
  const overlay = new Overlay();
  let records = 0;
  let isAnswerLost = false;
  for (const item of tail.fresh) {
    const read = recordsIn(tail.orgId, item);
    if (typeof read === 'string') return read;
    records += read.length;
    if (records >= policy.records) return 'records';
    const namedAt = entryTime(item.key) ?? tail.listedAt;
    isAnswerLost ||= read.some((record) => mayTakeAnswer(record, namedAt, limits));
    overlay.applyEntry(read, namedAt);
  }
  const isAsked = pendingIntents(Rows.empty(tail.orgId), overlay).some(
    ({ row }) =>
      tail.listedAt - (overlay.announcedAt.get(row.run_id) ?? tail.listedAt) > limits.foldIntentAgeMs,
  );
  if (isAsked || mayBeNamed(tail, limits)) return 'intent';
  return isAnswerLost ? 'answer' : null;
}

/**
 * Whether the record, without a look at the head, is one that takes an answer away: a delete; or a run that did not succeed
 * and ended long before it was recorded, as one does that had succeeded before a late event. Whatever ends otherwise ends
 * when it is recorded.
 */
function mayTakeAnswer(record: LogRecord, namedAt: number, { sealAgeMs }: Limits): boolean {
  if (record.kind !== 'put') return record.kind === 'delete';
  const { status, finished_at } = record.row;
  return (
    status !== 'SUCCEEDED' && isTerminal(status) && finished_at !== null && finished_at < namedAt - sealAgeMs
  );
}

/** Whether an intent that the last fold had to leave as it was has become so old that the next can tell readers of it. */
function mayBeNamed({ left = [], foldedAt = 0, listedAt }: ListedTail, { lateWriteMaxMs }: Limits): boolean {
  return left.some(({ key }) => {
    const namedAt = entryTime(key) ?? foldedAt;
    return foldedAt - namedAt <= lateWriteMaxMs && listedAt - namedAt > lateWriteMaxMs;
  });
}

function recordsIn(orgId: string, item: ObjectMeta): readonly LogRecord[] | 'apart' | 'unreadable' {
  if (entryTime(item.key) === null) return 'unreadable';
  const body = inlineBody(item);
  if (body === null) return 'apart';
  try {
    return decodeEntry(item.key, orgId, body).records;
  } catch (error) {
    if (error instanceof CorruptError) return 'unreadable';
    throw error;
  }
}
