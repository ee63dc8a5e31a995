import { z } from 'zod';
import { project, projectionSchema } from './projection.ts';
import type { Run } from './run.ts';

/**
 * One fact about one run at one revision.
 * `put`: the canonical run looked like this. `intent`: somebody is about to write this canonical run; believe the
 * canonical object, not the intent. `delete`: the canonical run was removed.
 */
export const recordSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('put'), row: projectionSchema }),
  z.object({ kind: z.literal('intent'), row: projectionSchema }),
  z.object({
    kind: z.literal('delete'),
    run_id: z.string(),
    revision: z.number().int().positive(),
    deleted_at: z.number().int().nonnegative(),
  }),
]);
export type LogRecord = z.infer<typeof recordSchema>;
export type PutRecord = Extract<LogRecord, { kind: 'put' }>;
export type IntentRecord = Extract<LogRecord, { kind: 'intent' }>;
export type DeleteRecord = Extract<LogRecord, { kind: 'delete' }>;

/** What the log says of a canonical run. */
export function recordOf(run: Run): PutRecord | DeleteRecord {
  const { run_id, revision, deleted_at } = run;
  return deleted_at === null
    ? { kind: 'put', row: project(run) }
    : { kind: 'delete', run_id, revision, deleted_at };
}

export function intentOf(run: Run): IntentRecord {
  return { kind: 'intent', row: project(run) };
}

export function runIdOf(record: LogRecord): string {
  return record.kind === 'delete' ? record.run_id : record.row.run_id;
}

export function revisionOf(record: LogRecord): number {
  return record.kind === 'delete' ? record.revision : record.row.revision;
}
