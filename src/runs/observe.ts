import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../core/errors.ts';
import { defaultLimits, type Limits } from '../core/limits.ts';
import { blankRun } from './blank-run.ts';
import { datasetKey, join, NOTHING, type Observation, plainDataset, resultOf, stateOf } from './observed.ts';
import type { Dataset, Observed, Run } from './run.ts';

export type { Observation } from './observed.ts';

export interface RunIdentity {
  readonly org_id: string;
  readonly run_id: string;
}

/**
 * Merges one observation into a run (null: the run is not known yet). For every set of observations the final run is
 * the same whatever their order, grouping and repeats, `revision` and `indexed_*` aside: they count writes and are the
 * caller's to set, once per write, and only when `changed`.
 *
 * A run that events created gets its lifecycle from them: the latest terminal event decides; else RUNNING once a START
 * or RUNNING event was seen; else QUEUED (known to exist, not known to have begun). A run that workers created, or
 * that somebody moved through the lifecycle since, is theirs: events add inputs, outputs, and what it lacks of error,
 * result and code version, and move neither its status nor its times. A cancel that was merely asked for leaves the
 * run to its events: the terminal one still has to say how it ended.
 *
 * Throws InputError, naming the run, for text or datasets beyond `limits`; nothing is cut off in silence.
 */
export function observe(
  run: Run | null,
  identity: RunIdentity,
  observation: Observation,
  limits: Limits = defaultLimits,
): { run: Run; changed: boolean } {
  checkObservation(identity.run_id, observation, limits);
  const fresh = stateOf(observation);
  if (run === null) return { run: lifecycleOf(blankRun(identity, 0), fresh), changed: true };

  const before = run.observed ?? NOTHING;
  const ofWorkers = !ofEvents(run);
  const after = join(before, ofWorkers ? additionsTo(run, before, fresh) : fresh);
  if (isDeepStrictEqual(after, before)) return { run, changed: false };
  const next = ofWorkers ? addTo(run, before, after) : lifecycleOf(run, after);
  checkCount(identity.run_id, 'inputs', next.inputs.length, limits);
  checkCount(identity.run_id, 'outputs', next.outputs.length, limits);
  return { run: next, changed: true };
}

/**
 * Whether a `create` may still take the run over: events alone have made it, and nobody has created it, retried it or
 * moved its status since.
 */
export function isAdoptable(run: Run): boolean {
  return run.fingerprint === '' && ofEvents(run);
}

/**
 * What changes when a `create` (`created`) takes over a run of which only events were known (`run`). From now on it is
 * the workers': what the request says comes before what events said, and later events only add to it. Where the request
 * says nothing, the word of events stays; so does what they established of status and times: a run that has ended is
 * not brought back.
 *
 * Throws InputError where both together have too many datasets.
 */
export function adopted(run: Run, created: Run, now: number, limits: Limits = defaultLimits): Partial<Run> {
  const merged = addTo(created, NOTHING, additionsTo(created, NOTHING, run.observed ?? NOTHING));
  checkCount(run.run_id, 'inputs', merged.inputs.length, limits);
  checkCount(run.run_id, 'outputs', merged.outputs.length, limits);
  const { kind, reference_id, queue, run_key, heartbeat_timeout_ms, run_timeout_ms, payload } = created;
  const { inputs, outputs, result, error, code_version, observed, fingerprint } = merged;
  return {
    kind,
    reference_id: reference_id ?? run.reference_id,
    queue,
    run_key,
    heartbeat_timeout_ms,
    run_timeout_ms,
    payload: {
      ...run.payload,
      ...Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== null)),
    },
    inputs,
    outputs,
    result,
    error,
    code_version,
    observed,
    fingerprint,
    // Nobody could send one before: its time-out begins now.
    heartbeat_at: run.status === 'RUNNING' || run.status === 'CANCELLING' ? now : null,
  };
}

/** Throws InputError, naming the run and the field, where one observation alone breaks a limit. */
export function checkObservation(
  runId: string,
  observation: Observation,
  limits: Limits = defaultLimits,
): void {
  for (const field of ['kind', 'reference_id', 'source_type', 'code_version', 'version'] as const) {
    checkText(runId, field, observation[field] ?? '', limits);
  }
  for (const field of ['inputs', 'outputs'] as const) {
    checkCount(runId, field, observation[field].length, limits);
    for (const [index, { namespace, name }] of observation[field].entries()) {
      checkText(runId, `${field}[${index}].namespace`, namespace, limits);
      checkText(runId, `${field}[${index}].name`, name, limits);
    }
  }
}

/** Whether events alone have moved this run so far. */
function ofEvents({ observed, status, attempt }: Run): boolean {
  if (observed === null || observed.status === null || attempt !== 1) return false;
  return status === observed.status || status === 'CANCELLING';
}

/** The run of which only events are known: a function of their joined state, and of a cancel asked for meanwhile. */
function lifecycleOf(run: Run, state: Observed): Run {
  const begun = state.started_at === null ? 'QUEUED' : 'RUNNING';
  const status = state.terminal?.value ?? (run.status === 'CANCELLING' ? 'CANCELLING' : begun);
  const target = state.outputs.at(-1);
  return {
    ...run,
    kind: state.kind?.value ?? 'job',
    reference_id: state.reference_id?.value ?? null,
    status,
    created_at: state.first_at ?? run.created_at,
    updated_at: Math.max(state.last_at ?? 0, run.updated_at),
    started_at: state.started_at,
    finished_at: state.terminal?.at ?? null,
    payload: {
      ...run.payload,
      // By convention of OpenLineage producers, the table of a run is its last output.
      target_namespace: target?.namespace ?? null,
      target_table: target?.name ?? null,
      source_type: state.source_type?.value ?? null,
    },
    inputs: state.inputs.map(plainDataset),
    outputs: state.outputs.map(plainDataset),
    result: resultOf(state),
    error: state.error?.value ?? null,
    code_version: state.code_version?.value ?? null,
    observed: { ...state, status },
  };
}

/**
 * The part of an observation that a run of the workers takes. What they said themselves is left out of the state, not
 * only out of the run: else a later event could no longer tell their word from an earlier event's.
 */
function additionsTo(run: Run, before: Observed, fresh: Observed): Observed {
  const open = (current: unknown, observed: unknown) =>
    current === null || isDeepStrictEqual(current, observed);
  const takesResult = open(run.result, resultOf(before));
  return {
    ...NOTHING,
    code_version: open(run.code_version, before.code_version?.value) ? fresh.code_version : null,
    error: open(run.error, before.error?.value) ? fresh.error : null,
    rows: takesResult ? fresh.rows : null,
    bytes: takesResult ? fresh.bytes : null,
    version: takesResult ? fresh.version : null,
    inputs: without(fresh.inputs, without(run.inputs, before.inputs)),
    outputs: without(fresh.outputs, without(run.outputs, before.outputs)),
  };
}

function addTo(run: Run, before: Observed, after: Observed): Run {
  // Only what moved: a value that a retry has cleared does not come back with an event about something else.
  const moved = <T>(current: T, was: T, is: T): T => (isDeepStrictEqual(was, is) ? current : is);
  return {
    ...run,
    inputs: [...without(run.inputs, before.inputs), ...after.inputs.map(plainDataset)],
    outputs: [...without(run.outputs, before.outputs), ...after.outputs.map(plainDataset)],
    result: moved(run.result, resultOf(before), resultOf(after)),
    error: moved(run.error, before.error?.value ?? null, after.error?.value ?? null),
    code_version: moved(
      run.code_version,
      before.code_version?.value ?? null,
      after.code_version?.value ?? null,
    ),
    observed: { ...after, status: null },
  };
}

function without<T extends Dataset>(all: readonly T[], gone: readonly Dataset[]): T[] {
  const keys = new Set(gone.map(datasetKey));
  return all.filter((dataset) => !keys.has(datasetKey(dataset)));
}

function checkText(runId: string, field: string, text: string, { textLengthMax }: Limits): void {
  const details = { run_id: runId, field };
  if (text.length > textLengthMax) {
    throw new InputError(`Run ${runId}: ${field} is longer than ${textLengthMax} characters.`, { details });
  }
  // Half a surrogate pair does not survive UTF-8: the stored name would be another one.
  if (/\p{Surrogate}/u.test(text)) {
    throw new InputError(`Run ${runId}: ${field} holds half a surrogate pair, which is not text.`, {
      details,
    });
  }
}

function checkCount(runId: string, field: string, count: number, { datasetsMax }: Limits): void {
  if (count <= datasetsMax) return;
  throw new InputError(`Run ${runId} has ${count} ${field}; the limit is ${datasetsMax}.`, {
    details: { run_id: runId, field, count },
  });
}
