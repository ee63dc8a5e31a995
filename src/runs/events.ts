import type { Dataset, Payload, RunError, RunResult, TraceArchive } from './run.ts';

/** What a creator asks for. Missing fields take their neutral value. */
export interface NewRun {
  run_id: string;
  kind?: string;
  reference_id?: string | null;
  queue?: string | null;
  /**
   * The caller's own key, unique within org and queue: a second request under it gives the first one's run, whatever
   * `run_id` it names, or RUN_KEY_CONFLICT when it asks for something else.
   */
  run_key?: string | null;
  payload?: Partial<Payload>;
  inputs?: readonly Dataset[];
  outputs?: readonly Dataset[];
  code_version?: string | null;
  heartbeat_timeout_ms?: number | null;
  run_timeout_ms?: number | null;
}

/** What a worker reports at the end of a run or task. */
export interface Ending {
  inputs?: readonly Dataset[];
  outputs?: readonly Dataset[];
  result?: Partial<RunResult> | null;
}

/**
 * Everything that can happen to a run. Events from a worker carry the attempt they belong to, so that a stale
 * worker's word changes nothing; events from people and schedulers need none, except `retry`, where it makes
 * the repeat of a retry recognisable.
 */
export type RunEvent =
  | { type: 'create'; orgId: string; input: NewRun; fingerprint: string }
  | { type: 'started'; attempt: number; code_version?: string | null }
  | { type: 'heartbeat'; attempt: number; indexIntervalMs?: number | undefined }
  | ({ type: 'succeeded'; attempt: number } & Ending)
  | ({ type: 'failed'; attempt: number; error: RunError } & Ending)
  /** The worker acknowledges a cancel, or gave up on its own. */
  | { type: 'cancelled'; attempt: number; error?: RunError | null }
  /**
   * Asks for a cancel; a run that nobody works on yet is cancelled at once. With `attempt` a repeat that arrives after
   * a retry is stale instead of cancelling the new attempt.
   */
  | { type: 'cancel'; attempt?: number | undefined }
  | { type: 'force_cancel'; attempt?: number | undefined }
  | { type: 'force_fail'; attempt?: number | undefined; error: RunError }
  /** Refused unless the canonical run itself is past one of its time-outs. */
  | { type: 'time_out' }
  /** `attempt` is the one that ended; the run gets the next. */
  | { type: 'retry'; attempt: number }
  /** Of an ended run: forgets all it said, and then the run. */
  | { type: 'delete' }
  | { type: 'task'; attempt: number; task: TaskEvent }
  /** In every status: results are registered late, and removed long after the end. */
  | { type: 'artifact'; attempt: number; artifact: ArtifactEvent }
  /** The attempt is about to leave a log: comes before its first chunk. Also of the ended and of earlier attempts. */
  | { type: 'trace'; attempt: number }
  /** The attempt's log is in this archive, which was read back. `imported`: it never was in chunks here. */
  | { type: 'trace_archived'; attempt: number; archive: TraceArchive; imported?: boolean | undefined };

/** What one operator left at one of its ports. `ttl_ms` counts from the registration; none: it never expires. */
export interface NewArtifact {
  operator: string;
  port: string;
  /** Where it lies; left out where there are only figures. */
  uri?: string | null;
  media_type?: string | null;
  bytes?: number | null;
  rows?: number | null;
  /** Runtime figures by name: `busy_ms`, `input_rows`. */
  statistics?: Readonly<Record<string, number>> | null;
  ttl_ms?: number | null;
}

/** One entry of a run's `artifacts`, as the clean-up found it: one that says something else by now is left alone. */
export interface ArtifactRef {
  key: string;
  uri: string | null;
}

export type ArtifactEvent =
  | ({ type: 'put' } & NewArtifact)
  /** Nobody needs it any more: due from now on. */
  | { type: 'drop'; operator: string; port: string }
  /**
   * Of the clean-up, once the run has ended: what is due stops being there. The objects of `remove` are deleted next;
   * `mark` is what runfold does not own.
   */
  | { type: 'expire'; remove: readonly ArtifactRef[]; mark: readonly ArtifactRef[] }
  /** Their objects are known to be gone. */
  | { type: 'settle'; removed: readonly ArtifactRef[] };

export type TaskEvent =
  | { type: 'queued'; key: string }
  | { type: 'started'; key: string; attempt: number }
  | { type: 'heartbeat'; key: string; attempt: number; indexIntervalMs?: number | undefined }
  | { type: 'succeeded'; key: string; attempt: number; outputs?: readonly Dataset[] }
  | { type: 'failed'; key: string; attempt: number; error: RunError }
  | { type: 'cancelled'; key: string; attempt: number }
  | { type: 'retry'; key: string; attempt: number };
