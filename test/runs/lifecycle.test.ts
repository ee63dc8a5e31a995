import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { expired, lifecycleError, transition } from '../../src/runs/lifecycle.ts';
import { isTerminal, RUN_STATUSES, type Run, type RunStatus } from '../../src/runs/run.ts';
import { START } from '../support/fake-clock.ts';
import { archiveOf, dataset, must, ORG, runEvents } from '../support/runs.ts';

const MINUTE = 60_000;
const input = { run_id: 'run-1', heartbeat_timeout_ms: 30_000, run_timeout_ms: 10 * MINUTE };
const create: RunEvent = { type: 'create', orgId: ORG, input, fingerprint: 'f' };
const error = { code: 'E1', message: 'it broke' };
/** Every fixture is at attempt 2, so that there is a stale attempt and a repeated retry. */
const attempt = 2;
const T = START + 100_000;

function queued(): Run {
  let run = must(null, create, START);
  run = must(run, { type: 'started', attempt: 1 }, START + 1_000);
  run = must(run, { type: 'failed', attempt: 1, error }, START + 2_000);
  return must(run, { type: 'retry', attempt: 1 }, T);
}
const running = () => must(queued(), { type: 'started', attempt }, T + 10);
const cancelling = () => must(running(), { type: 'cancel' }, T + 20);
const FIXTURES: Record<RunStatus, () => Run> = {
  QUEUED: queued,
  RUNNING: running,
  CANCELLING: cancelling,
  SUCCEEDED: () => must(running(), { type: 'succeeded', attempt }, T + 30),
  FAILED: () => must(running(), { type: 'failed', attempt, error }, T + 30),
  CANCELLED: () => must(cancelling(), { type: 'cancelled', attempt }, T + 30),
  TIMED_OUT: () => must(running(), { type: 'time_out' }, T + MINUTE),
};

/** → is a change to that status; `same` a repeat that changes nothing; a code a refusal that changes nothing. */
type Expected = `→ ${RunStatus}` | 'same' | ErrorCode;
type Table = Record<RunStatus, Record<RunEvent['type'], Expected>>;

const TABLE = {
  QUEUED: {
    create: 'same',
    started: '→ RUNNING',
    heartbeat: 'RUN_NOT_STARTED',
    succeeded: '→ SUCCEEDED',
    failed: '→ FAILED',
    cancelled: '→ CANCELLED',
    cancel: '→ CANCELLED',
    force_cancel: '→ CANCELLED',
    force_fail: '→ FAILED',
    time_out: '→ TIMED_OUT',
    retry: 'RUN_NOT_TERMINAL',
    delete: 'RUN_NOT_TERMINAL',
    task: 'RUN_NOT_STARTED',
    artifact: 'RUN_NOT_STARTED',
    trace: '→ QUEUED',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  RUNNING: {
    create: 'same',
    started: 'same',
    heartbeat: '→ RUNNING',
    succeeded: '→ SUCCEEDED',
    failed: '→ FAILED',
    cancelled: '→ CANCELLED',
    cancel: '→ CANCELLING',
    force_cancel: '→ CANCELLED',
    force_fail: '→ FAILED',
    time_out: '→ TIMED_OUT',
    retry: 'RUN_NOT_TERMINAL',
    delete: 'RUN_NOT_TERMINAL',
    task: '→ RUNNING',
    artifact: '→ RUNNING',
    trace: '→ RUNNING',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  CANCELLING: {
    create: 'same',
    started: 'same',
    heartbeat: '→ CANCELLING',
    succeeded: '→ SUCCEEDED',
    failed: '→ FAILED',
    cancelled: '→ CANCELLED',
    cancel: 'same',
    force_cancel: '→ CANCELLED',
    force_fail: '→ FAILED',
    time_out: '→ TIMED_OUT',
    retry: 'RUN_NOT_TERMINAL',
    delete: 'RUN_NOT_TERMINAL',
    task: '→ CANCELLING',
    artifact: '→ CANCELLING',
    trace: '→ CANCELLING',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  SUCCEEDED: {
    create: 'same',
    started: 'RUN_TERMINAL',
    heartbeat: 'RUN_TERMINAL',
    succeeded: 'same',
    failed: 'RUN_TERMINAL',
    cancelled: 'RUN_TERMINAL',
    cancel: 'RUN_TERMINAL',
    force_cancel: 'RUN_TERMINAL',
    force_fail: 'RUN_TERMINAL',
    time_out: 'RUN_TERMINAL',
    retry: 'RUN_TERMINAL',
    delete: '→ SUCCEEDED',
    task: 'RUN_TERMINAL',
    artifact: '→ SUCCEEDED',
    trace: 'TRACE_CLOSED',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  FAILED: {
    create: 'same',
    started: 'RUN_TERMINAL',
    heartbeat: 'RUN_TERMINAL',
    succeeded: 'RUN_TERMINAL',
    failed: 'same',
    cancelled: 'RUN_TERMINAL',
    cancel: 'RUN_TERMINAL',
    force_cancel: 'RUN_TERMINAL',
    force_fail: 'same',
    time_out: 'RUN_TERMINAL',
    retry: '→ QUEUED',
    delete: '→ FAILED',
    task: 'RUN_TERMINAL',
    artifact: '→ FAILED',
    trace: 'TRACE_CLOSED',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  CANCELLED: {
    create: 'same',
    started: 'RUN_TERMINAL',
    heartbeat: 'RUN_TERMINAL',
    succeeded: 'RUN_TERMINAL',
    failed: 'RUN_TERMINAL',
    cancelled: 'same',
    cancel: 'same',
    force_cancel: 'same',
    force_fail: 'RUN_TERMINAL',
    time_out: 'RUN_TERMINAL',
    retry: '→ QUEUED',
    delete: '→ CANCELLED',
    task: 'RUN_TERMINAL',
    artifact: '→ CANCELLED',
    trace: 'TRACE_CLOSED',
    trace_archived: 'TRACE_NOT_FOUND',
  },
  TIMED_OUT: {
    create: 'same',
    started: 'RUN_TERMINAL',
    heartbeat: 'RUN_TERMINAL',
    succeeded: 'RUN_TERMINAL',
    failed: 'RUN_TERMINAL',
    cancelled: 'RUN_TERMINAL',
    cancel: 'RUN_TERMINAL',
    force_cancel: 'RUN_TERMINAL',
    force_fail: 'RUN_TERMINAL',
    time_out: 'same',
    retry: '→ QUEUED',
    delete: '→ TIMED_OUT',
    task: 'RUN_TERMINAL',
    artifact: '→ TIMED_OUT',
    trace: 'TRACE_CLOSED',
    trace_archived: 'TRACE_NOT_FOUND',
  },
} as const satisfies Table;

const EVENTS: { [E in RunEvent['type']]: Extract<RunEvent, { type: E }> } = {
  create: create as Extract<RunEvent, { type: 'create' }>,
  started: { type: 'started', attempt },
  heartbeat: { type: 'heartbeat', attempt, indexIntervalMs: 60_000 },
  succeeded: { type: 'succeeded', attempt, outputs: [dataset('out')] },
  failed: { type: 'failed', attempt, error },
  cancelled: { type: 'cancelled', attempt },
  cancel: { type: 'cancel' },
  force_cancel: { type: 'force_cancel' },
  force_fail: { type: 'force_fail', error: { code: null, message: 'by hand' } },
  time_out: { type: 'time_out' },
  retry: { type: 'retry', attempt },
  delete: { type: 'delete' },
  task: { type: 'task', attempt, task: { type: 'queued', key: 'extract' } },
  artifact: {
    type: 'artifact',
    attempt,
    artifact: { type: 'put', operator: 'scan', port: 'out', uri: 's3://b/x', ttl_ms: MINUTE },
  },
  trace: { type: 'trace', attempt },
  trace_archived: { type: 'trace_archived', attempt, archive: archiveOf() },
};

const later = T + 20 * MINUTE;
const cells = RUN_STATUSES.flatMap((status) =>
  (Object.keys(EVENTS) as RunEvent['type'][]).map((type) => [status, type, TABLE[status][type]] as const),
);

/** Freezes all the way down, so that a transition that writes into its input throws. */
function frozen<T>(value: T): T {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) frozen(inner);
  }
  return value;
}

function expectUnchanged(run: Run, event: RunEvent, now: number, expected: 'same' | ErrorCode) {
  const answer = transition(run, event, now);
  if (expected === 'same') {
    expect(answer.outcome).toBe('same');
    expect(answer.outcome === 'same' && answer.run).toBe(run);
  } else expect(answer).toMatchObject({ outcome: 'refused', code: expected });
}

describe('every status, every event', () => {
  it('the table is whole', () => {
    expect(cells).toHaveLength(7 * 16);
    expect(Object.keys(TABLE)).toEqual([...RUN_STATUSES]);
  });

  it.each(cells)('%s: %s gives %s', (status, type, expected) => {
    const run = frozen(FIXTURES[status]());
    expect(run).toMatchObject({ status, attempt });
    if (!expected.startsWith('→')) return expectUnchanged(run, EVENTS[type], later, expected as 'same');
    const answer = transition(run, EVENTS[type], later);
    if (answer.outcome !== 'changed') throw new Error(`expected a change, got ${answer.outcome}`);
    const next = answer.run;
    const isAnnotation = type === 'trace' || (type === 'artifact' && isTerminal(run.status));
    expect(next.changed_at).toBe(isAnnotation ? later : undefined);
    expect(`→ ${next.status}`).toBe(expected);
    expect(next).toMatchObject({
      revision: run.revision + 1,
      // A log or an artifact that comes late must not make an old run the latest of its table.
      updated_at: isAnnotation ? run.updated_at : later,
      attempt: type === 'retry' ? attempt + 1 : attempt,
      finished_at: !isTerminal(next.status) ? null : isTerminal(run.status) ? run.finished_at : later,
      deleted_at: type === 'delete' ? later : null,
    });
  });

  it.each(RUN_STATUSES)('%s: a create from another request is refused', (status) => {
    const other = { ...create, fingerprint: 'g' } as RunEvent;
    expectUnchanged(frozen(FIXTURES[status]()), other, later, 'RUN_ALREADY_EXISTS');
  });

  it('a run that is not there: only a create', () => {
    expect(transition(null, create, START)).toMatchObject({ outcome: 'changed', run: { revision: 1 } });
    for (const [type, event] of Object.entries(EVENTS)) {
      if (type === 'create') continue;
      expect(transition(null, event, START), type).toMatchObject({ code: 'RUN_NOT_FOUND' });
    }
  });
});

describe('a stale attempt changes nothing', () => {
  const withAttempt = Object.values(EVENTS).filter((event) => 'attempt' in event);
  const stale = RUN_STATUSES.flatMap((status) =>
    withAttempt.map((event) => [status, event.type, event] as const),
  );

  it.each(stale)('%s: %s of a past or unknown attempt', (status, _, event) => {
    const run = frozen(FIXTURES[status]());
    for (const given of [attempt - 1, attempt + 1]) {
      // The retry of the attempt before is the repeat of the retry that made this one.
      const repeat = event.type === 'retry' && given === attempt - 1;
      const other = { ...event, attempt: given } as RunEvent;
      expectUnchanged(run, other, later, repeat ? 'same' : 'ATTEMPT_STALE');
    }
  });

  it('a worker that lost its run to a retry cannot end it', () => {
    const answer = transition(running(), { type: 'succeeded', attempt: 1 }, later);
    expect(answer).toMatchObject({ code: 'ATTEMPT_STALE', message: expect.stringContaining('attempt 2') });
  });
});

describe('what a change sets', () => {
  it('create: everything neutral, nothing undefined', () => {
    const run = must(
      null,
      {
        ...create,
        input: { run_id: 'run-1', payload: { target_table: undefined as never, extra: 1 } },
      } as RunEvent,
      START,
    );
    expect(JSON.parse(JSON.stringify(run))).toEqual(run);
    expect(run).toMatchObject({
      kind: 'job',
      status: 'QUEUED',
      attempt: 1,
      revision: 1,
      created_at: START,
      updated_at: START,
      indexed_revision: 1,
      indexed_at: START,
      payload: { target_namespace: null, target_table: null, source_type: null, extra: 1 },
      tasks: {},
      result: null,
      observed: null,
    });
  });

  it('create: datasets once each, in their order', () => {
    const [a, b] = [dataset('a'), dataset('b')];
    const event = { ...create, input: { ...input, inputs: [b, a, b], outputs: [a, a] } } as RunEvent;
    expect(must(null, event, START)).toMatchObject({ inputs: [b, a], outputs: [a] });
  });

  it('started_at belongs to the attempt: a retry clears it, the next start sets it', () => {
    expect(running()).toMatchObject({ started_at: T + 10, heartbeat_at: T + 10, finished_at: null });
    const failed = FIXTURES.FAILED();
    expect(failed).toMatchObject({ started_at: T + 10, finished_at: T + 30, error });
    const again = must(failed, { type: 'retry', attempt }, T + 40);
    expect(again).toMatchObject({
      status: 'QUEUED',
      attempt: 3,
      started_at: null,
      finished_at: null,
      heartbeat_at: null,
      cancel_requested_at: null,
      result: null,
      error: null,
      created_at: START,
    });
    expect(must(again, { type: 'started', attempt: 3, code_version: 'v2' }, T + 50)).toMatchObject({
      started_at: T + 50,
      code_version: 'v2',
    });
  });

  it('a run that ends without having started has no started_at', () => {
    expect(must(queued(), { type: 'succeeded', attempt }, later)).toMatchObject({
      started_at: null,
      finished_at: later,
    });
  });

  it('finished_at stays through repeats', () => {
    const done = FIXTURES.SUCCEEDED();
    expect(must(done, { type: 'succeeded', attempt }, later)).toBe(done);
  });

  it('an ending adds datasets and result figures to what is known', () => {
    const ending = { inputs: [dataset('in')], outputs: [dataset('out')], result: { rows: 7 } };
    const run = must(running(), { type: 'succeeded', attempt, ...ending }, later);
    expect(run).toMatchObject({ inputs: [dataset('in')], outputs: [dataset('out')], error: null });
    expect(run.result).toEqual({ uri: null, rows: 7, bytes: null, version: null });
    expect(must(running(), { type: 'succeeded', attempt, result: null }, later).result).toBeNull();
  });

  it('CANCELLING may still end SUCCEEDED or FAILED, and remembers that a cancel was asked for', () => {
    const asked = T + 20;
    expect(must(cancelling(), EVENTS.succeeded, later)).toMatchObject({
      status: 'SUCCEEDED',
      cancel_requested_at: asked,
      outputs: [dataset('out')],
    });
    expect(must(cancelling(), EVENTS.failed, later)).toMatchObject({ status: 'FAILED', error });
    expect(must(cancelling(), EVENTS.force_cancel, later)).toMatchObject({ cancel_requested_at: asked });
  });

  it('a worker that gives up on its own says why', () => {
    expect(must(running(), { type: 'cancelled', attempt, error }, later)).toMatchObject({
      status: 'CANCELLED',
      error,
    });
  });

  it('updated_at never goes back, whatever the clocks of the machines', () => {
    const run = running();
    const early = must(run, { type: 'succeeded', attempt }, START - MINUTE);
    expect(early).toMatchObject({ updated_at: run.updated_at, finished_at: run.updated_at });
    expect(must(queued(), { type: 'started', attempt }, START).updated_at).toBe(T);
  });

  it('unknown fields of a newer runfold stay', () => {
    const run = { ...running(), from_the_future: { x: 1 } } as Run;
    expect(must(run, EVENTS.succeeded, later)).toMatchObject({ from_the_future: { x: 1 } });
  });

  it('a refusal becomes an error that tells run, status and what to do', () => {
    const answer = transition(FIXTURES.SUCCEEDED(), EVENTS.cancel, later);
    if (answer.outcome !== 'refused') throw new Error('expected a refusal');
    expect(lifecycleError(answer, ORG, 'run-1', FIXTURES.SUCCEEDED())).toMatchObject({
      name: 'LifecycleError',
      code: 'RUN_TERMINAL',
      hint: expect.any(String),
      details: { org_id: ORG, run_id: 'run-1', status: 'SUCCEEDED', attempt },
    });
  });
});

describe('a deleted run', () => {
  const done = must(
    must(running(), { ...EVENTS.task, task: { type: 'queued', key: 'a' } }, T + 20),
    EVENTS.failed,
    T + 30,
  );
  const gone = must({ ...done, reference_id: 'secret', queue: 'q' }, { type: 'delete' }, later);

  it('keeps what the index needs to forget it, and nothing of its content', () => {
    expect(gone).toMatchObject({
      run_id: 'run-1',
      status: 'FAILED',
      deleted_at: later,
      revision: done.revision + 1,
    });
    expect(gone).toMatchObject({ reference_id: null, queue: null, inputs: [], outputs: [], tasks: {} });
    expect(gone).toMatchObject({ result: null, error: null, code_version: null, observed: null });
    expect(gone.payload).toEqual({ target_namespace: null, target_table: null, source_type: null });
  });

  it('stays deleted, whatever anybody still says', () => {
    for (const event of Object.values(EVENTS)) {
      const expected =
        { delete: 'same', create: 'RUN_ALREADY_EXISTS' }[event.type as string] ?? 'RUN_NOT_FOUND';
      expectUnchanged(frozen(gone), event, later + 1, expected as 'same');
    }
  });
});

describe('heartbeats reach the log at most once per interval', () => {
  const beat = (run: Run, now: number) => must(run, EVENTS.heartbeat, now);

  it('the first ones after a transition are not indexed', () => {
    const run = running();
    const next = beat(run, T + 1_000);
    expect(next).toMatchObject({
      revision: run.revision + 1,
      heartbeat_at: T + 1_000,
      updated_at: T + 1_000,
      indexed_revision: run.revision,
      indexed_at: run.updated_at,
    });
    const after = beat(next, T + 10 + 59_999);
    expect(after).toMatchObject({ revision: run.revision + 2, indexed_revision: run.revision });
    const due = beat(after, T + 10 + 60_000);
    expect(due).toMatchObject({ indexed_revision: run.revision + 3, indexed_at: T + 10 + 60_000 });
    expect(beat(due, T + 10 + 60_001)).toMatchObject({ indexed_revision: run.revision + 3 });
  });

  it('any other change is indexed at once', () => {
    const beaten = beat(running(), T + 1_000);
    const ended = must(beaten, EVENTS.succeeded, T + 2_000);
    expect(ended).toMatchObject({ indexed_revision: ended.revision, indexed_at: T + 2_000 });
  });

  it('one that comes late or twice changes nothing', () => {
    const run = beat(running(), T + 1_000);
    expectUnchanged(run, EVENTS.heartbeat, T + 1_000, 'same');
    expectUnchanged(run, EVENTS.heartbeat, T + 500, 'same');
  });
});

describe('time-outs are judged by the canonical run', () => {
  const timeOut: RunEvent = { type: 'time_out' };

  it('refused until a time-out has passed, to the millisecond', () => {
    const run = running();
    expectUnchanged(run, timeOut, T + 10 + 30_000, 'RUN_NOT_EXPIRED');
    expect(must(run, timeOut, T + 10 + 30_001)).toMatchObject({
      status: 'TIMED_OUT',
      error: { code: 'heartbeat_timeout', message: 'no heartbeat for 30000 ms' },
    });
  });

  it('a heartbeat puts the heartbeat time-out off, but never the run time-out', () => {
    const run = must(running(), EVENTS.heartbeat, T + 10 * MINUTE);
    expect(expired(run, T + 10 * MINUTE)).toBeNull();
    expect(expired(run, T + 10 + 10 * MINUTE + 1)).toBe('run');
    expect(must(run, timeOut, T + 11 * MINUTE).error).toEqual({
      code: 'run_timeout',
      message: 'no end within 600000 ms',
    });
  });

  it('a queued run has no heartbeat to miss', () => {
    expectUnchanged(queued(), timeOut, T + 10 * MINUTE, 'RUN_NOT_EXPIRED');
    expect(expired(queued(), T + 10 * MINUTE + 1)).toBe('run');
  });

  it('a retried run gets its whole time again, however long ago it was created', () => {
    const run = must(must(null, create, START), { type: 'force_fail', error }, START + 1);
    const retried = must(run, { type: 'retry', attempt: 1 }, START + 60 * MINUTE);
    expectUnchanged(retried, timeOut, START + 60 * MINUTE + 1, 'RUN_NOT_EXPIRED');
  });

  it('a run without limits never expires', () => {
    const run = must(null, { ...create, input: { run_id: 'run-1' } } as RunEvent, START);
    expect(expired(run, START + 1e12)).toBeNull();
    expect(expired(must(run, { type: 'started', attempt: 1 }, START), START + 1e12)).toBeNull();
  });
});

describe('any sequence of events keeps the rules', () => {
  const steps = fc.array(
    fc.record({ ms: fc.integer({ min: -30_000, max: 60_000 }), event: runEvents('run-1') }),
    {
      maxLength: 60,
    },
  );

  it('revision, attempt, times, terminal ⇔ finished_at, repeats are no-ops', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        let run: Run | null = null;
        let now = START;
        for (const { ms, event } of sequence) {
          now += ms;
          const before: Run | null = run;
          const answer = transition(frozen(before), event, now);
          if (answer.outcome === 'refused') {
            expect(answer.hint).not.toBe('');
            continue;
          }
          if (answer.outcome === 'same') {
            expect(answer.run).toBe(before);
            continue;
          }
          run = answer.run;
          expect(run.finished_at !== null).toBe(isTerminal(run.status));
          expect(run.indexed_revision).toBeLessThanOrEqual(run.revision);
          expect(run.indexed_at).toBeLessThanOrEqual(run.updated_at);
          if (run.finished_at !== null && run.started_at !== null)
            expect(run.finished_at).toBeGreaterThanOrEqual(run.started_at);
          if (before !== null) {
            expect(run.revision).toBe(before.revision + 1);
            expect(run.attempt).toBe(before.attempt + (event.type === 'retry' ? 1 : 0));
            expect(run.updated_at).toBeGreaterThanOrEqual(before.updated_at);
            expect(run.created_at).toBe(before.created_at);
            expect(before.deleted_at).toBeNull();
            if (isTerminal(before.status)) {
              expect(
                ['delete', 'artifact', 'trace', 'trace_archived'].includes(event.type) ||
                  (event.type === 'retry' && before.status !== 'SUCCEEDED'),
              ).toBe(true);
              if (event.type !== 'retry') expect(run.finished_at).toBe(before.finished_at);
            } else expect(['retry', 'delete']).not.toContain(event.type);
          }
          const repeated = transition(run, event, now);
          expect(repeated).toEqual({ outcome: 'same', run });
        }
      }),
      { numRuns: 300 },
    );
  });
});
