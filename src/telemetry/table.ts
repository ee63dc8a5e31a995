/**
 * Every metric there is. docs/SERVICE.md shows this table, and a test holds both to each other. Labels come from closed
 * sets: never an org, a run or a path, which would tell one org of another and grow without bound.
 */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly bounds?: readonly number[];
  /** Who has it: the HTTP service, every process that works on a store, processes that fold. */
  readonly of: MetricGroup;
  /** Its OpenTelemetry name where the rule (dots, no unit) does not give the one of the semantic conventions. */
  readonly otel?: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
}
export type MetricGroup = 'service' | 'store' | 'compactor';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const LONG_SECONDS = [0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600];
const COUNTS = [0, 1, 10, 100, 1_000, 10_000];

export const METRICS = {
  runfold_requests_total: {
    of: 'service',
    type: 'counter',
    labels: ['method', 'route', 'status'],
    help: 'HTTP requests by route and status.',
  },
  runfold_request_seconds: {
    of: 'service',
    type: 'histogram',
    labels: ['method', 'route', 'status'],
    bounds: SECONDS,
    help: 'Time to answer an HTTP request, long polls and streams aside.',
    otel: {
      name: 'http.server.request.duration',
      labels: {
        method: 'http.request.method',
        route: 'http.route',
        status: 'http.response.status_code',
      },
    },
  },
  runfold_refusals_total: {
    of: 'service',
    type: 'counter',
    labels: ['code'],
    help: 'Refused HTTP requests by code; RATE_LIMITED and OVERLOADED are shed load.',
  },
  runfold_requests_in_flight: { of: 'service', type: 'gauge', help: 'HTTP requests being worked on.' },
  runfold_requests_waiting: {
    of: 'service',
    type: 'gauge',
    help: 'HTTP requests waiting for a place of their org.',
  },
  runfold_cache_lookups_total: {
    of: 'service',
    type: 'counter',
    labels: ['result'],
    help: 'Looks into the org cache: hit, stale (served, and refreshed meanwhile) or miss.',
  },
  runfold_cache_orgs: { of: 'service', type: 'gauge', help: 'Orgs in the cache.' },
  runfold_cache_bytes: { of: 'service', type: 'gauge', help: 'Estimated memory of the orgs in the cache.' },
  runfold_view_cache_bytes: { of: 'service', type: 'gauge', help: 'Memory of cached answers.' },
  runfold_ready_lag_seconds: {
    of: 'service',
    type: 'gauge',
    help: 'Fold lag by the last look of /readyz: the median of the orgs it looked at.',
  },
  runfold_refreshes_total: {
    of: 'store',
    type: 'counter',
    labels: ['kind'],
    help: 'Refreshes of an org: cold (the manifest was read) or warm.',
  },
  runfold_refresh_errors_total: {
    of: 'store',
    type: 'counter',
    labels: ['code'],
    help: 'Refreshes that failed, by code.',
  },
  runfold_refresh_seconds: {
    of: 'store',
    type: 'histogram',
    labels: ['kind'],
    bounds: SECONDS,
    help: 'Time of a refresh.',
  },
  runfold_refresh_rounds: {
    of: 'store',
    type: 'histogram',
    labels: ['kind'],
    bounds: [1, 2, 3, 4, 6, 10],
    help: 'Rounds that a refresh waited for, intents and repeated rounds included.',
  },
  runfold_refresh_tail_entries: {
    of: 'store',
    type: 'histogram',
    labels: ['kind'],
    bounds: COUNTS,
    help: 'Entries that a refresh read: cold, the whole tail; warm, what was new.',
  },
  runfold_refresh_tail_age_seconds: {
    of: 'store',
    type: 'histogram',
    bounds: LONG_SECONDS,
    help: 'Age of the oldest entry of the tail that a cold refresh met.',
  },
  runfold_refreshes_incomplete_total: {
    of: 'store',
    type: 'counter',
    help: 'Refreshes that answer without what quarantined entries said, or from an older version.',
  },
  runfold_append_seconds: {
    of: 'store',
    type: 'histogram',
    bounds: SECONDS,
    help: 'Time from a call with records until they are durable, waiting for company included.',
  },
  runfold_append_errors_total: {
    of: 'store',
    type: 'counter',
    labels: ['code'],
    help: 'Appends that were not acknowledged, by code.',
  },
  runfold_entries_total: {
    of: 'store',
    type: 'counter',
    help: 'Entries that were appended and acknowledged.',
  },
  runfold_entry_records: {
    of: 'store',
    type: 'histogram',
    bounds: [1, 2, 5, 10, 50, 100, 500, 1_000],
    help: 'Records per entry: how much group commit saves.',
  },
  runfold_entry_repeats_total: {
    of: 'store',
    type: 'counter',
    help: 'Entries written once more under a fresh name: outcome unknown, or too slow for the name.',
  },
  runfold_store_requests_total: {
    of: 'store',
    type: 'counter',
    labels: ['operation', 'outcome'],
    help: 'Calls of the store by operation and outcome, retries of one call counted as one.',
  },
  runfold_store_seconds: {
    of: 'store',
    type: 'histogram',
    labels: ['operation'],
    bounds: SECONDS,
    help: 'Time of a call of the store, its retries included.',
  },
  runfold_store_retries_total: {
    of: 'store',
    type: 'counter',
    labels: ['operation'],
    help: 'Attempts of store calls after the first.',
  },
  runfold_unknown_outcomes_total: {
    of: 'store',
    type: 'counter',
    labels: ['operation'],
    help: 'Writes that may or may not have happened, after all retries and reading back.',
  },
  runfold_passes_total: {
    of: 'compactor',
    type: 'counter',
    labels: ['result'],
    help: 'Passes over orgs: ok, or failed as a whole.',
  },
  runfold_pass_seconds: { of: 'compactor', type: 'histogram', bounds: LONG_SECONDS, help: 'Time of a pass.' },
  runfold_last_pass_timestamp_seconds: {
    of: 'compactor',
    type: 'gauge',
    help: 'When the last pass ended, seconds since the epoch.',
  },
  runfold_folds_total: {
    of: 'compactor',
    type: 'counter',
    labels: ['outcome'],
    help: 'Folds of an org: committed, clean (nothing to fold), deferred (not yet worth it), lost (others were quicker) or failed.',
  },
  runfold_fold_seconds: {
    of: 'compactor',
    type: 'histogram',
    bounds: LONG_SECONDS,
    help: 'Time of a fold, what it collects included; deferred ones aside.',
  },
  runfold_fold_lag_seconds: {
    of: 'compactor',
    type: 'histogram',
    bounds: LONG_SECONDS,
    help: 'Age of the oldest entry that a fold found unfolded; deferred ones aside.',
  },
  runfold_fold_entries_total: { of: 'compactor', type: 'counter', help: 'Entries folded.' },
  runfold_fold_records_total: { of: 'compactor', type: 'counter', help: 'Records folded.' },
  runfold_fold_ties_total: {
    of: 'compactor',
    type: 'counter',
    help: 'Records of one run and revision with different bytes: two versions of the software write.',
  },
  runfold_quarantined_total: {
    of: 'compactor',
    type: 'counter',
    help: 'Corrupt entries that folds have set aside.',
  },
  runfold_quarantine: {
    of: 'compactor',
    type: 'gauge',
    help: 'Entries in quarantine, as last seen in each org: see runfold verify and repair.',
  },
  runfold_garbage_waiting: {
    of: 'compactor',
    type: 'gauge',
    help: 'Objects that wait out their grace, as last seen in each org.',
  },
  runfold_collected_total: { of: 'compactor', type: 'counter', help: 'Objects deleted as garbage.' },
  runfold_waiting_entries: {
    of: 'compactor',
    type: 'gauge',
    help: 'Entries that stay in the log for an unconfirmed intent, as last seen in each org.',
  },
  runfold_deferred_entries: {
    of: 'compactor',
    type: 'gauge',
    help: 'Entries that wait until a fold is worth it, as last seen in each org.',
  },
  runfold_traces_archived_total: {
    of: 'compactor',
    type: 'counter',
    labels: ['status'],
    help: 'Logs of attempts that were archived: whole, partial (with gaps), or lost (nothing was left).',
  },
  runfold_trace_failures_total: {
    of: 'compactor',
    type: 'counter',
    help: 'Tries to archive the logs of a run that failed; they are tried again.',
  },
  runfold_trace_mismatches_total: {
    of: 'compactor',
    type: 'counter',
    help: 'Archives of which the store held other bytes than were sent; none was used.',
  },
  runfold_trace_bytes_total: { of: 'compactor', type: 'counter', help: 'Bytes of logs archived.' },
  runfold_archive_seconds: {
    of: 'compactor',
    type: 'histogram',
    bounds: LONG_SECONDS,
    help: 'Time of an archive pass over one org.',
  },
  runfold_traces_waiting: {
    of: 'compactor',
    type: 'gauge',
    help: 'Ended runs whose logs are not archived, as last seen in each org.',
  },
  runfold_traces_due: {
    of: 'compactor',
    type: 'gauge',
    help: 'Of those: nothing but time of a pass is missing; they do not settle, back off, or have another archiver at them.',
  },
  runfold_trace_oldest_seconds: {
    of: 'compactor',
    type: 'gauge',
    help: 'How long ago the first of all that are not archived has ended; grows though no pass looks.',
  },
} as const satisfies Record<`runfold_${string}`, MetricDefinition>;

export type MetricName = keyof typeof METRICS;
type NameOf<T extends MetricDefinition['type']> = {
  [N in MetricName]: (typeof METRICS)[N]['type'] extends T ? N : never;
}[MetricName];
export type CounterName = NameOf<'counter'>;
export type GaugeName = NameOf<'gauge'>;
export type HistogramName = NameOf<'histogram'>;
/** A value for each label of the metric, and for nothing else. */
export type LabelsOf<N extends MetricName> = (typeof METRICS)[N] extends {
  labels: readonly (infer L extends string)[];
}
  ? Readonly<Record<L, string | number>>
  : Readonly<Record<never, never>>;
