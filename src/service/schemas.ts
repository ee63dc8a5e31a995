import { z } from 'zod';
import { isId } from '../core/ids.ts';
import { defaultLimits } from '../core/limits.ts';
import { EVENT_TYPES } from '../openlineage/event.ts';
import { ARTIFACT_KINDS } from '../runs/artifacts.ts';
import type { NewArtifact, NewRun, RunEvent, TaskEvent } from '../runs/events.ts';
import { datasetInput, newArtifactInput, newRunInput, runEventInput } from '../runs/input.ts';
import { projectionSchema } from '../runs/projection.ts';
import {
  artifactSchema,
  datasetSchema,
  RUN_STATUSES,
  runSchema,
  TASK_STATUSES,
  TRACE_STATUSES,
  taskSchema,
} from '../runs/run.ts';
import type { ServiceErrorCode } from './problem.ts';
import { MEANINGS } from './problem.ts';

/**
 * What goes over the wire, once: routes check requests against it, /openapi.json is made from it, and the client
 * takes its types from it. Times are ms since the epoch, UTC, as everywhere in runfold.
 */
const time = z.number().int().nonnegative().meta({ description: 'ms since the epoch, UTC' });
const count = z.number().int().nonnegative();

export const idParam = z
  .string()
  .refine((value) => isId(value), {
    error: `must be 1 to ${defaultLimits.idLengthMax} letters, digits or ._:@~+=-, without ".."`,
  })
  .meta({ minLength: 1, maxLength: defaultLimits.idLengthMax, pattern: '^[A-Za-z0-9][A-Za-z0-9._:@~+=-]*$' });

/** Components of the OpenAPI document, by the name they have there. */
export const components = z.registry<{ id: string }>();
function named<S extends z.ZodType>(id: string, schema: S): S {
  components.add(schema, { id });
  return schema;
}

export const problemSchema = named(
  'Problem',
  z.looseObject({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.enum(Object.keys(MEANINGS) as [ServiceErrorCode, ...ServiceErrorCode[]]),
    detail: z.string(),
    hint: z.string().optional(),
    run_status: z.enum(RUN_STATUSES).optional(),
  }),
);

named('Dataset', datasetSchema);
named('DatasetInput', datasetInput);

/** A run as lists show it: docs/SCHEMA.md. */
export const projectionView = named('RunSummary', projectionSchema);
export type RunSummary = z.infer<typeof projectionView>;

/** What callers see of an artifact. */
export const artifactView = named(
  'Artifact',
  z.object({
    ...artifactSchema.shape,
    kind: z
      .enum(ARTIFACT_KINDS)
      .meta({ description: 'by its port: `console` and `statistics`, else `result`' }),
    replaced: z
      .boolean()
      .meta({ description: 'true: another one is at this port now; this one is still to be removed' }),
  }),
);
export type ArtifactView = z.infer<typeof artifactView>;

/** Fields of the canonical run that are nobody's business but the recorder's, or have a shape of their own here. */
export const INTERNAL = {
  format: true,
  fingerprint: true,
  indexed_revision: true,
  indexed_at: true,
  observed: true,
  deleted_at: true,
  first_created_at: true,
} as const;

/** A run as it is stored, with all its tasks and its whole payload. */
export const runView = named(
  'Run',
  z.object({
    ...runSchema.omit(INTERNAL).shape,
    run_key: z.string().nullable(),
    tasks: z.array(taskSchema),
    artifacts: z.array(artifactView),
    traces: z
      .array(
        z.object({
          attempt: z.number().int().positive(),
          status: z.enum(TRACE_STATUSES),
          bytes: count.nullable(),
          lines: count.nullable(),
          gap_bytes: count.nullable(),
          archived_at: time.nullable(),
        }),
      )
      .meta({ description: 'logs of its attempts; what is null is not known before a log was archived' }),
  }),
);
export type RunView = z.infer<typeof runView>;

export const acknowledgement = named(
  'Acknowledgement',
  z.object({
    run_id: z.string(),
    status: z.enum(RUN_STATUSES),
    attempt: z.number().int().positive(),
    revision: z.number().int().positive(),
    updated_at: time,
    changed: z.boolean().meta({ description: 'false: this was a repeat, and nothing changed' }),
    cancel_requested: z
      .boolean()
      .meta({ description: 'true: somebody wants this run cancelled; stop, and report `cancelled`' }),
    task: z
      .object({ key: z.string(), status: z.enum(TASK_STATUSES), attempt: z.number().int().positive() })
      .nullable(),
  }),
);
export type Acknowledgement = z.infer<typeof acknowledgement>;

export const artifactAcknowledgement = named(
  'ArtifactAcknowledgement',
  z.object({ ...acknowledgement.shape, artifact: artifactView }),
);
export type ArtifactAcknowledgement = z.infer<typeof artifactAcknowledgement>;

export const artifactsView = named('Artifacts', z.object({ artifacts: z.array(artifactView) }));
export type Artifacts = z.infer<typeof artifactsView>;

/** What one operator (one task) of an execution did, and what it left. */
const operatorView = z.object({
  operator: z.string(),
  status: z.enum(TASK_STATUSES).nullable().meta({ description: 'null: the run has no task of this name' }),
  attempt: z.number().int().positive().nullable(),
  started_at: time.nullable(),
  finished_at: time.nullable(),
  duration_ms: count.nullable(),
  rows: count.nullable().meta({ description: 'sum over its results, where told' }),
  bytes: count.nullable(),
  statistics: z.record(z.string(), z.number()).nullable().meta({ description: 'figures it reported' }),
  artifacts: z.array(artifactView),
});

export const executionView = named(
  'Execution',
  z.object({
    run: projectionView,
    duration_ms: count.nullable().meta({ description: 'from the start of its last attempt to its end' }),
    operators: z.array(operatorView),
  }),
);
export type Execution = z.infer<typeof executionView>;

const runBrief = z.object({ run_id: z.string(), status: z.enum(RUN_STATUSES), updated_at: time });
export const tableView = named(
  'Table',
  z.object({
    namespace: z.string(),
    name: z.string(),
    latest_run: runBrief,
    latest_success: runBrief.nullable(),
    upstream: count,
    downstream: count,
  }),
);

const nextCursor = z.string().nullable().meta({ description: 'of the next page; null: this is the last' });
export const tablesPage = named('Tables', z.object({ tables: z.array(tableView), next: nextCursor }));
export const runsPage = named('Runs', z.object({ runs: z.array(projectionView), next: nextCursor }));
export type TablesPage = z.infer<typeof tablesPage>;
export type RunsPage = z.infer<typeof runsPage>;

export const lineageView = named(
  'Lineage',
  z.object({
    nodes: z.array(datasetSchema),
    edges: z.array(z.object({ from: datasetSchema, to: datasetSchema, run_id: z.string() })),
  }),
);

export const changesView = named(
  'Changes',
  z.object({
    changes: z.array(
      z.object({
        run_id: z.string(),
        run: projectionView.nullable().meta({ description: 'null: the run is not in the catalog any more' }),
      }),
    ),
    cursor: z.string().meta({ description: 'send it with the next request' }),
    more: z.boolean().meta({ description: 'true: there is more already; ask again at once' }),
  }),
);
export type Changes = z.infer<typeof changesView>;

/** A run id may be left out where an `Idempotency-Key` stands in for it. */
export const newRunBody = named('NewRun', newRunInput.partial({ run_id: true }));
export type NewRunBody = Omit<NewRun, 'run_id'> & { run_id?: string };

export const artifactBody = named(
  'NewArtifact',
  newArtifactInput.extend({ attempt: z.number().int().positive().meta({ description: 'of the run' }) }),
);
export type ArtifactBody = Omit<NewArtifact, 'operator' | 'port'> & { attempt: number };

type Body<E, K extends string> = E extends { type: K } ? Omit<E, 'type' | 'key' | 'indexIntervalMs'> : never;

export type EventBody<K extends RunEvent['type']> = Body<RunEvent, K>;

/** The body of a route is the event that the recorder checks, without what the path says. */
export function eventBody<K extends RunEvent['type']>(type: K, name: string): z.ZodType<Body<RunEvent, K>> {
  return named(name, bodyOf(runEventInput.options, type)) as unknown as z.ZodType<Body<RunEvent, K>>;
}

export type TaskBody<K extends TaskEvent['type']> = Body<TaskEvent, K> & { run_attempt: number };

/** `run_attempt` is that of the run, `attempt` that of the task. */
export function taskBody<K extends TaskEvent['type']>(type: K, name: string): z.ZodType<TaskBody<K>> {
  const taskInput = runEventInput.options.find((option) => option.shape.type.value === 'task') as unknown as {
    shape: { task: { options: readonly z.ZodObject[] } };
  };
  const body = bodyOf(taskInput.shape.task.options, type).extend({
    run_attempt: z.number().int().positive(),
  });
  return named(name, body) as unknown as z.ZodType<TaskBody<K>>;
}

function bodyOf(options: readonly z.ZodObject[], type: string): z.ZodObject {
  const option = options.find(({ shape }) => (shape.type as z.ZodLiteral).value === type);
  if (option === undefined) throw new TypeError(`There is no event ${type}.`);
  const { type: _, key: __, indexIntervalMs: ___, ...shape } = option.shape;
  return z.strictObject(shape);
}

/** What OpenLineage clients send. Checked event by event: see openlineage/event.ts. */
export const lineageEvent = named(
  'OpenLineageEvent',
  z.looseObject({}).meta({
    description:
      `A RunEvent, JobEvent or DatasetEvent of OpenLineage 2-0-2. eventType: ${EVENT_TYPES.join(', ')}, or none. ` +
      'https://openlineage.io/spec/2-0-2/OpenLineage.json',
  }),
);

export const batchReport = named(
  'BatchReport',
  z.object({
    status: z.enum(['success', 'partial_success']),
    summary: z.object({
      received: count,
      successful: count,
      failed: count,
      retriable: count,
      non_retriable: count,
    }),
    failed_events: z.array(z.object({ index: count, reason: z.string(), retriable: z.boolean() })),
  }),
);
export type BatchReport = z.infer<typeof batchReport>;

export const traceAppended = named(
  'TraceAppended',
  z.object({
    next: count.meta({ description: 'the offset of the next chunk' }),
    repeated: z.boolean().meta({ description: 'true: this chunk was there already' }),
  }),
);
export type TraceAppended = z.infer<typeof traceAppended>;

export const readiness = named(
  'Readiness',
  z.object({ status: z.literal('ready'), store_ms: z.number(), fold_lag_ms: z.number().nullable() }),
);
