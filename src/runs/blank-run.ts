import { RUN_FORMAT, type Run } from './run.ts';

/**
 * A run of which nothing is known but its name: queued at `at`, never written before. Whoever makes one says what he
 * knows on top; the order of the keys is that of the stored object.
 */
export function blankRun({ org_id, run_id }: Pick<Run, 'org_id' | 'run_id'>, at: number): Run {
  return {
    format: RUN_FORMAT,
    run_id,
    org_id,
    kind: 'job',
    reference_id: null,
    queue: null,
    run_key: null,
    status: 'QUEUED',
    attempt: 1,
    revision: 1,
    created_at: at,
    updated_at: at,
    started_at: null,
    finished_at: null,
    heartbeat_at: null,
    cancel_requested_at: null,
    heartbeat_timeout_ms: null,
    run_timeout_ms: null,
    ...noContent(),
    deleted_at: null,
    first_created_at: null,
    // Nobody asked for this run through `create`, so no `create` can be a repeat of it.
    fingerprint: '',
    indexed_revision: 1,
    indexed_at: at,
    observed: null,
  };
}

/** What a run tells of its work, as it is before anybody has told anything, and again once the run was deleted. */
export function noContent() {
  return {
    payload: { target_namespace: null, target_table: null, source_type: null },
    inputs: [],
    outputs: [],
    tasks: {},
    artifacts: {},
    result: null,
    error: null,
    code_version: null,
  } satisfies Partial<Run>;
}
