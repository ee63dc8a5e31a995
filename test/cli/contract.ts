import { z } from 'zod';

/** The JSON of the CLI that other programs rely on (docs/CLI, issue 2). Adding fields is allowed, changing is not. */
const iso = z.iso.datetime({ precision: 3 });
const status = z.enum(['QUEUED', 'RUNNING', 'CANCELLING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMED_OUT']);
const dataset = z.strictObject({ namespace: z.string(), name: z.string() });
const count = z.number().int().nonnegative();
const brief = z.strictObject({ run_id: z.string(), status, updated_at: iso });

export const tablesSchema = z.array(
  z.strictObject({
    namespace: z.string(),
    name: z.string(),
    latest_run: brief,
    latest_success: brief.nullable(),
    upstream: count,
    downstream: count,
  }),
);

export const runsSchema = z.array(
  z.looseObject({
    run_id: z.string(),
    org_id: z.string(),
    kind: z.string(),
    reference_id: z.string().nullable(),
    queue: z.string().nullable(),
    status,
    attempt: count,
    revision: count,
    created_at: iso,
    updated_at: iso,
    started_at: iso.nullable(),
    finished_at: iso.nullable(),
    heartbeat_at: iso.nullable(),
    payload: z.strictObject({
      target_namespace: z.string().nullable(),
      target_table: z.string().nullable(),
      source_type: z.string().nullable(),
    }),
    inputs: z.array(dataset),
    outputs: z.array(dataset),
    latest_task: z
      .looseObject({ key: z.string(), started_at: iso.nullable(), finished_at: iso.nullable() })
      .nullable(),
    result: z.looseObject({}).nullable(),
    error: z.strictObject({ code: z.string().nullable(), message: z.string() }).nullable(),
    code_version: z.string().nullable(),
  }),
);

export const lineageSchema = z.strictObject({
  nodes: z.array(dataset),
  edges: z.array(z.strictObject({ from: dataset, to: dataset, run_id: z.string() })),
});

export const inspectSchema = z.strictObject({
  org: z.string(),
  manifest: z
    .looseObject({
      version: count,
      created_at: iso,
      covers_until: iso,
      committed_at: iso,
      rows: count,
      active: count,
      parts: z.array(z.looseObject({ name: z.string(), size_bytes: count, inline_bytes: count.nullable() })),
    })
    .nullable(),
  tail: z.looseObject({ entries: count, records: count, bytes: count, oldest_at: iso.nullable() }),
  garbage: z.looseObject({ lists: count, objects: count }),
});

export const verifySchema = z.strictObject({
  ok: z.boolean(),
  problems: z.array(
    z.strictObject({
      org: z.string(),
      law: z.number(),
      key: z.string().optional(),
      run_id: z.string().optional(),
      message: z.string(),
    }),
  ),
  orgs: z.array(z.strictObject({ org: z.string(), ok: z.boolean(), checked: z.record(z.string(), count) })),
});

export const compactedSchema = z.looseObject({
  org_id: z.string(),
  outcome: z.enum(['committed', 'clean', 'lost', 'failed']),
  version: count.nullable(),
  entries: count,
  records: count,
  rows: count,
});

export const importSchema = z.looseObject({
  events: count,
  run_events: count,
  job_events: count,
  dataset_events: count,
  runs: count,
  changed: count,
  unchanged: count,
  rejected_total: count,
  rejected: z.array(z.strictObject({ file: z.string(), line: count, reason: z.string() })),
});

const cost = z.strictObject({ ms: z.number().positive(), requests: count, rounds: count, bytes: count });

export const demoSchema = z.looseObject({
  runs: count,
  transitions: count,
  flat_scan: cost,
  flat_scan_of_org: cost,
  refresh: cost,
  equal: z.boolean(),
  tables: z.array(z.looseObject({ latest_run: brief })),
  active: runsSchema,
  lineage: lineageSchema,
});
