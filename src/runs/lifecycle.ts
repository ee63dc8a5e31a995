import { LifecycleError } from '../core/errors.ts';
import { artifactTransition } from './artifacts.ts';
import { blankRun, noContent } from './blank-run.ts';
import type { Ending, NewRun, RunEvent } from './events.ts';
import { adopted, isAdoptable } from './observe.ts';
import type { Run, RunResult, RunStatus } from './run.ts';
import { taskTransition } from './tasks.ts';
import { closeTrace, commitTrace, openTrace } from './traces.ts';
import { beat, changed, refused, same, type Transition, unionDatasets } from './transition.ts';

type EventType = RunEvent['type'];
type EventOf<E extends EventType> = Extract<RunEvent, { type: E }>;
type Cell<E extends EventType> = (run: Run, event: EventOf<E>, now: number) => Transition;
type Row = { readonly [E in EventType]: Cell<E> };

/**
 * What may happen to a run: every status, every event. A missing cell does not compile.
 * `now` is server-calibrated time, ms.
 */
const TABLE: { readonly [S in RunStatus]: Row } = {
  QUEUED: {
    create: repeatedCreate,
    started: attempt(start),
    heartbeat: attempt(notStarted),
    succeeded: attempt(succeed),
    failed: attempt(fail),
    cancelled: attempt(acknowledgeCancel),
    cancel: attempt(cancelNow),
    force_cancel: attempt(cancelNow),
    force_fail: attempt(forceFail),
    time_out: timeOut,
    retry: attempt(notTerminal),
    delete: notTerminal,
    task: attempt(notStarted),
    artifact: attempt(notStarted),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  RUNNING: {
    create: repeatedCreate,
    started: attempt(same),
    heartbeat: attempt(heartbeat),
    succeeded: attempt(succeed),
    failed: attempt(fail),
    cancelled: attempt(acknowledgeCancel),
    cancel: attempt(requestCancel),
    force_cancel: attempt(cancelNow),
    force_fail: attempt(forceFail),
    time_out: timeOut,
    retry: attempt(notTerminal),
    delete: notTerminal,
    task: attempt(workOnTask),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  CANCELLING: {
    create: repeatedCreate,
    started: attempt(same),
    heartbeat: attempt(heartbeat),
    // The work was done before the cancel reached it: the truth is what happened, not what was asked for.
    succeeded: attempt(succeed),
    failed: attempt(fail),
    cancelled: attempt(acknowledgeCancel),
    cancel: attempt(same),
    force_cancel: attempt(cancelNow),
    force_fail: attempt(forceFail),
    time_out: timeOut,
    retry: attempt(notTerminal),
    delete: notTerminal,
    task: attempt(workOnTask),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  SUCCEEDED: {
    create: repeatedCreate,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(same),
    failed: attempt(ended),
    cancelled: attempt(ended),
    cancel: attempt(ended),
    force_cancel: attempt(ended),
    force_fail: attempt(ended),
    time_out: ended,
    retry: attempt(ended),
    delete: deleteRun,
    task: attempt(taskAfterEnd),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  FAILED: {
    create: repeatedCreate,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(ended),
    failed: attempt(same),
    cancelled: attempt(ended),
    cancel: attempt(ended),
    force_cancel: attempt(ended),
    force_fail: attempt(same),
    time_out: ended,
    retry: attempt(retryRun),
    delete: deleteRun,
    task: attempt(taskAfterEnd),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  CANCELLED: {
    create: repeatedCreate,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(ended),
    failed: attempt(ended),
    cancelled: attempt(same),
    cancel: attempt(same),
    force_cancel: attempt(same),
    force_fail: attempt(ended),
    time_out: ended,
    retry: attempt(retryRun),
    delete: deleteRun,
    task: attempt(taskAfterEnd),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
  TIMED_OUT: {
    create: repeatedCreate,
    started: attempt(ended),
    heartbeat: attempt(ended),
    succeeded: attempt(ended),
    failed: attempt(ended),
    cancelled: attempt(ended),
    cancel: attempt(ended),
    force_cancel: attempt(ended),
    force_fail: attempt(ended),
    time_out: same,
    retry: attempt(retryRun),
    delete: deleteRun,
    task: attempt(taskAfterEnd),
    artifact: attempt(changeArtifact),
    trace: openTrace,
    trace_archived: commitTrace,
  },
};

/** Pure: the whole lifecycle of a run goes through here. `run` is null where no canonical run exists. */
export function transition(run: Run | null, event: RunEvent, now: number): Transition {
  if (run === null) {
    if (event.type === 'create') return { outcome: 'changed', run: newRun(event, now) };
    return refused(
      'RUN_NOT_FOUND',
      'There is no such run in this org.',
      'Check the org and the run id, or create the run first.',
    );
  }
  if (run.deleted_at !== null) return deleted(run, event);
  // The table pairs each event type with its own cell; TypeScript cannot follow the pairing through an index.
  const cell = TABLE[run.status][event.type] as Cell<EventType>;
  return cell(run, event, now);
}

/** A refusal as the typed error that callers see. */
export function lifecycleError(
  refusal: Extract<Transition, { outcome: 'refused' }>,
  orgId: string,
  runId: string,
  run: Run | null,
): LifecycleError {
  return new LifecycleError(refusal.code, refusal.message, {
    hint: refusal.hint,
    details: { org_id: orgId, run_id: runId, status: run?.status, attempt: run?.attempt },
  });
}

/** Whether the canonical run is past its heartbeat or run time-out. */
export function expired(run: Run, now: number): 'heartbeat' | 'run' | null {
  // A queued run waits since its creation or its retry, which are the last change of one that nobody works on.
  const beganAt = run.started_at ?? run.updated_at;
  if (run.run_timeout_ms !== null && now - beganAt > run.run_timeout_ms) return 'run';
  if (run.heartbeat_timeout_ms === null || run.status === 'QUEUED') return null;
  return now - Math.max(beganAt, run.heartbeat_at ?? 0) > run.heartbeat_timeout_ms ? 'heartbeat' : null;
}

/** Guards an event that belongs to one attempt, where it names one: another attempt's word changes nothing. */
function attempt<E extends EventType>(cell: Cell<E>): Cell<E> {
  return (run, event, now) => {
    const given = (event as { attempt?: number | undefined }).attempt ?? run.attempt;
    if (event.type === 'retry' && given === run.attempt - 1) return same(run);
    if (given === run.attempt) return cell(run, event, now);
    const which = given < run.attempt ? 'over' : 'unknown';
    return refused(
      'ATTEMPT_STALE',
      `Attempt ${given} is ${which}; the run is at attempt ${run.attempt}.`,
      'Stop working on this attempt.',
    );
  };
}

function newRun({ orgId, input, fingerprint }: EventOf<'create'>, now: number): Run {
  const blank = blankRun({ org_id: orgId, run_id: input.run_id }, now);
  const { payload, inputs, outputs, ...asked } = definedOf(input);
  return {
    ...blank,
    ...asked,
    payload: { ...blank.payload, ...definedOf<NewRun['payload']>(payload) },
    inputs: unionDatasets(inputs ?? []),
    outputs: unionDatasets(outputs ?? []),
    fingerprint,
  };
}

function repeatedCreate(run: Run, event: EventOf<'create'>, now: number): Transition {
  if (run.fingerprint === event.fingerprint) return same(run);
  if (isAdoptable(run)) {
    const created = newRun(event, now);
    const kind = event.input.kind ?? run.kind;
    return changed(run, now, { ...adopted(run, created, now), kind });
  }
  return refused(
    'RUN_ALREADY_EXISTS',
    'A run with this id exists and was created from another request.',
    'Choose another run id, or repeat the create with exactly the same fields.',
  );
}

function start(run: Run, event: EventOf<'started'>, now: number): Transition {
  const code_version = event.code_version ?? run.code_version;
  return changed(run, now, { status: 'RUNNING', started_at: now, heartbeat_at: now, code_version });
}

function heartbeat(run: Run, event: EventOf<'heartbeat'>, now: number): Transition {
  return beat(run, now, event.indexIntervalMs);
}

function succeed(run: Run, event: EventOf<'succeeded'>, now: number): Transition {
  return changed(run, now, { status: 'SUCCEEDED', error: null, ...ending(run, event) });
}

function fail(run: Run, event: EventOf<'failed'>, now: number): Transition {
  return changed(run, now, { status: 'FAILED', error: event.error, ...ending(run, event) });
}

function acknowledgeCancel(run: Run, event: EventOf<'cancelled'>, now: number): Transition {
  return changed(run, now, { status: 'CANCELLED', error: event.error ?? null });
}

function requestCancel(run: Run, _event: EventOf<'cancel'>, now: number): Transition {
  return changed(run, now, { status: 'CANCELLING', cancel_requested_at: now });
}

function cancelNow(run: Run, _event: unknown, now: number): Transition {
  return changed(run, now, { status: 'CANCELLED', cancel_requested_at: run.cancel_requested_at ?? now });
}

function forceFail(run: Run, event: EventOf<'force_fail'>, now: number): Transition {
  return changed(run, now, { status: 'FAILED', error: event.error });
}

function timeOut(run: Run, _event: unknown, now: number): Transition {
  const which = expired(run, now);
  if (which === null) {
    return refused(
      'RUN_NOT_EXPIRED',
      'The run is within its time-outs.',
      'Look again when a time-out has passed.',
    );
  }
  const message =
    which === 'run'
      ? `no end within ${run.run_timeout_ms} ms`
      : `no heartbeat for ${run.heartbeat_timeout_ms} ms`;
  return changed(run, now, { status: 'TIMED_OUT', error: { code: `${which}_timeout`, message } });
}

function retryRun(run: Run, _event: unknown, now: number): Transition {
  return changed(run, now, {
    status: 'QUEUED',
    attempt: run.attempt + 1,
    started_at: null,
    heartbeat_at: null,
    cancel_requested_at: null,
    result: null,
    error: null,
    ...closeTrace(run),
  });
}

function workOnTask(run: Run, event: EventOf<'task'>, now: number): Transition {
  return taskTransition(run, event.task, now);
}

function taskAfterEnd(run: Run, event: EventOf<'task'>, now: number): Transition {
  const late = taskTransition(run, event.task, now);
  return late.outcome === 'same' ? late : ended(run);
}

function changeArtifact(run: Run, event: EventOf<'artifact'>, now: number): Transition {
  return artifactTransition(run, event.artifact, now);
}

/** What is left is what the index needs to forget the run; nothing of its content stays. */
function deleteRun(run: Run, _event: unknown, now: number): Transition {
  return changed(run, now, {
    deleted_at: now,
    reference_id: null,
    queue: null,
    ...noContent(),
    observed: null,
  });
}

function deleted(run: Run, event: RunEvent): Transition {
  if (event.type === 'delete') return same(run);
  if (event.type === 'create') {
    return refused(
      'RUN_ALREADY_EXISTS',
      'A run with this id was deleted not long ago.',
      'Choose another run id.',
    );
  }
  return refused('RUN_NOT_FOUND', 'The run was deleted.', 'Stop working on it.');
}

function ended(run: Run): Transition {
  return refused(
    'RUN_TERMINAL',
    `The run ended as ${run.status}.`,
    'Stop working on it; retry it to run it again.',
  );
}

function notStarted(): Transition {
  return refused('RUN_NOT_STARTED', 'The run has not started.', 'Report `started` first.');
}

function notTerminal(run: Run): Transition {
  return refused('RUN_NOT_TERMINAL', `The run is ${run.status}.`, 'Wait until it has ended, or cancel it.');
}

function ending(run: Run, event: Ending): Partial<Run> {
  const result: RunResult = {
    uri: null,
    rows: null,
    bytes: null,
    version: null,
    ...run.result,
    ...definedOf(event.result ?? {}),
  };
  return {
    inputs: unionDatasets(run.inputs, event.inputs),
    outputs: unionDatasets(run.outputs, event.outputs),
    result: event.result ? result : run.result,
  };
}

/** Without keys whose value is undefined, which would overwrite defaults when spread. */
function definedOf<T extends object | undefined>(value: T): Partial<NonNullable<T>> {
  const entries = Object.entries(value ?? {}).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries) as Partial<NonNullable<T>>;
}
