import { type Clock, systemClock } from '../core/clock.ts';
import { isRunfoldError } from '../core/errors.ts';
import type { Facts, Happenings, Operation, Watcher } from '../core/telemetry.ts';
import type { Metrics } from './metrics.ts';
import { PendingWork } from './pending.ts';

/** Counts into `metrics` what a session, its compactor and a service on it do. */
export function metering(metrics: Metrics, clock: Clock = systemClock): Watcher {
  const pending = new PendingWork(() => clock.monotonic());
  const ended: { [O in Operation]: (facts: Facts<O>, ms: number, error: unknown) => void } = {
    request({ method = 'none', route = 'none', status = 500, code, waits = false }, ms) {
      metrics.add('runfold_requests_total', { method, route, status });
      if (code !== undefined) metrics.add('runfold_refusals_total', { code });
      if (!waits) metrics.observe('runfold_request_seconds', { method, route, status }, ms / 1_000);
    },
    refresh(facts, ms, error) {
      if (error !== null) return metrics.add('runfold_refresh_errors_total', { code: codeOf(error) });
      const kind = facts.cold === false ? 'warm' : 'cold';
      metrics.add('runfold_refreshes_total', { kind });
      metrics.observe('runfold_refresh_seconds', { kind }, ms / 1_000);
      metrics.observe('runfold_refresh_rounds', { kind }, facts.rounds ?? 0);
      metrics.observe('runfold_refresh_tail_entries', { kind }, facts.tail_entries ?? 0);
      if (facts.tail_age_ms !== undefined) {
        metrics.observe('runfold_refresh_tail_age_seconds', {}, facts.tail_age_ms / 1_000);
      }
      const incomplete = facts.fallback === true || (facts.quarantined ?? 0) > 0;
      if (incomplete) metrics.add('runfold_refreshes_incomplete_total', {});
    },
    append(_, ms, error) {
      if (error !== null) metrics.add('runfold_append_errors_total', { code: codeOf(error) });
      else metrics.observe('runfold_append_seconds', {}, ms / 1_000);
    },
    fold(facts, ms, error) {
      metrics.add('runfold_folds_total', { outcome: error === null ? (facts.outcome ?? 'clean') : 'failed' });
      // A look that left an org for later is no fold: it would make folds look quick, and never late.
      const isDeferred = error === null && facts.outcome === 'deferred';
      if (!isDeferred) metrics.observe('runfold_fold_seconds', {}, ms / 1_000);
      if (error !== null) return;
      if (!isDeferred) metrics.observe('runfold_fold_lag_seconds', {}, (facts.lag_ms ?? 0) / 1_000);
      pending.folded(facts);
      metrics.add('runfold_fold_entries_total', {}, facts.entries ?? 0);
      metrics.add('runfold_fold_records_total', {}, facts.records ?? 0);
      metrics.add('runfold_fold_ties_total', {}, facts.ties ?? 0);
      metrics.add('runfold_quarantined_total', {}, facts.quarantined ?? 0);
      metrics.add('runfold_collected_total', {}, facts.collected ?? 0);
    },
    archive(facts, ms, error) {
      metrics.observe('runfold_archive_seconds', {}, ms / 1_000);
      for (const status of ['archived', 'partial', 'lost'] as const)
        metrics.add('runfold_traces_archived_total', { status }, facts[status] ?? 0);
      metrics.add('runfold_trace_failures_total', {}, error === null ? (facts.failed ?? 0) : 1);
      metrics.add('runfold_trace_mismatches_total', {}, facts.mismatches ?? 0);
      metrics.add('runfold_trace_bytes_total', {}, facts.bytes ?? 0);
      // What failed tells nothing of what waits.
      if (error === null) pending.archived(facts);
    },
    pass(facts, ms, error) {
      metrics.add('runfold_passes_total', { result: error === null ? 'ok' : 'failed' });
      metrics.observe('runfold_pass_seconds', {}, ms / 1_000);
      metrics.set('runfold_last_pass_timestamp_seconds', Math.round(clock.now() / 1_000));
      pending.passed(error === null ? facts : {});
      pending.showOn(metrics);
    },
  };
  const told: { [H in keyof Happenings]: (facts: Happenings[H]) => void } = {
    store({ operation, outcome, ms }) {
      metrics.add('runfold_store_requests_total', { operation, outcome });
      metrics.observe('runfold_store_seconds', { operation }, ms / 1_000);
      if (outcome === 'unknown') metrics.add('runfold_unknown_outcomes_total', { operation });
    },
    retry: ({ operation }) => metrics.add('runfold_store_retries_total', { operation }),
    entry({ records, attempts, acknowledged }) {
      if (acknowledged) metrics.add('runfold_entries_total', {});
      metrics.observe('runfold_entry_records', {}, records);
      metrics.add('runfold_entry_repeats_total', {}, attempts - 1);
    },
    reached: ({ org }) => pending.reached(org),
    lookup: ({ result }) => metrics.add('runfold_cache_lookups_total', { result }),
  };
  return {
    // TypeScript cannot follow the pairing of a key with its own function through an index.
    ended: (operation, facts, ms, error) =>
      (ended[operation] as (...args: unknown[]) => void)(facts, ms, error),
    tell: (happening, facts) => (told[happening] as (facts: unknown) => void)(facts),
  };
}

function codeOf(error: unknown): string {
  return isRunfoldError(error) ? error.code : 'INTERNAL';
}
