import { type Clock, cancelled, throwIfAborted } from '../core/clock.ts';
import { OutcomeUnknownError, RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { type Telemetry, unwatched } from '../core/telemetry.ts';
import { uuidv7 } from '../core/uuid.ts';
import type { LogRecord } from '../runs/record.ts';
import { dirtyKey, entryKey } from '../store/keys.ts';
import { ABSENT, type ObjectStore } from '../store/object-store.ts';
import type { ServerClock } from '../store/server-clock.ts';
import { encodeEntry, inlinePayload } from './entry.ts';

export interface LogWriterOptions {
  clock: Clock;
  /** Must learn from `store`: see `calibrating`. */
  serverClock: ServerClock;
  random: Random;
  limits: Limits;
  telemetry?: Telemetry;
}

interface Waiting {
  records: readonly LogRecord[];
  sizeBytes: number;
  /** Monotonic local time at which the caller asked. */
  since: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Appends records to orgs' logs with group commit: what arrives for an org while its PUT is in flight goes out
 * together as the next entry. Cost: one PUT per entry, and one for the org's dirty marker per `markerCacheMs`.
 */
export class LogWriter {
  readonly #store: ObjectStore;
  readonly #options: LogWriterOptions;
  readonly #telemetry: Telemetry;
  readonly #queues = new Map<string, Waiting[]>();
  /** Records that wait, per org. */
  readonly #queued = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #markedAt = new Map<string, number>();
  readonly #marking = new Set<Promise<unknown>>();

  constructor(store: ObjectStore, options: LogWriterOptions) {
    this.#store = store;
    this.#options = options;
    this.#telemetry = options.telemetry ?? unwatched;
  }

  /**
   * Resolves when the records are durable and every later refresh sees them. Rejects with OutcomeUnknownError
   * when they may be, and with a StoreError when they are not. An abort stops the waiting, not always the write.
   */
  append(orgId: string, records: readonly LogRecord[], signal?: AbortSignal): Promise<void> {
    return this.#telemetry.run('append', { org: orgId, records: records.length }, () =>
      this.#append(orgId, records, signal),
    );
  }

  async #append(
    orgId: string,
    records: readonly LogRecord[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    throwIfAborted(signal);
    // An entry without records would be a corrupt one.
    if (records.length === 0) return;
    const queue = this.#queues.get(orgId) ?? [];
    const queued = this.#queued.get(orgId) ?? 0;
    if (queued + records.length > this.#options.limits.queueRecordsMax) {
      throw new RunfoldError(
        'OVERLOADED',
        `More than ${this.#options.limits.queueRecordsMax} records of org ${orgId} wait.`,
        {
          hint: 'The store is slower than the callers: slow down, or spread the writers over more processes.',
        },
      );
    }
    this.#queues.set(orgId, queue);
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        const at = queue.indexOf(waiting);
        if (at >= 0) this.#count(orgId, queue.splice(at, 1), -1);
        reject(
          at >= 0
            ? cancelled(signal!)
            : new OutcomeUnknownError('Cancelled while the entry was being written.'),
        );
      };
      const settle = () => signal?.removeEventListener('abort', onAbort);
      const waiting: Waiting = {
        records,
        sizeBytes: records.reduce((n, r) => n + JSON.stringify(r).length, 0),
        since: this.#options.clock.monotonic(),
        resolve: () => {
          settle();
          resolve();
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      queue.push(waiting);
      this.#count(orgId, [waiting], 1);
      if (!this.#running.has(orgId)) this.#running.set(orgId, this.#drain(orgId, queue));
    });
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async idle(): Promise<void> {
    while (this.#running.size + this.#marking.size > 0) {
      await Promise.all([...this.#running.values(), ...this.#marking]);
    }
  }

  async #drain(orgId: string, queue: Waiting[]): Promise<void> {
    const { clock, limits } = this.#options;
    // Let callers of this same turn join the first batch.
    if (limits.batchWaitMs > 0) await clock.sleep(limits.batchWaitMs);
    else await Promise.resolve();
    while (queue.length > 0) {
      const batch = takeBatch(queue, limits);
      this.#count(orgId, batch, -1);
      try {
        this.#mark(orgId);
        await this.#write(orgId, batch);
        for (const w of batch) w.resolve();
      } catch (error) {
        for (const w of batch) w.reject(error);
      }
    }
    this.#running.delete(orgId);
    this.#queues.delete(orgId);
    this.#queued.delete(orgId);
  }

  #count(orgId: string, waiting: readonly Waiting[], sign: 1 | -1): void {
    const records = waiting.reduce((n, w) => n + w.records.length, 0);
    this.#queued.set(orgId, (this.#queued.get(orgId) ?? 0) + sign * records);
  }

  async #write(orgId: string, batch: readonly Waiting[]): Promise<void> {
    const { clock, serverClock, random, limits } = this.#options;
    const records = batch.flatMap((w) => w.records);
    const since = Math.min(...batch.map((w) => w.since));
    const body = encodeEntry({ org_id: orgId, records });
    if (body.length > limits.entryBytesMax) {
      throw new RunfoldError(
        'LIMIT_EXCEEDED',
        `An entry of ${body.length} bytes is over the limit of ${limits.entryBytesMax}.`,
        {
          hint: 'Runs with fewer datasets or shorter texts make smaller records.',
        },
      );
    }
    const { listMetadata, metadataBytesMax } = this.#store.capabilities;
    const metadata = listMetadata ? inlinePayload(body, metadataBytesMax) : {};
    const tell = (attempts: number, acknowledged: boolean) =>
      this.#telemetry.tell('entry', { records: records.length, bytes: body.length, attempts, acknowledged });
    let lastCause: unknown;
    let attempt = 0;
    for (; attempt < limits.attemptsMax; attempt++) {
      const named = serverClock.now();
      const began = clock.monotonic();
      // Nobody may send what was true long ago (a process that was stopped wakes here): the run may have moved on
      // since, and been sealed into history, where nothing would tell that this record is stale.
      if (began - since > limits.recordAgeMaxMs) break;
      const key = entryKey(orgId, uuidv7(named, random));
      const put = await this.#store.put(key, body, {
        ifGeneration: ABSENT,
        metadata,
        contentType: 'application/json',
      });
      if (put.outcome === 'written') {
        // It became visible some time between its creation and now. A reader may already list from later than its
        // name says: only an entry under an honest name may be acknowledged.
        const visibleBy = put.meta.createdAt + (clock.monotonic() - began);
        if (named - put.meta.createdAt <= limits.entryLagMaxMs && visibleBy - named <= limits.entryLagMaxMs)
          return tell(attempt + 1, true);
        continue;
      }
      if (put.outcome === 'unknown') lastCause = put.cause;
    }
    tell(attempt, false);
    throw new OutcomeUnknownError(`The store did not confirm an entry of org ${orgId} in time.`, {
      cause: lastCause,
    });
  }

  /** The dirty marker is a hint to compactors, so no acknowledgement waits for it; a slow full pass finds orgs whose marker was lost. */
  #mark(orgId: string): void {
    const { clock, limits } = this.#options;
    const now = clock.monotonic();
    const markedAt = this.#markedAt.get(orgId);
    if (markedAt !== undefined && now - markedAt < limits.markerCacheMs) return;
    this.#markedAt.set(orgId, now);
    const marking = this.#store.put(dirtyKey(orgId), new Uint8Array()).then(
      (put) => put.outcome === 'written' || this.#markedAt.delete(orgId),
      () => this.#markedAt.delete(orgId),
    );
    this.#marking.add(marking);
    marking.then(() => this.#marking.delete(marking));
  }
}

function takeBatch(queue: Waiting[], limits: Limits): Waiting[] {
  let records = 0;
  let sizeBytes = 0;
  let count = 0;
  for (const w of queue) {
    records += w.records.length;
    sizeBytes += w.sizeBytes;
    if (count > 0 && (records > limits.batchRecordsMax || sizeBytes > limits.batchBytesMax)) break;
    count++;
  }
  return queue.splice(0, count);
}
