import { createHash } from 'node:crypto';
import { z } from 'zod';
import { defaultLimits } from '../core/limits.ts';
import { artifactSummary } from './artifacts.ts';
import {
  type Dataset,
  datasetSchema,
  RUN_STATUSES,
  type Run,
  type RunError,
  resultSchema,
  runErrorSchema,
  TASK_STATUSES,
  type Task,
  TRACE_STATUSES,
  type TraceStatus,
} from './run.ts';

/**
 * Version of the function `project`: raise it when the same canonical run would give other bytes. Among records
 * of one run and one revision, the higher projection version wins (docs/SCHEMA.md, "Versions").
 */
export const PROJECTION_VERSION = 2;

const time = z.number().int().nonnegative();
const count = z.number().int().nonnegative();

/** The trace of the last attempt that wrote one; `status` speaks for all attempts. Null fields: not archived. */
const traceSummarySchema = z.object({
  status: z.enum(TRACE_STATUSES),
  attempt: z.number().int().positive(),
  uri: z.string().nullable(),
  /** Of the text, uncompressed. */
  bytes: count.nullable(),
  lines: count.nullable(),
  gaps: count.nullable(),
  sha256: z.string().nullable(),
  /** Of the archive as it is stored. */
  crc32c: count.nullable(),
});

/** Null: the run has none. `expires_at` is the earliest among those not yet removed; null: none of them expires. */
const artifactsSummarySchema = z.object({ count: count.min(1), expires_at: time.nullable() });

/** The subset of a run that readers need. Times are ms since the epoch, UTC. docs/SCHEMA.md has every field. */
export const projectionSchema = z.object({
  run_id: z.string(),
  org_id: z.string(),
  kind: z.string(),
  reference_id: z.string().nullable(),
  queue: z.string().nullable(),
  status: z.enum(RUN_STATUSES),
  attempt: z.number().int().positive(),
  revision: z.number().int().positive(),
  created_at: time,
  updated_at: time,
  started_at: time.nullable(),
  finished_at: time.nullable(),
  heartbeat_at: time.nullable(),
  payload: z.object({
    target_namespace: z.string().nullable(),
    target_table: z.string().nullable(),
    source_type: z.string().nullable(),
  }),
  inputs: z.array(datasetSchema),
  outputs: z.array(datasetSchema),
  latest_task: z
    .object({
      key: z.string(),
      status: z.enum(TASK_STATUSES),
      attempt: z.number().int().positive(),
      started_at: time.nullable(),
      finished_at: time.nullable(),
      error: z.string().nullable(),
    })
    .nullable(),
  result: resultSchema.nullable(),
  error: runErrorSchema.nullable(),
  code_version: z.string().nullable(),
  first_created_at: time.nullable(),
  changed_at: time.nullable().default(null),
  trace: traceSummarySchema.nullable().default(null),
  artifacts: artifactsSummarySchema.nullable().default(null),
  projection_version: z.number().int().positive(),
});
export type Projection = z.infer<typeof projectionSchema>;

/** Pure: the same canonical run gives the same projection, key order included. */
export function project(run: Run): Projection {
  return {
    run_id: run.run_id,
    org_id: run.org_id,
    kind: run.kind,
    reference_id: run.reference_id,
    queue: run.queue,
    status: run.status,
    attempt: run.attempt,
    revision: run.revision,
    created_at: run.created_at,
    updated_at: run.updated_at,
    started_at: run.started_at,
    finished_at: run.finished_at,
    heartbeat_at: run.heartbeat_at,
    payload: {
      target_namespace: run.payload.target_namespace,
      target_table: run.payload.target_table,
      source_type: run.payload.source_type,
    },
    inputs: run.inputs.map(plainDataset),
    outputs: run.outputs.map(plainDataset),
    latest_task: latestTask(run),
    result: run.result && {
      uri: run.result.uri,
      rows: run.result.rows,
      bytes: run.result.bytes,
      version: run.result.version,
    },
    error: run.error && cutError(run.error),
    code_version: run.code_version,
    first_created_at: run.first_created_at,
    changed_at: run.changed_at !== undefined && run.changed_at > run.updated_at ? run.changed_at : null,
    trace: traceSummary(run),
    artifacts: artifactSummary(run),
    projection_version: PROJECTION_VERSION,
  };
}

/** Every table a run writes or means to write: its outputs, and its target where that is not among them. */
export function tablesOf(
  row: Pick<Projection, 'payload'> & { outputs: readonly Dataset[] },
): readonly Dataset[] {
  const { target_namespace, target_table } = row.payload;
  if (target_table === null || target_table === '') return row.outputs;
  const namespace = target_namespace ?? '';
  if (row.outputs.some((o) => o.namespace === namespace && o.name === target_table)) return row.outputs;
  return [...row.outputs, { namespace, name: target_table }];
}

/** Hash of a projection's bytes: orders two different projections of one revision and version (fold ties). */
export function projectionHash(row: Projection): string {
  return createHash('sha256').update(JSON.stringify(row)).digest('hex');
}

function plainDataset({ namespace, name }: Dataset): Dataset {
  return { namespace, name };
}

/** The task that changed last; among equals the greatest key. */
function latestTask(run: Run): Projection['latest_task'] {
  let latest: Task | null = null;
  for (const task of Object.values(run.tasks)) {
    if (
      latest === null ||
      task.updated_at > latest.updated_at ||
      (task.updated_at === latest.updated_at && task.key > latest.key)
    ) {
      latest = task;
    }
  }
  if (latest === null) return null;
  const { key, status, attempt, started_at, finished_at, error } = latest;
  return { key, status, attempt, started_at, finished_at, error: error && cut(error.message) };
}

function traceSummary({ traces = {} }: Run): Projection['trace'] {
  const attempts = Object.keys(traces).map(Number);
  if (attempts.length === 0) return null;
  const attempt = Math.max(...attempts);
  const archive = traces[String(attempt)]?.archive ?? null;
  return {
    status: statusOfAll(Object.values(traces).map(({ status }) => status)),
    attempt,
    uri: archive?.uri ?? null,
    bytes: archive?.bytes ?? null,
    lines: archive?.lines ?? null,
    gaps: archive?.gap_count ?? null,
    sha256: archive?.sha256 ?? null,
    crc32c: archive?.crc32c ?? null,
  };
}

function statusOfAll(statuses: readonly TraceStatus[]): TraceStatus {
  if (statuses.includes('live')) return 'live';
  const [first] = statuses;
  return statuses.every((status) => status === first) ? first! : 'partial';
}

function cutError({ code, message }: RunError): RunError {
  return { code, message: cut(message) };
}

function cut(text: string): string {
  const max = defaultLimits.errorLengthMax;
  if (text.length <= max) return text;
  // Never end on half a surrogate pair: it would not survive UTF-8.
  const end = (text.charCodeAt(max - 2) & 0xfc00) === 0xd800 ? max - 2 : max - 1;
  return `${text.slice(0, end)}…`;
}
