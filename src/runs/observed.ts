import type { Dataset, Observed, RunError, RunResult, RunStatus } from './run.ts';

/** What one outside event says of a run. Absent and null mean "this event does not say". */
export interface Observation {
  /** Time of the event, ms since the epoch. */
  readonly at: number;
  readonly phase: 'start' | 'running' | 'success' | 'failure' | 'abort' | 'other';
  readonly kind?: string | null;
  readonly reference_id?: string | null;
  readonly source_type?: string | null;
  readonly code_version?: string | null;
  readonly error?: RunError | null;
  readonly rows?: number | null;
  readonly bytes?: number | null;
  readonly version?: string | null;
  readonly inputs: readonly Dataset[];
  readonly outputs: readonly Dataset[];
}

type Said<T> = { at: number; value: T } | null;
type Seen = Observed['inputs'][number];

/** The least state: joining it changes nothing. */
export const NOTHING: Observed = {
  status: null,
  first_at: null,
  last_at: null,
  started_at: null,
  terminal: null,
  kind: null,
  reference_id: null,
  source_type: null,
  code_version: null,
  error: null,
  rows: null,
  bytes: null,
  version: null,
  inputs: [],
  outputs: [],
};

const TERMINAL: Readonly<Record<Observation['phase'], RunStatus | null>> = {
  start: null,
  running: null,
  success: 'SUCCEEDED',
  failure: 'FAILED',
  abort: 'CANCELLED',
  other: null,
};

/** Two ends at the same ms: never call a run that failed a success. */
const TIE_ORDER: readonly RunStatus[] = ['SUCCEEDED', 'CANCELLED', 'FAILED'];

export function stateOf(observation: Observation): Observed {
  const { at, phase, error } = observation;
  const said = <T>(value: T | null | undefined): Said<T> => (value == null ? null : { at, value });
  return {
    status: null,
    first_at: at,
    last_at: at,
    started_at: phase === 'start' || phase === 'running' ? at : null,
    terminal: said(TERMINAL[phase]),
    kind: said(observation.kind),
    reference_id: said(observation.reference_id),
    source_type: said(observation.source_type),
    code_version: said(observation.code_version),
    error: said(error && { code: error.code, message: error.message }),
    rows: said(observation.rows),
    bytes: said(observation.bytes),
    version: said(observation.version),
    inputs: union([], seen(observation.inputs, at)),
    outputs: union([], seen(observation.outputs, at)),
  };
}

/**
 * Least upper bound of two states: every field is a minimum, a maximum or a union, hence commutative, associative and
 * idempotent. `status` is set by whoever derives the run from the state. Unknown fields of the stored state stay.
 */
export function join(a: Observed, b: Observed): Observed {
  return {
    ...a,
    first_at: least(a.first_at, b.first_at),
    last_at: greatest(a.last_at, b.last_at),
    started_at: least(a.started_at, b.started_at),
    terminal: latest(a.terminal, b.terminal, (x, y) => TIE_ORDER.indexOf(x) - TIE_ORDER.indexOf(y)),
    kind: latest(a.kind, b.kind),
    reference_id: latest(a.reference_id, b.reference_id),
    source_type: latest(a.source_type, b.source_type),
    code_version: latest(a.code_version, b.code_version),
    error: latest(a.error, b.error, (x, y) => byText(JSON.stringify(x), JSON.stringify(y))),
    rows: latest(a.rows, b.rows),
    bytes: latest(a.bytes, b.bytes),
    version: latest(a.version, b.version),
    inputs: union(a.inputs, b.inputs),
    outputs: union(a.outputs, b.outputs),
  };
}

/** The figures that events gave; no event gives a uri. */
export function resultOf({ rows, bytes, version }: Observed): RunResult | null {
  if (rows === null && bytes === null && version === null) return null;
  return {
    uri: null,
    rows: rows?.value ?? null,
    bytes: bytes?.value ?? null,
    version: version?.value ?? null,
  };
}

export function datasetKey({ namespace, name }: Dataset): string {
  return JSON.stringify([namespace, name]);
}

export function plainDataset({ namespace, name }: Dataset): Dataset {
  return { namespace, name };
}

function least(a: number | null, b: number | null): number | null {
  return a === null || (b !== null && b < a) ? b : a;
}

function greatest(a: number | null, b: number | null): number | null {
  return a === null || (b !== null && b > a) ? b : a;
}

/** The later word; of two at the same ms the greater one. */
function latest<T>(a: Said<T>, b: Said<T>, order: (x: T, y: T) => number = byText): Said<T> {
  if (a === null || b === null) return a ?? b;
  return (a.at - b.at || order(a.value, b.value)) > 0 ? a : b;
}

function byText<T>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Each dataset once, where it was named first; in the order (time, position in that event, namespace, name). */
function union(a: readonly Seen[], b: readonly Seen[]): Seen[] {
  const first = new Map<string, Seen>();
  for (const dataset of [...a, ...b].sort(byFirstSight)) {
    const key = datasetKey(dataset);
    if (!first.has(key)) first.set(key, dataset);
  }
  return [...first.values()];
}

function byFirstSight(a: Seen, b: Seen): number {
  return a.at - b.at || a.index - b.index || byText(a.namespace, b.namespace) || byText(a.name, b.name);
}

function seen(datasets: readonly Dataset[], at: number): Seen[] {
  return datasets.map(({ namespace, name }, index) => ({ namespace, name, at, index }));
}
