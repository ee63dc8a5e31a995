import fc from 'fast-check';
import type { Projection } from '../../src/runs/projection.ts';
import { RUN_STATUSES, TASK_STATUSES, TRACE_STATUSES } from '../../src/runs/run.ts';

/** Any text that has a UTF-8 form: the empty one, controls, quotes, a BOM, pairs of surrogates. */
export const text = fc.oneof(
  fc.constantFrom('', 'a', ' ', 'null', '\u0000', '\ufeffbom', '"\\', '漢字', '😀', 'e\u0301'),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const maybe = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: null, freq: 2 });

const COUNTS = [0, 1, 255, 256, 65_535, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER];
const count = fc.oneof(fc.constantFrom(...COUNTS), fc.maxSafeNat());
const positive = fc.oneof(
  fc.constantFrom(...COUNTS.slice(1)),
  fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
);
const dataset = fc.record({ namespace: text, name: text.filter((name) => name !== '') });
const datasets = fc.array(dataset, { maxLength: 3 });

/** Every valid projection, in the key order of `project`. Typed, so that a new field of it must be added here. */
export function projections(orgId: string): fc.Arbitrary<Projection> {
  return fc.record<Projection>({
    run_id: text,
    org_id: fc.constant(orgId),
    kind: text,
    reference_id: maybe(text),
    queue: maybe(text),
    status: fc.constantFrom(...RUN_STATUSES),
    attempt: positive,
    revision: positive,
    created_at: count,
    updated_at: count,
    started_at: maybe(count),
    finished_at: maybe(count),
    heartbeat_at: maybe(count),
    payload: fc.record({
      target_namespace: maybe(text),
      target_table: maybe(text),
      source_type: maybe(text),
    }),
    inputs: datasets,
    outputs: datasets,
    latest_task: maybe(
      fc.record({
        key: text,
        status: fc.constantFrom(...TASK_STATUSES),
        attempt: positive,
        started_at: maybe(count),
        finished_at: maybe(count),
        error: maybe(text),
      }),
    ),
    result: maybe(
      fc.record({ uri: maybe(text), rows: maybe(count), bytes: maybe(count), version: maybe(text) }),
    ),
    error: maybe(fc.record({ code: maybe(text), message: text })),
    code_version: maybe(text),
    first_created_at: maybe(count),
    changed_at: maybe(count),
    trace: maybe(
      fc.record({
        status: fc.constantFrom(...TRACE_STATUSES),
        attempt: positive,
        uri: maybe(text),
        bytes: maybe(count),
        lines: maybe(count),
        gaps: maybe(count),
        sha256: maybe(text),
        crc32c: maybe(count),
      }),
    ),
    artifacts: maybe(fc.record({ count: positive, expires_at: maybe(count) })),
    projection_version: positive,
  });
}
