import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { PROJECTION_VERSION, type Projection } from '../../src/runs/projection.ts';
import type { RunStatus } from '../../src/runs/run.ts';

export interface RowsProfile {
  orgId: string;
  count: number;
  seed: number;
  /** The newest run is created at this time, the others before it. ms. */
  endAt?: number;
  /** Mean time between two runs, ms. */
  everyMs?: number;
  /** Tables that the runs write; 50 per 1000 runs unless told. */
  tables?: number;
  /** How many of the newest runs may be active; all of them unless told. */
  activeAmong?: number;
}

const QUEUES = ['default', 'nightly', 'backfill', 'interactive'];
const KINDS = ['transform', 'ingest', 'quality', 'export'];
const SOURCES = ['postgres', 'kafka', 's3', 'http', null];
const ERRORS = ['SOURCE_TIMEOUT', 'SCHEMA_MISMATCH', 'OUT_OF_MEMORY', 'PERMISSION_DENIED'];

/**
 * Projections as a busy org leaves them: UUIDv7 run ids, 50 tables per 1000 runs, a result on most, an error on one
 * in twelve, about one in a hundred active. The same profile gives the same rows. Created in time order.
 */
export function realisticRows(profile: RowsProfile): Projection[] {
  const random = seededRandom(profile.seed);
  const tables = profile.tables ?? Math.max(5, Math.ceil(profile.count / 20));
  const firstActive = profile.count - (profile.activeAmong ?? profile.count);
  const everyMs = profile.everyMs ?? 30_000;
  let createdAt = (profile.endAt ?? Date.UTC(2026, 9, 1)) - profile.count * everyMs;
  return Array.from({ length: profile.count }, (_, i) => {
    createdAt += Math.floor(uniform(random) * 2 * everyMs);
    return realisticRow(profile.orgId, createdAt, below(random, tables), random, i >= firstActive);
  });
}

function realisticRow(
  orgId: string,
  createdAt: number,
  table: number,
  random: Random,
  mayBeActive: boolean,
): Projection {
  const drawn = pickStatus(random);
  const status = mayBeActive || (drawn !== 'QUEUED' && drawn !== 'RUNNING') ? drawn : 'SUCCEEDED';
  const startedAt = status === 'QUEUED' ? null : createdAt + 200 + below(random, 20_000);
  const ended =
    status === 'SUCCEEDED' || status === 'FAILED' || status === 'CANCELLED' || status === 'TIMED_OUT';
  const finishedAt = ended && startedAt !== null ? startedAt + 1_000 + below(random, 900_000) : null;
  const heartbeatAt = startedAt === null ? null : (finishedAt ?? startedAt + 60_000) - below(random, 60_000);
  const output = { namespace: `warehouse.${table % 7}`, name: `analytics.fact_orders_${table}` };
  const runId = uuidv7(createdAt, random);
  const failed = status === 'FAILED' || status === 'TIMED_OUT';
  const message = failed
    ? `attempt ${1 + below(random, 3)}: ${pick(random, ERRORS)} in stage ${below(random, 40)}`
    : null;
  return {
    run_id: runId,
    org_id: orgId,
    kind: pick(random, KINDS),
    reference_id: `pipeline-${table}`,
    queue: pick(random, QUEUES),
    status,
    attempt: below(random, 12) === 0 ? 2 : 1,
    revision: 3 + below(random, 12),
    created_at: createdAt,
    updated_at: (finishedAt ?? heartbeatAt ?? createdAt) + below(random, 50),
    started_at: startedAt,
    finished_at: finishedAt,
    heartbeat_at: heartbeatAt,
    payload: {
      target_namespace: output.namespace,
      target_table: output.name,
      source_type: pick(random, SOURCES),
    },
    inputs: Array.from({ length: table % 4 }, (_, i) => ({
      namespace: `warehouse.${(table + i) % 7}`,
      name: `staging.orders_${table - (table % 4) + i}`,
    })),
    outputs: [output],
    latest_task:
      startedAt === null
        ? null
        : {
            key: `stage-${below(random, 12)}`,
            status: status === 'SUCCEEDED' ? 'SUCCEEDED' : failed ? 'FAILED' : 'RUNNING',
            attempt: 1,
            started_at: startedAt + below(random, 1_000),
            finished_at: finishedAt === null ? null : finishedAt - below(random, 1_000),
            error: message,
          },
    result:
      status === 'SUCCEEDED'
        ? {
            uri: `gs://acme-lake/analytics/fact_orders_${table}/run=${runId.slice(0, 8)}`,
            rows: below(random, 1_000_000),
            bytes: below(random, 1_000_000_000),
            version: String(below(random, 5_000)),
          }
        : null,
    error: message === null ? null : { code: pick(random, ERRORS), message },
    code_version: `2026.10.${below(random, 30)}`,
    first_created_at: null,
    changed_at: null,
    trace: null,
    artifacts: null,
    projection_version: PROJECTION_VERSION,
  };
}

function pickStatus(random: Random): RunStatus {
  const p = uniform(random);
  if (p < 0.005) return 'QUEUED';
  if (p < 0.01) return 'RUNNING';
  if (p < 0.08) return 'FAILED';
  if (p < 0.1) return 'TIMED_OUT';
  return p < 0.12 ? 'CANCELLED' : 'SUCCEEDED';
}

function below(random: Random, end: number): number {
  return Math.floor(uniform(random) * end);
}

function pick<T>(random: Random, values: readonly T[]): T {
  return values[below(random, values.length)]!;
}
