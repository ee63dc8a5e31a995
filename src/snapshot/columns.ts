import type { Projection } from '../runs/projection.ts';
import { RUN_STATUSES, TASK_STATUSES, TRACE_STATUSES } from '../runs/run.ts';

/**
 * The one list of columns. Rows, both Parquet writers, the reader, the Arrow table and the docs are driven by it:
 * a new field of the projection is one line here, with the projection version it came `since`. Parts written before
 * do not have the column: it reads as null, so it must be able to be.
 *
 * - `text`: mostly distinct per row; kept as UTF-8 bytes.
 * - `dictionary`: few distinct values; kept as codes.
 * - `datasets`: a list of tables as canonical JSON `[["namespace","name"],…]`, kept as codes. No tables is `[]`, not null.
 * - `integer`, `time`: integers from 0 to 2^53 − 1; times are ms since the epoch, UTC.
 * - `flag`: whether the object at `path` is there at all.
 * - `constant`: one value per part; a column in Parquet, nothing per row in memory.
 *
 * The order is that of the projection's keys, so that a row read back has the same bytes as JSON.
 */
export const COLUMNS = [
  column('run_id', 'text', 'Id of the run, unique within the org.', { statistics: true }),
  column('org_id', 'constant', 'The org that owns the run.', { statistics: true }),
  column('kind', 'dictionary', 'What sort of run it is.', { statistics: true }),
  column('reference_id', 'dictionary', "The caller's own id of what is run.", { nullable: true }),
  column('queue', 'dictionary', 'Queue the run waits or waited in.', { nullable: true, statistics: true }),
  column('status', 'dictionary', 'Status of the run.', { values: RUN_STATUSES, statistics: true }),
  column('attempt', 'integer', 'Attempt the run is in; the first is 1.', { min: 1 }),
  column('revision', 'integer', 'Rises by one with every write of the canonical run.', { min: 1 }),
  column('created_at', 'time', 'When the run was created.', { statistics: true }),
  column('updated_at', 'time', 'When the run last changed in its life.', { statistics: true }),
  column('started_at', 'time', 'When the attempt started.', { nullable: true }),
  column('finished_at', 'time', 'When the run ended.', { nullable: true, statistics: true }),
  column('heartbeat_at', 'time', 'Last sign of life that was recorded.', { nullable: true }),
  column('target_namespace', 'dictionary', 'Namespace of the table the run was asked to write.', {
    path: 'payload.target_namespace',
    nullable: true,
    statistics: true,
  }),
  column('target_table', 'dictionary', 'The table the run was asked to write.', {
    path: 'payload.target_table',
    nullable: true,
    statistics: true,
  }),
  column('source_type', 'dictionary', 'Sort of system the run reads.', {
    path: 'payload.source_type',
    nullable: true,
  }),
  column('inputs', 'datasets', 'Tables read.'),
  column('outputs', 'datasets', 'Tables written.'),
  column('task_key', 'dictionary', 'The task that changed last; null: the run has no tasks.', {
    path: 'latest_task.key',
    nullable: true,
    marks: true,
  }),
  column('task_status', 'dictionary', 'Its status.', { path: 'latest_task.status', values: TASK_STATUSES }),
  column('task_attempt', 'integer', 'Its attempt.', { path: 'latest_task.attempt', min: 1 }),
  column('task_started_at', 'time', 'When it started.', { path: 'latest_task.started_at', nullable: true }),
  column('task_finished_at', 'time', 'When it ended.', { path: 'latest_task.finished_at', nullable: true }),
  column('task_error', 'text', 'Its error message, cut.', { path: 'latest_task.error', nullable: true }),
  column('has_result', 'flag', 'Whether the run has left a result.', { path: 'result' }),
  column('result_uri', 'text', 'Where the result lies.', { path: 'result.uri', nullable: true }),
  column('result_rows', 'integer', 'Rows in the result.', { path: 'result.rows', nullable: true }),
  column('result_bytes', 'integer', 'Bytes of the result.', { path: 'result.bytes', nullable: true }),
  column('result_version', 'text', 'Version of the table that the result made.', {
    path: 'result.version',
    nullable: true,
  }),
  column('error_code', 'dictionary', 'Stable code of the error.', { path: 'error.code', nullable: true }),
  column('error_message', 'text', 'Error message, cut; null: the run has no error.', {
    path: 'error.message',
    nullable: true,
    marks: true,
  }),
  column('code_version', 'dictionary', 'Version of the code that runs.', { nullable: true }),
  column('first_created_at', 'time', 'What created_at was at first, where later events moved it back.', {
    nullable: true,
  }),
  column('changed_at', 'time', 'Last change that left updated_at alone, where it is the later one.', {
    nullable: true,
    since: 2,
  }),
  column('trace_status', 'dictionary', "State of the run's trace; null: it has written none.", {
    path: 'trace.status',
    values: TRACE_STATUSES,
    marks: true,
    since: 2,
  }),
  column('trace_attempt', 'integer', 'The last attempt that wrote a trace.', {
    path: 'trace.attempt',
    min: 1,
    since: 2,
  }),
  column('trace_uri', 'text', 'Where its archive lies.', { path: 'trace.uri', nullable: true, since: 2 }),
  column('trace_bytes', 'integer', 'Bytes of its text.', { path: 'trace.bytes', nullable: true, since: 2 }),
  column('trace_lines', 'integer', 'Lines of its text.', { path: 'trace.lines', nullable: true, since: 2 }),
  column('trace_gaps', 'integer', 'Places where text is missing.', {
    path: 'trace.gaps',
    nullable: true,
    since: 2,
  }),
  column('trace_sha256', 'text', 'SHA-256 of its text, hexadecimal.', {
    path: 'trace.sha256',
    nullable: true,
    since: 2,
  }),
  column('trace_crc32c', 'integer', 'CRC-32C of the archive as stored.', {
    path: 'trace.crc32c',
    nullable: true,
    since: 2,
  }),
  column('artifact_count', 'integer', 'Artifacts of the run; null: none.', {
    path: 'artifacts.count',
    min: 1,
    marks: true,
    since: 2,
  }),
  column('artifacts_expire_at', 'time', 'When the first of them expires.', {
    path: 'artifacts.expires_at',
    nullable: true,
    since: 2,
  }),
  column('projection_version', 'integer', 'Version of the function that made this projection.', { min: 1 }),
] as const;

export type ColumnKind = 'text' | 'dictionary' | 'datasets' | 'integer' | 'time' | 'flag' | 'constant';

export interface ColumnDefinition<Name extends string = string, Kind extends ColumnKind = ColumnKind> {
  readonly name: Name;
  readonly kind: Kind;
  /** For docs and for the metadata of Arrow fields. */
  readonly about: string;
  /** The object of the projection that holds the field; null: the projection itself. */
  readonly group: string | null;
  readonly field: string;
  /** The field itself may be null. (A column is null too where its whole group is.) */
  readonly nullable: boolean;
  /** The group is there exactly when this column is not null. */
  readonly marks: boolean;
  /** The closed set of values, where there is one. */
  readonly values: readonly string[] | null;
  /** Least number allowed. */
  readonly min: number;
  /** Worth a minimum and a maximum in the Parquet footer. */
  readonly statistics: boolean;
  /** The projection version that brought it: parts of older ones may lack it. */
  readonly since: number;
}

export type ColumnName = (typeof COLUMNS)[number]['name'];
export type ColumnOf<Kind extends ColumnKind> = Extract<(typeof COLUMNS)[number], { kind: Kind }>['name'];
export type TextColumn = ColumnOf<'text'>;
export type DictionaryColumn = ColumnOf<'dictionary'>;
export type DatasetsColumn = ColumnOf<'datasets'>;
export type NumberColumn = ColumnOf<'integer' | 'time' | 'flag'>;
export type TimeColumn = ColumnOf<'time'>;
/** Columns that `Rows` stores, that is all but the constant ones. */
export type StoredColumn = Exclude<ColumnName, ColumnOf<'constant'>>;

export const STORED_COLUMNS: readonly ColumnDefinition<StoredColumn>[] = COLUMNS.filter(
  (definition) => definition.kind !== 'constant',
) as ColumnDefinition<StoredColumn>[];

export const STORED_BY_NAME: ReadonlyMap<string, ColumnDefinition<StoredColumn>> = new Map(
  STORED_COLUMNS.map((definition) => [definition.name, definition]),
);

/** Groups that may be null as a whole, with the column that says whether they are there. */
export const GROUP_MARKS: ReadonlyMap<string, ColumnDefinition<StoredColumn>> = new Map(
  STORED_COLUMNS.filter((definition) => definition.marks || definition.kind === 'flag').map((definition) => [
    definition.group ?? definition.field,
    definition,
  ]),
);

/** The column that says whether the group of this one is there; null: it has none, or is that column itself. */
export function markOf({ name, group }: ColumnDefinition): ColumnDefinition<StoredColumn> | null {
  const mark = group === null ? undefined : GROUP_MARKS.get(group);
  return mark === undefined || mark.name === name ? null : mark;
}

/** Whether the Parquet column is OPTIONAL. */
export function isOptional(definition: ColumnDefinition): boolean {
  return definition.nullable || (definition.group !== null && GROUP_MARKS.has(definition.group));
}

/** The value of a stored column in a projection. Flags are 0 or 1; datasets are their list. */
export function readColumn(definition: ColumnDefinition, row: Projection): unknown {
  const outer = row as unknown as Record<string, unknown>;
  if (definition.group === null) {
    const value = outer[definition.field];
    return definition.kind === 'flag' ? (value === null ? 0 : 1) : value;
  }
  const group = outer[definition.group] as Record<string, unknown> | null;
  return group === null ? null : group[definition.field];
}

export function column<const Name extends string, const Kind extends ColumnKind>(
  name: Name,
  kind: Kind,
  about: string,
  options: Partial<
    Pick<ColumnDefinition, 'nullable' | 'marks' | 'values' | 'min' | 'statistics' | 'since'>
  > & {
    path?: string;
  } = {},
): ColumnDefinition<Name, Kind> {
  const [first, second] = (options.path ?? name).split('.') as [string, string?];
  return {
    name,
    kind,
    about,
    group: second === undefined ? null : first,
    field: second ?? first,
    nullable: options.nullable ?? false,
    marks: options.marks ?? false,
    values: options.values ?? null,
    min: options.min ?? 0,
    statistics: options.statistics ?? false,
    since: options.since ?? 1,
  };
}
