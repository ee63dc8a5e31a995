import { LRUCache } from 'lru-cache';
import { Overlay } from '../catalog/fold.ts';
import { withTombstones } from '../catalog/load.ts';
import { CatalogState } from '../catalog/state.ts';
import { CorruptError, isRunfoldError } from '../core/errors.ts';
import { listLog, readEntries } from '../log/tail.ts';
import { revisionOf, runIdOf } from '../runs/record.ts';
import type { Session } from '../session.ts';
import { Rows } from '../snapshot/rows.ts';
import { entryKeyFloor } from '../store/keys.ts';
import { type Change, changesBetween, isDeletedIn, mayHaveSealed, rowIn } from './changes-between.ts';
import { hasSeenVersion, isSameVersion, type Place, seenAt } from './changes-cursor.ts';
import type { OrgSnapshot } from './org-cache.ts';
import { Problem } from './problem.ts';

/** Versions that cursors of other processes stand at; each is a head. */
const STATES_MAX = 8;
/** More entries than this are not read for one answer: the snapshots say the same. */
const ENTRIES_MAX = 1_000;

/**
 * What changed since a cursor that another process gave, or this one before it forgot. Never less than what changed; what
 * was in the tail when the cursor was given may be told once more.
 */
export class Elsewhere {
  readonly #session: Session;
  readonly #states = new LRUCache<string, Promise<CatalogState>>({ max: STATES_MAX });

  constructor(session: Session) {
    this.#session = session;
  }

  /**
   * By run id. From the log, where it still has everything since the cursor: one LIST. Else from the snapshot that the
   * cursor stands at: two GETs, kept for the next caller. Throws CURSOR_EXPIRED.
   */
  async since(snapshot: OrgSnapshot, place: Place, signal: AbortSignal): Promise<Change[]> {
    const recent = await this.#fromLog(snapshot, place, signal);
    return byRunId(recent ?? (await this.sinceVersion(snapshot, place, signal)));
  }

  async sinceVersion(
    { orgId, state }: OrgSnapshot,
    at: Pick<Place, 'v' | 'w'>,
    signal: AbortSignal,
  ): Promise<Change[]> {
    const before = await this.#stateAt(orgId, at, state, signal);
    if (mayHaveSealed(before, state)) throw expired();
    return byRunId(changesBetween(before, state));
  }

  /**
   * What new entries touch, and announced runs that have appeared; null where this cannot be known. Entries that came
   * after the cursor were folded after it, if at all, and are deleted no sooner than `entryGraceMs` after that: a
   * listing that ended before shows them all. A version that the cursor has not seen may have changed rows without an
   * entry (`repair`).
   */
  async #fromLog({ orgId, state }: OrgSnapshot, place: Place, signal: AbortSignal): Promise<Change[] | null> {
    const { store, clock, limits } = this.#session;
    if (place.pending === null || !hasSeenVersion(place, state.manifest)) return null;
    const began = clock.monotonic();
    const start = entryKeyFloor(orgId, Math.max(0, place.at - limits.entryLagMaxMs));
    const { items, listedAt } = await listLog(store, orgId, { start, signal });
    const isSeen = seenAt(place);
    const quarantined = new Set(state.manifest?.quarantine.map(({ key }) => key));
    const fresh = items.filter(({ key }) => !isSeen(key) && !quarantined.has(key));
    if (fresh.length > ENTRIES_MAX) return null;
    const { entries } = await readEntries(store, orgId, fresh, { parallel: limits.parallelMax, signal });
    if (listedAt + (clock.monotonic() - began) > place.at + limits.entryGraceMs) return null;
    const touched = new Map(place.pending);
    for (const read of entries) {
      if ('gone' in read) return null;
      if ('problem' in read) throw read.problem;
      for (const record of read.entry.records) {
        touched.set(runIdOf(record), Math.max(revisionOf(record), touched.get(runIdOf(record)) ?? 0));
      }
    }
    const changes: Change[] = [];
    for (const [run_id, revision] of touched) {
      // What came after this snapshot is after the cursor that goes with it.
      const run = rowIn(state, run_id, revision);
      if (run !== null || isDeletedIn(state, run_id)) changes.push({ run_id, run });
    }
    return changes;
  }

  /** The snapshot of that version, without the tail. */
  #stateAt(
    orgId: string,
    at: Pick<Place, 'v' | 'w'>,
    { manifest, base }: CatalogState,
    signal: AbortSignal,
  ): Promise<CatalogState> | CatalogState {
    if (isSameVersion(at, manifest)) return new CatalogState(orgId, manifest, base, withTombstones(manifest));
    if (at.v === 0) return new CatalogState(orgId, null, Rows.empty(orgId), new Overlay());
    const key = `${orgId} ${at.v} ${at.w}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    const loading = this.#open(orgId, at, signal);
    this.#states.set(key, loading);
    loading.catch(() => this.#states.delete(key));
    return loading;
  }

  async #open(orgId: string, at: Pick<Place, 'v' | 'w'>, signal: AbortSignal): Promise<CatalogState> {
    try {
      const { state } = await this.#session.catalog.open(orgId, { version: at.v }, { signal });
      if (isSameVersion(at, state.manifest)) return state;
    } catch (error) {
      const isGone = isRunfoldError(error) && GONE.has(error.code);
      if (!isGone && !(error instanceof CorruptError)) throw error;
    }
    throw expired();
  }
}

const GONE = new Set(['VERSION_NOT_FOUND', 'SNAPSHOT_EXPIRED']);

function byRunId(changes: Change[]): Change[] {
  return changes.sort((a, b) => (a.run_id < b.run_id ? -1 : 1));
}

function expired(): Problem {
  return new Problem('CURSOR_EXPIRED', 'What changed since this cursor cannot be told any more.', {
    hint: 'Ask for changes without a cursor, then read the lists again.',
  });
}
