import type { Clock } from '../../src/core/clock.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { RUN_FORMAT, type Run } from '../../src/runs/run.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { BenchClock } from '../support/world.ts';

/** What one bucket holds, before anybody has arranged it his own way. */
export interface Dataset {
  orgId: string;
  /** The org's runs as of the last fold, and what was recorded since, in entries. */
  folded: readonly Projection[];
  tail: readonly (readonly Projection[])[];
  /** Both together: every run as it is now. */
  current: readonly Projection[];
  /** Runs of all other orgs together. */
  otherRuns: number;
  seed: number;
}

export interface Answer {
  /** How many runs it knows. */
  rows: number;
  /** All of them. The time of making them is not measured. */
  projections(): Promise<Projection[]>;
}

/** One way to answer "what does org X's catalog look like?" from an object store. */
export interface Rival {
  name: string;
  /** How it works, and its settings. */
  about: string;
  /** Arranges the data its way. Not measured. `clock` is the store's own. */
  prepare(store: ObjectStore, data: Dataset, clock: BenchClock): Promise<void>;
  /** One refresh by a process that knows nothing yet, through nothing but `store`. */
  refresh(store: ObjectStore, orgId: string, clock: Clock): Promise<Answer>;
}

/** A note of every report in which these rivals stand. */
export const WHAT_IS_ASKED =
  'A timed refresh of runfold and of the plain snapshot, whose parts decode their columns on first use, includes tables() and active(); "runfold, all of history" makes every row, as the rivals that hold JSON or another format do.';

/** Requests in flight of one refresh. */
export const PARALLEL = 64;

/** Runs jobs as they come, at most `PARALLEL` at a time. */
export class Pool {
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  /** Of `#waiting`, where the next one is: `shift` on a long array moves all of it. */
  #next = 0;
  readonly #jobs: Promise<void>[] = [];

  start(job: () => Promise<void>): void {
    this.#jobs.push(this.#run(job));
  }

  async done(): Promise<void> {
    await Promise.all(this.#jobs);
  }

  async #run(job: () => Promise<void>): Promise<void> {
    if (this.#running === PARALLEL) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      await job();
    } finally {
      const next = this.#waiting[this.#next];
      if (next === undefined) this.#running--;
      else {
        this.#next++;
        next();
      }
    }
  }
}

/** Every body under `prefix`: pages one after another, as their tokens demand, and GETs beside them from the first on. */
export async function scan(
  store: ObjectStore,
  prefix: string,
  visit: (body: Uint8Array) => void,
): Promise<void> {
  const pool = new Pool();
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix, pageToken });
    for (const { key } of page.items) {
      pool.start(async () => {
        const got = await store.get(key);
        if (got.outcome === 'found') visit(got.body);
      });
    }
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  await pool.done();
}

export function answerOf(rows: readonly Projection[]): Answer {
  return { rows: rows.length, projections: async () => [...rows] };
}

/** A canonical run whose projection is `row`. */
export function runOfRow(row: Projection): Run {
  const { latest_task: task, projection_version: _, trace: __, artifacts: ___, changed_at, ...rest } = row;
  return {
    format: RUN_FORMAT,
    ...rest,
    ...(changed_at === null ? {} : { changed_at }),
    run_key: null,
    cancel_requested_at: null,
    heartbeat_timeout_ms: null,
    run_timeout_ms: null,
    inputs: [...row.inputs],
    outputs: [...row.outputs],
    artifacts: {},
    tasks:
      task === null
        ? {}
        : {
            [task.key]: {
              ...task,
              created_at: row.created_at,
              updated_at: row.updated_at,
              outputs: [],
              error: task.error === null ? null : { code: null, message: task.error },
            },
          },
    deleted_at: null,
    fingerprint: '0123456789abcdef',
    indexed_revision: row.revision,
    indexed_at: row.updated_at,
    observed: null,
  } as Run;
}

export function decodeJson(body: Uint8Array): unknown {
  return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'));
}
