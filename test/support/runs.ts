import fc from 'fast-check';
import { blankRun } from '../../src/runs/blank-run.ts';
import type { ArtifactEvent, RunEvent, TaskEvent } from '../../src/runs/events.ts';
import { transition } from '../../src/runs/lifecycle.ts';
import { type Projection, project } from '../../src/runs/projection.ts';
import { type LogRecord, recordOf } from '../../src/runs/record.ts';
import type { Run, TraceArchive } from '../../src/runs/run.ts';
import { START } from './fake-clock.ts';

export const ORG = 'acme';

/** A canonical run: QUEUED, revision 1, with nothing optional. */
export function runOf(changes: Partial<Run> = {}): Run {
  return { ...blankRun({ org_id: ORG, run_id: 'run-1' }, START), fingerprint: 'f', ...changes };
}

export function rowOf(changes: Partial<Projection> = {}): Projection {
  return { ...project(runOf()), ...changes };
}

export function put(changes: Partial<Projection> = {}): LogRecord {
  return { kind: 'put', row: rowOf(changes) };
}

export const dataset = (name: string, namespace = 'db') => ({ namespace, name });

/** An archive of seven bytes without a gap. */
export function archiveOf(changes: Partial<TraceArchive> = {}): TraceArchive {
  return {
    status: 'archived',
    uri: 'traces/orgs/acme/archives/01900000-0000-7000-8000-000000000001.zst',
    archived_at: START,
    stored_bytes: 30,
    sha256: 'a'.repeat(64),
    crc32c: 7,
    bytes: 7,
    lines: 1,
    gap_count: 0,
    gap_bytes: 0,
    gaps: [],
    conflicts: 0,
    frame_bytes: 1024,
    ...changes,
  };
}

/** Applies an event that must be accepted. */
export function must(run: Run | null, event: RunEvent, now: number): Run {
  const answer = transition(run, event, now);
  if (answer.outcome !== 'refused') return answer.run;
  throw new Error(`${event.type} was refused: ${answer.code}`);
}

const attemptOf = fc.integer({ min: 1, max: 3 });
const outputs = fc.subarray([dataset('a'), dataset('b'), dataset('c', 'lake')]);
const error = fc.record({ code: fc.constantFrom(null, 'E1'), message: fc.constantFrom('', 'it broke') });
const taskKey = fc.constantFrom('extract', 'constructor');
const indexIntervalMs = fc.constant(60_000);

export const taskEvents: fc.Arbitrary<TaskEvent> = fc.oneof(
  fc.record({ type: fc.constant('queued' as const), key: taskKey }),
  fc.record({ type: fc.constant('started' as const), key: taskKey, attempt: attemptOf }),
  fc.record({ type: fc.constant('heartbeat' as const), key: taskKey, attempt: attemptOf, indexIntervalMs }),
  fc.record({ type: fc.constant('succeeded' as const), key: taskKey, attempt: attemptOf, outputs }),
  fc.record({ type: fc.constant('failed' as const), key: taskKey, attempt: attemptOf, error }),
  fc.record({ type: fc.constant('cancelled' as const), key: taskKey, attempt: attemptOf }),
  fc.record({ type: fc.constant('retry' as const), key: taskKey, attempt: attemptOf }),
);

const operator = fc.constantFrom('scan', 'constructor');
const port = fc.constantFrom('out', 'console', 'statistics');
const uri = fc.constantFrom('s3://b/x', 's3://b/y');
const artifactRefs = fc.uniqueArray(
  fc.record({
    key: fc.tuple(operator, port, fc.constantFrom('', '#4')).map(([o, p, n]) => `${o}/${p}${n}`),
    uri: fc.option(uri),
  }),
  { maxLength: 4, selector: ({ key }) => key },
);

export const artifactEvents: fc.Arbitrary<ArtifactEvent> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('put' as const),
      operator,
      port,
      uri,
      rows: fc.constantFrom(null, 7),
      statistics: fc.constantFrom(null, { busy_ms: 5 }),
      ttl_ms: fc.constantFrom(null, 1, 30_000),
    }),
  },
  fc.record({ type: fc.constant('drop' as const), operator, port }),
  fc.record({ type: fc.constant('expire' as const), remove: artifactRefs, mark: artifactRefs }),
  fc.record({ type: fc.constant('settle' as const), removed: artifactRefs }),
);

export function runEvents(runId: string, orgId = ORG): fc.Arbitrary<RunEvent> {
  const create = fc.record({
    type: fc.constant('create' as const),
    orgId: fc.constant(orgId),
    input: fc.record({
      run_id: fc.constant(runId),
      queue: fc.constantFrom(null, 'q'),
      outputs,
      heartbeat_timeout_ms: fc.constantFrom(null, 30_000),
      run_timeout_ms: fc.constantFrom(null, 90_000),
    }),
    fingerprint: fc.constantFrom('f', 'g'),
  });
  return fc.oneof(
    { weight: 3, arbitrary: create },
    { weight: 3, arbitrary: fc.record({ type: fc.constant('started' as const), attempt: attemptOf }) },
    {
      weight: 2,
      arbitrary: fc.record({ type: fc.constant('heartbeat' as const), attempt: attemptOf, indexIntervalMs }),
    },
    fc.record({ type: fc.constant('succeeded' as const), attempt: attemptOf, outputs }),
    { weight: 2, arbitrary: fc.record({ type: fc.constant('failed' as const), attempt: attemptOf, error }) },
    fc.record({ type: fc.constant('cancelled' as const), attempt: attemptOf }),
    fc.record({ type: fc.constant('cancel' as const) }),
    fc.record({ type: fc.constant('force_cancel' as const) }),
    fc.record({ type: fc.constant('force_fail' as const), error }),
    fc.record({ type: fc.constant('time_out' as const) }),
    fc.record({ type: fc.constant('delete' as const) }),
    { weight: 3, arbitrary: fc.record({ type: fc.constant('retry' as const), attempt: attemptOf }) },
    {
      weight: 2,
      arbitrary: fc.record({ type: fc.constant('task' as const), attempt: attemptOf, task: taskEvents }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        type: fc.constant('artifact' as const),
        attempt: attemptOf,
        artifact: artifactEvents,
      }),
    },
    fc.record({ type: fc.constant('trace' as const), attempt: attemptOf }),
    fc.record({
      type: fc.constant('trace_archived' as const),
      attempt: attemptOf,
      archive: fc.constant(archiveOf()),
    }),
  );
}

/** What happened to one run: each canonical state, and the record that its write left in the log (heartbeats: none). */
export interface History {
  runs: Run[];
  records: LogRecord[];
}

/** Histories of whole orgs: every record, and the canonical runs at the end. */
export function histories(runIds: readonly string[], orgId = ORG): fc.Arbitrary<History> {
  const step = fc.record({ ms: fc.integer({ min: -5_000, max: 60_000 }), run: fc.nat(runIds.length - 1) });
  return fc
    .array(
      step.chain(({ ms, run }) =>
        fc.record({ ms: fc.constant(ms), event: runEvents(runIds[run]!, orgId), run: fc.constant(run) }),
      ),
      { maxLength: 60 },
    )
    .map((steps) => {
      const runs = new Map<number, Run>();
      const records: LogRecord[] = [];
      let now = START;
      for (const { ms, event, run } of steps) {
        now += ms;
        const answer = transition(runs.get(run) ?? null, event, now);
        if (answer.outcome === 'refused') continue;
        runs.set(run, answer.run);
        if (answer.run.indexed_revision === answer.run.revision) records.push(recordOf(answer.run));
      }
      return { runs: [...runs.values()], records };
    });
}
