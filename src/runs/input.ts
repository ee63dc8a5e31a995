import { z } from 'zod';
import { isId } from '../core/ids.ts';
import { checkInput } from '../core/input.ts';
import { defaultLimits } from '../core/limits.ts';
import type { NewRun, RunEvent } from './events.ts';
import { traceArchiveSchema } from './run.ts';

/**
 * What callers may say, checked at the recorder's edge: nothing that these schemas refuse ever reaches a canonical
 * run. Unknown fields are refused, because a field that is silently dropped is a lie to its sender.
 */
const { textLengthMax, datasetsMax, artifactFiguresMax, artifactTtlMaxMs } = defaultLimits;

const id = z.string().refine((value) => isId(value), {
  error: 'must be 1 to 128 letters, digits or ._:@~+=-, without ".."',
});
const text = z
  .string()
  .max(textLengthMax)
  .refine((value) => value.isWellFormed(), { error: 'has half a surrogate pair' });
const count = z.number().int().nonnegative();
const duration = z.number().int().positive();
const attempt = z.number().int().positive();

export const datasetInput = z.strictObject({ namespace: text, name: text.min(1) });
const datasets = z.array(datasetInput).max(datasetsMax);

export const resultInput = z.strictObject({
  uri: text.nullable().optional(),
  rows: count.nullable().optional(),
  bytes: count.nullable().optional(),
  version: text.nullable().optional(),
});

/** Messages may be long; readers see them cut. */
const message = z
  .string()
  .max(64 * 1024)
  .refine((value) => value.isWellFormed(), { error: 'has half a surrogate pair' });
export const errorInput = z.strictObject({ code: text.nullable(), message });

export const newRunInput = z.strictObject({
  run_id: id,
  kind: text.min(1).optional(),
  reference_id: text.nullable().optional(),
  queue: id.nullable().optional(),
  run_key: id.nullable().optional(),
  payload: z
    .looseObject({
      target_namespace: text.nullable().optional(),
      target_table: text.nullable().optional(),
      source_type: text.nullable().optional(),
    })
    .optional(),
  inputs: datasets.optional(),
  outputs: datasets.optional(),
  code_version: text.nullable().optional(),
  heartbeat_timeout_ms: duration.nullable().optional(),
  run_timeout_ms: duration.nullable().optional(),
});

const ending = {
  inputs: datasets.optional(),
  outputs: datasets.optional(),
  result: resultInput.nullable().optional(),
};
const indexIntervalMs = z.number().nonnegative().optional();

const taskInput = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('queued'), key: id }),
  z.strictObject({ type: z.literal('started'), key: id, attempt }),
  z.strictObject({ type: z.literal('heartbeat'), key: id, attempt, indexIntervalMs }),
  z.strictObject({ type: z.literal('succeeded'), key: id, attempt, outputs: datasets.optional() }),
  z.strictObject({ type: z.literal('failed'), key: id, attempt, error: errorInput }),
  z.strictObject({ type: z.literal('cancelled'), key: id, attempt }),
  z.strictObject({ type: z.literal('retry'), key: id, attempt }),
]);

/** Shown to people as a link some day: nothing that a browser would run. */
const uri = text
  .regex(/^[a-z][a-z0-9+.-]*:[^\s\p{Cc}]+$/u, { error: 'is not a URI: scheme:rest, without spaces' })
  .refine((value) => !/^(javascript|data|vbscript):/.test(value), {
    error: 'has a scheme that is not allowed',
  });

export const newArtifactInput = z.strictObject({
  uri: uri.nullable().optional(),
  media_type: text.min(1).nullable().optional(),
  bytes: count.nullable().optional(),
  rows: count.nullable().optional(),
  statistics: z
    .record(id, z.number().nonnegative())
    .refine((figures) => Object.keys(figures).length <= artifactFiguresMax, {
      error: `has more than ${artifactFiguresMax} figures`,
    })
    .nullable()
    .optional(),
  ttl_ms: duration.max(artifactTtlMaxMs).nullable().optional(),
});

const artifactRefs = z.array(z.strictObject({ key: z.string(), uri: z.string().nullable() }));
const artifactInput = z.discriminatedUnion('type', [
  newArtifactInput
    .extend({ type: z.literal('put'), operator: id, port: id })
    .refine(({ uri, statistics }) => uri != null || statistics != null, {
      error: 'has neither a uri nor statistics',
    }),
  z.strictObject({ type: z.literal('drop'), operator: id, port: id }),
  z.strictObject({ type: z.literal('expire'), remove: artifactRefs, mark: artifactRefs }),
  z.strictObject({ type: z.literal('settle'), removed: artifactRefs }),
]);

export const runEventInput = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('create'),
    orgId: id,
    input: newRunInput,
    fingerprint: z.string().min(1),
  }),
  z.strictObject({ type: z.literal('started'), attempt, code_version: text.nullable().optional() }),
  z.strictObject({ type: z.literal('heartbeat'), attempt, indexIntervalMs }),
  z.strictObject({ type: z.literal('succeeded'), attempt, ...ending }),
  z.strictObject({ type: z.literal('failed'), attempt, error: errorInput, ...ending }),
  z.strictObject({ type: z.literal('cancelled'), attempt, error: errorInput.nullable().optional() }),
  z.strictObject({ type: z.literal('cancel'), attempt: attempt.optional() }),
  z.strictObject({ type: z.literal('force_cancel'), attempt: attempt.optional() }),
  z.strictObject({ type: z.literal('force_fail'), attempt: attempt.optional(), error: errorInput }),
  z.strictObject({ type: z.literal('time_out') }),
  z.strictObject({ type: z.literal('retry'), attempt }),
  z.strictObject({ type: z.literal('delete') }),
  z.strictObject({ type: z.literal('task'), attempt, task: taskInput }),
  z.strictObject({ type: z.literal('artifact'), attempt, artifact: artifactInput }),
  z.strictObject({ type: z.literal('trace'), attempt }),
  z.strictObject({
    type: z.literal('trace_archived'),
    attempt,
    archive: traceArchiveSchema,
    imported: z.boolean().optional(),
  }),
]);

/** Throws InputError, naming the run and the field. */
export function checkNewRun(input: unknown): NewRun {
  return checkInput('The new run', newRunInput, input) as NewRun;
}

/** Throws InputError, naming the run and the field. */
export function checkRunEvent(runId: string, event: unknown): RunEvent {
  return checkInput(`The event for run ${runId}`, runEventInput, event) as RunEvent;
}
