/** One try at a run's traces that failed; nothing of them was lost. `attempts` are the tries that count. */
export interface ArchiveFailure {
  run_id: string;
  attempts: number;
  next_at: number;
  code: string;
  message: string;
}

/** What a pass did. Counts are of traces (attempts of runs), unless they say runs. */
export interface Archived {
  org_id: string;
  archived: number;
  /** Archived with gaps, after the last try; and those of which nothing was left. */
  partial: number;
  lost: number;
  failed: ArchiveFailure[];
  /** Of those failures: the store held other bytes than were sent. */
  mismatches: number;
  /** Chunks that contradicted another. */
  conflicts: number;
  bytes: number;
  stored_bytes: number;
  chunks_deleted: number;
  /** Archives deleted that lost a race, or whose commit failed. */
  orphans_deleted: number;
  /** Archives deleted that the policy let go. */
  expired: number;
  /** Chunks deleted that no live trace explained. */
  leftovers_deleted: number;
  /** Runs without hope, each reported once. */
  given_up: string[];
  /** Rows that no canonical run stands behind: `runfold verify` and `repair` deal with those. */
  missing: string[];
  /** The work list was full. Runs that were dropped from it to make room are tried again as if for the first time. */
  work_full: boolean;
  dropped: string[];
  /** The work list could not be read and was begun anew: tries are counted from the beginning. */
  work_renewed: boolean;
  /** Ended runs that are not archived after it, and when the first of them ended. */
  waiting: number;
  /** Of those: nothing keeps the next pass from them; another archiver is at them; a failed try is not yet repeated; output may still come. */
  due: number;
  claimed: number;
  backing_off: number;
  settling: number;
  oldest_ended_at: number | null;
  /** All that was due was looked at within the budget. */
  complete: boolean;
}

export function newReport(orgId: string): Archived {
  return {
    org_id: orgId,
    archived: 0,
    partial: 0,
    lost: 0,
    failed: [],
    mismatches: 0,
    conflicts: 0,
    bytes: 0,
    stored_bytes: 0,
    chunks_deleted: 0,
    orphans_deleted: 0,
    expired: 0,
    leftovers_deleted: 0,
    given_up: [],
    missing: [],
    work_full: false,
    dropped: [],
    work_renewed: false,
    waiting: 0,
    due: 0,
    claimed: 0,
    backing_off: 0,
    settling: 0,
    oldest_ended_at: null,
    complete: true,
  };
}
