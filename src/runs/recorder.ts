import { createHash } from 'node:crypto';
import { InputError, LifecycleError, OutcomeUnknownError, RunfoldError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import type { Limits } from '../core/limits.ts';
import type { NewRun, RunEvent } from './events.ts';
import { checkNewRun, checkRunEvent } from './input.ts';
import { lifecycleError, transition } from './lifecycle.ts';
import { type Observation, observe } from './observe.ts';
import { intentOf, type LogRecord, recordOf } from './record.ts';
import { isTerminal, type Run } from './run.ts';
import type { RunKeys } from './run-keys.ts';
import type { RunStore, RunWrite, StoredRun } from './run-store.ts';

/** How records reach the log. Resolves when they are durable and visible; see LogWriter. */
export interface RecordSink {
  append(orgId: string, records: readonly LogRecord[], signal?: AbortSignal): Promise<void>;
}

export interface RecorderOptions {
  limits: Limits;
  /** Without it, requests with a run key are refused. */
  runKeys?: RunKeys | undefined;
  /** Server-calibrated time, ms. */
  now: () => number;
  /** Resolves once `now` may be relied upon. Awaited after the run was read, and before it is changed. */
  ready?: (() => Promise<void>) | undefined;
}

/** The canonical run after the call, and whether this call changed it (a repeat does not). */
export interface Recorded {
  run: Run;
  changed: boolean;
}

/**
 * Every change of a run goes through here: canonical run first, then its record, then the acknowledgement
 * (docs/PROTOCOL.md). What enters the active set is announced by an intent before.
 *
 * Every call is idempotent: after OutcomeUnknownError, a crash or a lost answer, repeat it. Requests of a call
 * without contention: one read, one write, one share of an entry; one more share where a run becomes active.
 */
export class Recorder {
  readonly #runs: RunStore;
  readonly #log: RecordSink;
  readonly #options: RecorderOptions;

  constructor(runs: RunStore, log: RecordSink, options: RecorderOptions) {
    this.#runs = runs;
    this.#log = log;
    this.#options = options;
  }

  /** Throws RUN_ALREADY_EXISTS when the id was used for another request; the same request again is a repeat. */
  async create(orgId: string, newRun: NewRun, signal?: AbortSignal): Promise<Recorded> {
    const input = await this.#withRunKey(orgId, checkNewRun(newRun), signal);
    const event: RunEvent = { type: 'create', orgId, input, fingerprint: fingerprintOf(orgId, input) };
    return this.apply(orgId, input.run_id, event, signal);
  }

  /** With a run key, the run id is the one of the first request under that key. */
  async #withRunKey(orgId: string, input: NewRun, signal: AbortSignal | undefined): Promise<NewRun> {
    const { run_key, run_id, ...asked } = input;
    if (run_key === undefined || run_key === null) return input;
    const fingerprint = fingerprintOf(orgId, asked);
    const { runKeys } = this.#options;
    if (runKeys === undefined) throw new InputError('This recorder keeps no run keys.');
    const claim = await runKeys.claim(orgId, input.queue ?? null, run_key, { run_id, fingerprint }, signal);
    if (claim.fingerprint === fingerprint) return { ...input, run_id: claim.run_id };
    throw new LifecycleError('RUN_KEY_CONFLICT', `The run key ${run_key} stands for another request.`, {
      hint: 'Choose another key, or repeat the create with exactly the same fields.',
      details: { org_id: orgId, run_id: claim.run_id, run_key },
    });
  }

  /**
   * Throws InputError for an event that is none, and a LifecycleError when it is illegal or stale; then nothing was
   * changed.
   */
  async apply(orgId: string, runId: string, given: RunEvent, signal?: AbortSignal): Promise<Recorded> {
    const event = this.#withInterval(checkRunEvent(runId, given));
    return this.#change(orgId, runId, signal, (stored) => {
      const run = stored?.run ?? null;
      const answer = transition(run, event, this.#options.now());
      if (answer.outcome === 'refused') throw lifecycleError(answer, orgId, runId, run);
      return answer.outcome === 'changed' ? answer.run : null;
    });
  }

  /**
   * Merges what other producers saw of a run (OpenLineage), in one canonical write for all observations. Throws
   * InputError, and changes nothing, where one is dated more than `eventAheadMaxMs` ahead of the server's clock: it
   * would stay the latest word on its run and tables until that time comes.
   */
  observe(
    orgId: string,
    runId: string,
    observations: readonly Observation[],
    signal?: AbortSignal,
  ): Promise<Recorded> {
    return this.#change(orgId, runId, signal, (stored) => {
      this.#refuseFuture(runId, observations);
      // What is deleted stays deleted, whoever still talks about it.
      if (stored !== null && stored.run.deleted_at !== null) return null;
      let run = stored?.run ?? null;
      let changed = false;
      for (const observation of observations) {
        const merged = observe(run, { org_id: orgId, run_id: runId }, observation);
        run = merged.run;
        changed ||= merged.changed;
      }
      if (!changed || run === null) return null;
      const revision = (stored?.run.revision ?? 0) + 1;
      const before = stored?.run ?? run;
      const first_created_at =
        before.first_created_at ?? (run.created_at < before.created_at ? before.created_at : null);
      return { ...run, first_created_at, revision, indexed_revision: revision, indexed_at: run.updated_at };
    });
  }

  /** Called once the store was asked, so that the server's time is known. */
  #refuseFuture(runId: string, observations: readonly Observation[]): void {
    const { eventAheadMaxMs } = this.#options.limits;
    const latest = this.now() + eventAheadMaxMs;
    const ahead = observations.find(({ at }) => at > latest);
    if (ahead === undefined) return;
    const when = new Date(ahead.at).toISOString();
    throw new InputError(
      `Run ${runId}: the event is dated ${when}, more than ${eventAheadMaxMs / 1_000} s ahead of the server.`,
      { hint: 'Set the clock of its producer right, and send it again.', details: { run_id: runId } },
    );
  }

  /** Server-calibrated time, ms. */
  now(): number {
    return this.#options.now();
  }

  /** Appends the record of a canonical run as it was just read, for sweeps that found it missing. */
  async repeatRecord(run: Run, signal?: AbortSignal): Promise<void> {
    await this.#log.append(run.org_id, [recordOf(run)], signal);
  }

  /** `next` gives the run to write, or null where the event is a repeat; it throws what refuses the event. */
  async #change(
    orgId: string,
    runId: string,
    signal: AbortSignal | undefined,
    next: (stored: StoredRun | null) => Run | null,
  ): Promise<Recorded> {
    checkId('org id', orgId);
    checkId('run id', runId);
    let last: RunWrite | null = null;
    let changed = false;
    for (let round = 0; round < this.#options.limits.contentionRoundsMax; round++) {
      const readAt = this.now();
      const stored = await this.#runs.read(orgId, runId, signal);
      await this.#options.ready?.();
      const run = next(stored);
      if (run === null) {
        const { run: current } = stored as StoredRun;
        if (this.#isLongAgo(readAt)) continue;
        // Redelivery repairs: the first delivery may have died between the canonical write and its record.
        await this.#record(current, signal);
        return { run: current, changed };
      }
      const entersActive = !isTerminal(run.status) && (stored === null || isTerminal(stored.run.status));
      if (entersActive && !(await this.#announce(run, signal))) continue;
      const sentAt = this.now();
      last =
        stored === null
          ? await this.#runs.create(run, signal)
          : await this.#runs.replace(run, stored.token, signal);
      if (last.outcome === 'written') {
        changed = true;
        if (run.indexed_revision !== run.revision) return { run, changed };
        if (this.#isLongAgo(sentAt)) continue;
        await this.#record(run, signal);
        return { run, changed };
      }
      // After `conflict` and `unknown` alike the canonical run decides: the event is applied to what is there now.
    }
    if (last?.outcome === 'unknown') {
      throw new OutcomeUnknownError(`The store did not confirm a write of run ${runId}.`, {
        cause: last.cause,
      });
    }
    throw new RunfoldError('REVISION_CONFLICT', `Run ${runId} changes too often to be written.`, {
      hint: 'Repeat the call; see what else writes this run.',
      details: { org_id: orgId, run_id: runId },
    });
  }

  /** The canonical run stands; until its record does too, nothing is acknowledged. */
  async #record(run: Run, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#log.append(run.org_id, [recordOf(run)], signal);
    } catch (cause) {
      if (cause instanceof OutcomeUnknownError) throw cause;
      throw new OutcomeUnknownError(`Run ${run.run_id} was written, but the log did not take its record.`, {
        cause,
      });
    }
  }

  #withInterval(event: RunEvent): RunEvent {
    const { heartbeatIndexIntervalMs } = this.#options.limits;
    if (event.type === 'heartbeat') return { indexIntervalMs: heartbeatIndexIntervalMs, ...event };
    if (event.type !== 'task' || event.task.type !== 'heartbeat') return event;
    return { ...event, task: { indexIntervalMs: heartbeatIndexIntervalMs, ...event.task } };
  }

  /**
   * Appends the intent. False when that took so long (the process was stopped, say) that the canonical write might
   * land after readers were told to look no more: see `lateWriteMaxMs`. Then the run is announced anew.
   */
  async #announce(run: Run, signal: AbortSignal | undefined): Promise<boolean> {
    const began = this.now();
    await this.#log.append(run.org_id, [intentOf(run)], signal);
    return Math.abs(this.now() - began) <= this.#options.limits.entryLagMaxMs;
  }

  /** Whether what was true then may be old news by now; the clock may have been set right meanwhile, too. */
  #isLongAgo(time: number): boolean {
    return Math.abs(this.now() - time) > this.#options.limits.recordAgeMaxMs;
  }
}

/** The same request gives the same fingerprint, whatever the order of its keys. */
export function fingerprintOf(orgId: string, input: Partial<NewRun>): string {
  return createHash('sha256').update(stableJson({ orgId, input })).digest('hex').slice(0, 32);
}

function stableJson(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(byKey))
      : v,
  );
}

function byKey([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
