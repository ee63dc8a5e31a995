import { z } from 'zod';
import { checkInput } from '../core/input.ts';
import { RUN_STATUSES } from '../runs/run.ts';
import type { CallOptions } from '../store/object-store.ts';
import type { LineageQuery } from './lineage.ts';
import type { VersionQuery } from './versions.ts';
import type { RunFilter } from './views.ts';

/**
 * What callers may ask a reader, checked at its edge. Unknown fields are refused: a filter that is silently dropped
 * answers another question than the one that was asked.
 */
const text = z.string({ error: 'must be a text' });
const time = z
  .number({ error: 'must be a time in ms since the epoch, as Date.parse gives it' })
  .refine(Number.isFinite);
const status = z.enum(RUN_STATUSES, { error: `must be among ${RUN_STATUSES.join(', ')}` });
const statuses = z.union([status, z.array(status).readonly()], {
  error: `must be one or a list of ${RUN_STATUSES.join(', ')}`,
});
const count = { error: 'must be a whole number, 0 or more' };
const whole = z.number(count).int(count).nonnegative(count);
const signal = z.custom<AbortSignal>(
  (value) => typeof (value as AbortSignal | null)?.aborted === 'boolean',
  'must be an AbortSignal',
);
const TABLE = 'must be an object with namespace, name, or both';
/** A view of a table will do. What has other fields only was meant to be something else. */
const table = z
  .looseObject({ namespace: text.optional(), name: text.optional() }, { error: TABLE })
  .refine((given) => 'namespace' in given || 'name' in given || Object.keys(given).length === 0, TABLE);

const call = z.strictObject({ signal: signal.optional() });
const filter = z.strictObject({
  table: table.optional(),
  status: statuses.optional(),
  kind: text.optional(),
  reference_id: text.optional(),
  queue: text.optional(),
  since: time.optional(),
  until: time.optional(),
  limit: whole.optional(),
});
const latest = z.strictObject({ status: statuses.optional(), signal: signal.optional() });
const active = z.strictObject({ queue: text.optional() });
const lineage = z.strictObject({
  // A view of a table will do.
  table: z.looseObject(
    { namespace: text, name: text },
    { error: 'must be an object with namespace and name' },
  ),
  direction: z
    .enum(['upstream', 'downstream', 'both'], { error: 'must be upstream, downstream or both' })
    .optional(),
  depth: whole.optional(),
});
const age = { error: 'must be a duration in ms, 0 or more' };
const refresh = z.strictObject({
  signal: signal.optional(),
  maxAgeMs: z.union([z.number(age).nonnegative(age), z.literal(Number.POSITIVE_INFINITY)], age).optional(),
});
const version = z.union(
  [z.strictObject({ version: z.number() }), z.strictObject({ asOf: z.number().or(z.nan()) })],
  { error: 'must be either { version } or { asOf }, a number each' },
);

export function checkRunFilter(given: RunFilter): void {
  checkInput('The filter of runs', filter, given, hint(filter));
}

export function checkLatestOf(referenceId: string, options: object): void {
  checkInput('The reference id', text, referenceId, 'latestOf takes the id of one reference.');
  checkInput('The filter of latestOf', latest, options, hint(latest));
}

export function checkActiveFilter(given: { queue?: string | undefined }): void {
  checkInput('The filter of active', active, given, hint(active));
}

export function checkLineageQuery(given: LineageQuery): void {
  checkInput('The lineage query', lineage, given, hint(lineage));
}

export function checkRefreshOptions(given: object): void {
  checkInput('The options of refresh', refresh, given, hint(refresh));
}

export function checkCallOptions(given: CallOptions): void {
  checkInput('The options', call, given, hint(call));
}

export function checkVersionQuery(given: VersionQuery): void {
  checkInput('The version query', version, given, 'docs/SCHEMA.md has the versions.');
}

function hint(schema: z.ZodObject): string {
  return `Fields are ${Object.keys(schema.shape).join(', ')}.`;
}
