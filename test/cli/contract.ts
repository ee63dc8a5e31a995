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
      policy: z.strictObject({
        retain_ms: count.nullable(),
        time_travel_ms: count,
        trace_retain_ms: count.nullable().optional(),
      }),
      horizon: iso.nullable(),
      tombstones: z.array(z.looseObject({ run_id: z.string(), deleted_at: iso })),
      quarantine: z.array(z.looseObject({ key: z.string(), reason: z.string(), since: iso })),
      write_amplification: z.number().nullable(),
      parts: z.array(
        z.looseObject({
          name: z.string(),
          level: count,
          runs: count,
          rows: count,
          size_bytes: count,
          inline_bytes: count.nullable(),
          row_groups: count.nullable(),
          inline: z.never().optional(),
          groups: z.never().optional(),
        }),
      ),
    })
    .nullable(),
  tail: z.looseObject({ entries: count, records: count, bytes: count, oldest_at: iso.nullable() }),
  garbage: z.looseObject({ lists: count, objects: count, entries: count, parts: count, manifests: count }),
  checked: z.boolean(),
  corrupt: z.array(z.strictObject({ key: z.string(), reason: z.string() })),
});

export const policySchema = z.strictObject({
  org_id: z.string(),
  version: count.nullable(),
  policy: z.strictObject({
    retain_ms: count.nullable(),
    time_travel_ms: count,
    trace_retain_ms: count.nullable().optional(),
  }),
  horizon: iso.nullable(),
});

export const policySetSchema = policySchema.extend({
  dry_run: z.boolean(),
  forgets: z.strictObject({ head_runs: count, parts: count, part_runs: count, parts_partly: count }),
});

export const historySchema = z.strictObject({
  org_id: z.string(),
  kept: count,
  versions: z.array(
    z.strictObject({
      version: count,
      current: z.boolean(),
      committed_at: iso.nullable(),
      created_at: iso,
      rows: count,
      active: count,
      entries: count,
      records: count,
      parts: count,
      bytes: count,
      readable: z.enum(['all', 'head', 'none']),
      why: z.string().nullable(),
    }),
  ),
});

export const collectSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    objects: z.array(
      z.strictObject({
        key: z.string(),
        kind: z.enum(['entries', 'snapshot']),
        due_at: iso,
        due: z.boolean(),
        reason: z.string(),
      }),
    ),
    deleted: count,
  }),
);

export const orphansSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    orphans: z.array(
      z.strictObject({ key: z.string(), size_bytes: count, age_ms: count, reason: z.string() }),
    ),
    deleted: count,
  }),
);

const ids = z.array(z.string());

export const sweepSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    active: count,
    looked: count,
    repaired: ids,
    timed_out: ids,
    missing: ids,
  }),
);

export const artifactsSweepSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    runs: count,
    waiting: count,
    artifacts: z.array(
      z.strictObject({
        run_id: z.string(),
        operator: z.string(),
        port: z.string(),
        uri: z.string().nullable(),
        expires_at: iso,
        outcome: z.enum(['deleted', 'marked', 'kept']),
        reason: z.string().optional(),
      }),
    ),
    failed: z.array(z.strictObject({ run_id: z.string(), code: z.string(), message: z.string() })),
  }),
);

export const repairSchema = z.strictObject({
  org_id: z.string(),
  dry_run: z.boolean(),
  version: count,
  runs: count,
  released: ids,
  discarded: ids,
  lost_versions: z.array(count),
  unreadable: z.array(z.strictObject({ key: z.string(), reason: z.string() })),
});

export const deleteSchema = z.strictObject({
  org_id: z.string(),
  run_id: z.string(),
  dry_run: z.boolean(),
  deleted: z.boolean(),
  deleted_at: iso.nullable(),
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
  outcome: z.enum(['committed', 'clean', 'deferred', 'lost', 'failed']),
  version: count.nullable(),
  entries: count,
  records: count,
  rows: count.nullable(),
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

export const archiveSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    archived: count,
    partial: count,
    lost: count,
    failed: z.array(
      z.strictObject({
        run_id: z.string(),
        attempts: count,
        next_at: iso,
        code: z.string(),
        message: z.string(),
      }),
    ),
    mismatches: count,
    conflicts: count,
    bytes: count,
    stored_bytes: count,
    chunks_deleted: count,
    orphans_deleted: count,
    expired: count,
    leftovers_deleted: count,
    given_up: ids,
    missing: ids,
    work_full: z.boolean(),
    dropped: ids,
    work_renewed: z.boolean(),
    waiting: count,
    due: count,
    claimed: count,
    backing_off: count,
    settling: count,
    oldest_ended_at: iso.nullable(),
    complete: z.boolean(),
  }),
);

const traceState = {
  org_id: z.string(),
  run_id: z.string(),
  attempt: count,
  status: z.enum(['live', 'archived', 'partial', 'lost']),
};

export const traceShowSchema = z.strictObject({
  ...traceState,
  offset: count,
  bytes: count,
  ended: z.boolean(),
  gap: z.strictObject({ offset: count, bytes: count }).nullable(),
  gaps: z.array(z.strictObject({ offset: count, bytes: count })),
  text: z.string(),
});

export const traceVerifySchema = z.strictObject({
  ok: z.boolean(),
  partial: count,
  lost: count,
  traces: z.array(
    z.strictObject({
      ...traceState,
      bytes: count,
      gap_bytes: count,
      expired: z.boolean(),
      problems: z.array(z.string()),
    }),
  ),
});

export const traceImportSchema = z.strictObject({
  org_id: z.string(),
  dry_run: z.boolean(),
  rows: count,
  imported: count,
  known: count,
  rejected_total: count,
  rejected: z.array(z.strictObject({ line: count, reason: z.string() })),
});

export const tracePurgeSchema = z.strictObject({
  org_id: z.string(),
  dry_run: z.boolean(),
  rows: count,
  purged: count,
  kept: count,
});
