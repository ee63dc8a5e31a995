import type { Clock } from '../../src/core/clock.ts';
import type { Random } from '../../src/core/random.ts';
import { uniform } from '../../src/core/random.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';

/** One way to make a run's new state part of what an org's readers see. */
export interface WriterKind {
  name: string;
  /** How it works, and its settings. */
  about: string;
  /** The org before the writers come. Not measured. */
  prepare(store: ObjectStore, orgId: string, rows: readonly Projection[]): Promise<void>;
  /** One process. */
  open(store: ObjectStore, context: WriterContext): Writer;
  /** Every row that was ever appended and acknowledged, and perhaps others. */
  readBack(store: ObjectStore, orgId: string): Promise<Projection[]>;
}

export interface WriterContext {
  clock: Clock;
  random: Random;
  /** A name that changed less than this long ago takes no change; 0: no such limit. */
  nameIntervalMs: number;
}

export interface Writer {
  /** Resolves when the row is durable and every later read sees it. */
  append(orgId: string, row: Projection): Promise<void>;
  /** Resolves when nothing is in flight. */
  idle(): Promise<void>;
}

interface Waiting {
  row: Projection;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** What arrives for an org while its last commit is in flight goes out together: as runfold's own writer does it. */
export class GroupCommit implements Writer {
  readonly #commit: (orgId: string, rows: readonly Projection[]) => Promise<void>;
  readonly #queues = new Map<string, Waiting[]>();
  readonly #running = new Map<string, Promise<void>>();

  constructor(commit: (orgId: string, rows: readonly Projection[]) => Promise<void>) {
    this.#commit = commit;
  }

  append(orgId: string, row: Projection): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.#queues.get(orgId) ?? [];
      this.#queues.set(orgId, queue);
      queue.push({ row, resolve, reject });
      if (!this.#running.has(orgId)) this.#running.set(orgId, this.#drain(orgId, queue));
    });
  }

  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  async #drain(orgId: string, queue: Waiting[]): Promise<void> {
    // Callers of this same turn join the first batch.
    await Promise.resolve();
    while (queue.length > 0) {
      const batch = queue.splice(0);
      try {
        await this.#commit(
          orgId,
          batch.map(({ row }) => row),
        );
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#running.delete(orgId);
  }
}

/** Full jitter: a wait in [0, base · 2^attempt), bounded. */
export function jittered(attempt: number, baseMs: number, maxMs: number, random: Random): number {
  return uniform(random) * Math.min(maxMs, baseMs * 2 ** attempt);
}
