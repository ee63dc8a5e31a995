import { z } from 'zod';
import { CorruptError, RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';

/** Version of the canonical object's format. */
export const RUN_FORMAT = 1;

export const RUN_STATUSES = [
  'QUEUED',
  'RUNNING',
  'CANCELLING',
  'SUCCEEDED',
  'FAILED',
  'CANCELLED',
  'TIMED_OUT',
] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

const TERMINAL: Readonly<Record<RunStatus, boolean>> = {
  QUEUED: false,
  RUNNING: false,
  CANCELLING: false,
  SUCCEEDED: true,
  FAILED: true,
  CANCELLED: true,
  TIMED_OUT: true,
};

export function isTerminal(status: RunStatus): boolean {
  return TERMINAL[status];
}

export const TASK_STATUSES = ['QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'] as const;
export type TaskStatus = (typeof TASK_STATUSES)[number];

/** ms since the epoch, UTC. */
const time = z.number().int().nonnegative();
const nullableTime = time.nullable();
const count = z.number().int().nonnegative();

export const datasetSchema = z.object({ namespace: z.string(), name: z.string().min(1) });
/** A table, by the names OpenLineage gives it. */
export type Dataset = z.infer<typeof datasetSchema>;

export const runErrorSchema = z.object({ code: z.string().nullable(), message: z.string() });
export type RunError = z.infer<typeof runErrorSchema>;

export const resultSchema = z.object({
  uri: z.string().nullable(),
  rows: count.nullable(),
  bytes: count.nullable(),
  version: z.string().nullable(),
});
export type RunResult = z.infer<typeof resultSchema>;

export const taskSchema = z.looseObject({
  key: z.string(),
  status: z.enum(TASK_STATUSES),
  attempt: z.number().int().positive(),
  created_at: time,
  updated_at: time,
  started_at: nullableTime,
  finished_at: nullableTime,
  outputs: z.array(datasetSchema),
  error: runErrorSchema.nullable(),
});
export type Task = z.infer<typeof taskSchema>;

export const ARTIFACT_STATUSES = ['PRESENT', 'EXPIRING', 'EXPIRED', 'DELETED'] as const;

/**
 * What an operator left at a port: a result, its console, its runtime statistics. `EXPIRING`: past its time, and its
 * object is being deleted. `EXPIRED`: past its time, and nothing was deleted, because runfold does not own the object.
 */
export const artifactSchema = z.looseObject({
  operator: z.string(),
  port: z.string(),
  /** Of the run when it was registered. */
  attempt: z.number().int().positive(),
  status: z.enum(ARTIFACT_STATUSES),
  uri: z.string().nullable(),
  media_type: z.string().nullable(),
  bytes: count.nullable(),
  rows: count.nullable(),
  statistics: z.record(z.string(), z.number()).nullable(),
  /** 0: it was given up. */
  ttl_ms: count.nullable(),
  registered_at: time,
  expires_at: nullableTime,
  changed_at: time,
});
export type Artifact = z.infer<typeof artifactSchema>;

export const payloadSchema = z.looseObject({
  target_namespace: z.string().nullable(),
  target_table: z.string().nullable(),
  source_type: z.string().nullable(),
});
export type Payload = z.infer<typeof payloadSchema>;

const seenDatasetSchema = datasetSchema.extend({ at: time, index: count });

/** A value and the time of the event that said so. */
function said<T extends z.ZodType>(value: T) {
  return z.object({ at: time, value }).nullable();
}

/**
 * What events of other producers (OpenLineage) have established about a run: the state that runs/observe.ts merges
 * so that every order and every repeat of the events ends the same. Datasets carry the time of, and the position in,
 * the first event that named them.
 */
export const observedSchema = z.looseObject({
  /** The status that the events gave the run; null: its lifecycle belongs to workers, events only add to it. */
  status: z.enum(RUN_STATUSES).nullable(),
  first_at: nullableTime,
  last_at: nullableTime,
  started_at: nullableTime,
  terminal: said(z.enum(RUN_STATUSES)),
  kind: said(z.string()),
  reference_id: said(z.string()),
  source_type: said(z.string()),
  code_version: said(z.string()),
  error: said(runErrorSchema),
  rows: said(count),
  bytes: said(count),
  version: said(z.string()),
  inputs: z.array(seenDatasetSchema),
  outputs: z.array(seenDatasetSchema),
});
export type Observed = z.infer<typeof observedSchema>;

/**
 * `live`: some attempt's trace is still in chunks. `archived`: all of them are in one verified object each. `partial`:
 * an archive has gaps, which it marks. `lost`: nothing was left to archive.
 */
export const TRACE_STATUSES = ['live', 'archived', 'partial', 'lost'] as const;
export type TraceStatus = (typeof TRACE_STATUSES)[number];

export const traceGapSchema = z.object({ offset: count, bytes: count });
export type TraceGap = z.infer<typeof traceGapSchema>;

/** What became of an attempt's trace: see docs/adr/0009-traces.md. */
export const traceArchiveSchema = z.looseObject({
  /** `partial`: with gaps; `lost`: nothing was left to archive. */
  status: z.enum(['archived', 'partial', 'lost']),
  /** Key of the archive in the store; null where there was nothing to keep. */
  uri: z.string().nullable(),
  archived_at: time,
  /** Of the archive as it is stored. */
  stored_bytes: count,
  crc32c: count.nullable(),
  /** Of the text; bytes of gaps count. */
  sha256: z.string().nullable(),
  bytes: count,
  lines: count,
  gap_count: count,
  gap_bytes: count,
  /** The first of them. */
  gaps: z.array(traceGapSchema),
  /** Chunks that said something else about a byte than the chunk that was believed. */
  conflicts: count,
  /** Bytes of text per compressed frame; null: one piece, which is read whole. */
  frame_bytes: z.number().int().positive().nullable(),
});
export type TraceArchive = z.infer<typeof traceArchiveSchema>;

/** The log of one attempt. `live`: chunks, of which there may be none yet. */
export const traceSchema = z.looseObject({
  status: z.enum(TRACE_STATUSES),
  /** When the attempt ended, where a retry has followed it; null: when the run did. */
  ended_at: nullableTime,
  archive: traceArchiveSchema.nullable(),
});
export type Trace = z.infer<typeof traceSchema>;

/** The canonical run: the truth. Unknown fields are kept through every transition. */
export const runSchema = z.looseObject({
  format: z.literal(RUN_FORMAT),
  run_id: z.string(),
  org_id: z.string(),
  kind: z.string(),
  reference_id: z.string().nullable(),
  queue: z.string().nullable(),
  /** The caller's own key, unique within org and queue. */
  run_key: z.string().nullable().default(null),
  status: z.enum(RUN_STATUSES),
  attempt: z.number().int().positive(),
  revision: z.number().int().positive(),
  created_at: time,
  updated_at: time,
  started_at: nullableTime,
  finished_at: nullableTime,
  heartbeat_at: nullableTime,
  cancel_requested_at: nullableTime,
  /** Limits that the sweep enforces, ms; null is no limit. */
  heartbeat_timeout_ms: z.number().int().positive().nullable(),
  run_timeout_ms: z.number().int().positive().nullable(),
  payload: payloadSchema,
  inputs: z.array(datasetSchema),
  outputs: z.array(datasetSchema),
  tasks: z.record(z.string(), taskSchema),
  /** By `operator/port`; one that was replaced and is still to be removed is at `operator/port#revision`. */
  artifacts: z.record(z.string(), artifactSchema).default({}),
  /** Logs by attempt; those that left none are not there. */
  traces: z.record(z.string(), traceSchema).optional(),
  result: resultSchema.nullable(),
  error: runErrorSchema.nullable(),
  code_version: z.string().nullable(),
  /**
   * Set: the run was deleted and only this stub is left, so that nobody uses the id while readers may still meet
   * older records of it. The compactor removes it when the tombstone goes.
   */
  deleted_at: nullableTime,
  /**
   * What `created_at` was when the run was first written, where events that came later have moved it back; else
   * null. Together they bound every `created_at` that any record of the run ever had.
   */
  first_created_at: nullableTime,
  /** Last change that was none of the run's life, and left `updated_at` alone; not there before the first. */
  changed_at: time.optional(),
  /** Hash of what the creator asked for: tells a repeated create from a second run with the same id. */
  fingerprint: z.string(),
  /**
   * The last revision whose record had to be in the log before it was acknowledged, and its `updated_at`. Later
   * revisions are heartbeats only: they reach the log at most once per heartbeatIndexInterval.
   */
  indexed_revision: z.number().int().positive(),
  indexed_at: time,
  observed: observedSchema.nullable(),
});
export type Run = z.infer<typeof runSchema>;

/** Without artifacts the bytes are those of runs from before there were any. */
export function encodeRun(run: Run): Uint8Array {
  const { artifacts, ...rest } = run;
  return encodeStored(Object.keys(artifacts).length === 0 ? rest : run);
}

/** For a write: throws LIMIT_EXCEEDED for a run that is too large to be stored. */
export function encodeRunWithin(run: Run, { runBytesMax }: Pick<Limits, 'runBytesMax'>): Uint8Array {
  const body = encodeRun(run);
  if (body.length <= runBytesMax) return body;
  throw new RunfoldError(
    'LIMIT_EXCEEDED',
    `Run ${run.run_id} would have ${body.length} bytes; the limit is ${runBytesMax}.`,
    { hint: 'Report fewer tasks or datasets per run, or shorter texts.' },
  );
}

/** Throws CorruptError or FormatError, naming the key. */
export function decodeRun(key: string, body: Uint8Array): Run {
  return checkStored(key, runSchema, parseStored(key, 'run', RUN_FORMAT, body));
}

/** The same for a run that was asked for by its ids: another's under its name is CorruptError. */
export function decodeRunOf(key: string, orgId: string, runId: string, body: Uint8Array): Run {
  const run = decodeRun(key, body);
  if (run.org_id === orgId && run.run_id === runId) return run;
  throw new CorruptError(key, `it holds run ${run.run_id} of org ${run.org_id}`);
}
