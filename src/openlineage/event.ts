import { z } from 'zod';
import { InputError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';

/**
 * OpenLineage 2-0-2 at the edge. What the specification calls required but runfold does not need (`producer`,
 * `schemaURL`) may be missing; what it needs must be well-formed, or the event is refused with a reason. Facets are
 * extensions: one that is malformed, unknown or `_deleted` counts as absent and never costs the event.
 */
const facets = <S extends z.ZodRawShape>(shape: S) => z.object(shape).optional().catch(undefined);

/** `_deleted: true` fails to parse, and so counts as absent. */
const facet = <S extends z.ZodRawShape>(shape: S) =>
  facets({ ...shape, _deleted: z.literal(false).nullish() });

const text = z.string().min(1).optional().catch(undefined);
const amount = z.number().int().nonnegative().optional().catch(undefined);
const absent = <T>(value: T | null | undefined): T | undefined => value ?? undefined;

const datasetSchema = z.object({
  // Real Spark events leave the namespace of a JDBC table out.
  namespace: z
    .string()
    .nullish()
    .transform((value) => value ?? ''),
  name: z.string().min(1, 'is empty'),
  facets: facets({ version: facet({ datasetVersion: text }) }),
  outputFacets: facets({ outputStatistics: facet({ rowCount: amount, size: amount }) }),
});
export type EventDataset = z.infer<typeof datasetSchema>;

const jobSchema = z.object({
  namespace: z.string(),
  name: z.string().min(1, 'is empty'),
  facets: facets({
    jobType: facet({ jobType: text, integration: text }),
    sourceCodeLocation: facet({ version: text }),
  }),
});

const runSchema = z.object({
  runId: z.string().transform((id, context) => {
    try {
      return checkId('run id', id);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      context.issues.push({ code: 'custom', input: id, message: `is not usable: ${error.message}` });
      return z.NEVER;
    }
  }),
  facets: facets({ errorMessage: facet({ message: text }) }),
});

export const EVENT_TYPES = ['START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL', 'OTHER'] as const;
const eventTypeSchema = z
  .string()
  .transform((value) => value.toUpperCase())
  .pipe(z.enum(EVENT_TYPES, `is not one of ${EVENT_TYPES.join(', ')}`))
  .nullish()
  .transform(absent);

const datasets = z
  .array(datasetSchema)
  .nullish()
  .transform((value) => value ?? []);

const baseEvent = {
  /** ms since the epoch. */
  eventTime: z.string().transform((value, context) => {
    const at = parseTime(value);
    if (at !== null) return at;
    const message = `is not an ISO 8601 time from 1970 on: ${JSON.stringify(value.slice(0, 40))}`;
    context.issues.push({ code: 'custom', input: value, message });
    return z.NEVER;
  }),
  producer: text,
};

const runEventSchema = z.object({
  ...baseEvent,
  eventType: eventTypeSchema,
  run: runSchema,
  job: jobSchema,
  inputs: datasets,
  outputs: datasets,
});
export type RunEvent = z.infer<typeof runEventSchema>;

const jobEventSchema = z.object({ ...baseEvent, job: jobSchema, inputs: datasets, outputs: datasets });
export type JobEvent = z.infer<typeof jobEventSchema>;

const datasetEventSchema = z.object({ ...baseEvent, dataset: datasetSchema });
export type DatasetEvent = z.infer<typeof datasetEventSchema>;

export type ParsedEvent =
  | { readonly type: 'run'; readonly event: RunEvent }
  | { readonly type: 'job'; readonly event: JobEvent }
  | { readonly type: 'dataset'; readonly event: DatasetEvent }
  | { readonly type: 'rejected'; readonly reason: string };

/**
 * Tells the three kinds of event apart by what they hold: a `run`; else a `job` (real Spark events say START and name
 * no run: they describe a job); else a `dataset`. Never throws.
 */
export function parseEvent(json: unknown): ParsedEvent {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    return { type: 'rejected', reason: 'the event is not a JSON object' };
  }
  const { run, job, dataset } = json as Record<string, unknown>;
  if (run != null) return parsed('run', runEventSchema, json);
  if (job != null) return parsed('job', jobEventSchema, json);
  if (dataset != null) return parsed('dataset', datasetEventSchema, json);
  return { type: 'rejected', reason: 'run, job and dataset are all missing' };
}

const TIME =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?(?:[Zz]|([+-])(\d\d):?(\d\d)?)?$/;

/**
 * An ISO 8601 time as ms since the epoch, finer digits cut off; null when it is none, or before 1970. Without an
 * offset it is UTC, as the Python client writes it, and never the zone of the machine that imports.
 */
export function parseTime(value: string): number | null {
  const match = TIME.exec(value);
  if (match === null) return null;
  const number = (group: number) => Number(match[group] ?? 0);
  const [year, month, day] = [number(1), number(2), number(3)];
  const [hour, minute, second] = [number(4), number(5), number(6)];
  const ms = Number((match[7] ?? '').padEnd(3, '0').slice(0, 3));
  const offsetMinutes = (match[8] === '-' ? -1 : 1) * (number(9) * 60 + number(10));
  // 60 is a leap second; it rolls over into the next minute.
  if (hour > 23 || minute > 59 || second > 60 || number(9) > 23 || number(10) > 59) return null;
  const date = new Date(Date.UTC(year, month - 1, day));
  if (date.getUTCFullYear() !== year || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day)
    return null;
  const at = Date.UTC(year, month - 1, day, hour, minute - offsetMinutes, second, ms);
  return at >= 0 ? at : null;
}

function parsed<T extends 'run' | 'job' | 'dataset', E>(type: T, schema: z.ZodType<E>, json: object) {
  const result = schema.safeParse(json, { error: complaint });
  if (result.success) return { type, event: result.data } as Extract<ParsedEvent, { type: T }>;
  return { type: 'rejected' as const, reason: reasonOf(result.error) };
}

const complaint: z.core.$ZodErrorMap = (issue) => {
  if (issue.code !== 'invalid_type') return undefined;
  if (issue.input == null) return 'is missing';
  const article = issue.expected === 'object' || issue.expected === 'array' ? 'an' : 'a';
  return `is not ${article} ${issue.expected}`;
};

/** The first few things that are wrong, by path: one line for a person. */
function reasonOf({ issues }: z.core.$ZodError): string {
  const shown = issues.slice(0, 3).map(({ path, message }) => `${path.join('.')} ${message}`);
  if (issues.length > shown.length) shown.push(`and ${issues.length - shown.length} more`);
  return shown.join('; ');
}
