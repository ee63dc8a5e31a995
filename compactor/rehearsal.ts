import { crc32c } from '../src/core/crc32c.ts';
import { Recorder } from '../src/runs/recorder.ts';
import type { Run } from '../src/runs/run.ts';
import type { RunStore, RunWrite, StoredRun } from '../src/runs/run-store.ts';
import {
  ABSENT,
  type DeleteOptions,
  type DeleteOutcome,
  type GetOptions,
  type GetOutcome,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
  type PutOptions,
  type PutOutcome,
} from '../src/store/object-store.ts';
import type { CompactorContext } from './context.ts';

/**
 * A dry run as the real one on stores that forget: everything is read where it is, and everything that is written stays in
 * memory for as long as the rehearsal lasts. What the work then tells is what the real one does, by construction.
 *
 * `bodiless` are keys that nobody reads again: of those only what HEAD answers is kept. Listings hide what was removed,
 * and do not show what was written. Costs a HEAD for each write and removal.
 */
export function rehearsal(
  context: CompactorContext,
  recorder: Recorder,
  bodiless: (key: string) => boolean,
): { context: CompactorContext; recorder: Recorder } {
  const now = () => recorder.now();
  const store = new ForgetfulStore(context.store, now, bodiless);
  const runs = new ForgetfulRuns(context.runs);
  const { telemetry: _, ...unwatched } = context;
  const { limits } = context;
  // Records would be seen by readers alone.
  const silent = new Recorder(runs, { append: async () => {} }, { limits, now });
  return { context: { ...unwatched, store, runs }, recorder: silent };
}

type Kept = { meta: ObjectMeta; body: Uint8Array | null };

class ForgetfulStore implements ObjectStore {
  readonly #base: ObjectStore;
  readonly #now: () => number;
  readonly #bodiless: (key: string) => boolean;
  /** Null: removed. */
  readonly #objects = new Map<string, Kept | null>();
  #writes = 0;

  constructor(base: ObjectStore, now: () => number, bodiless: (key: string) => boolean) {
    this.#base = base;
    this.#now = now;
    this.#bodiless = bodiless;
  }

  get url() {
    return this.#base.url;
  }

  get capabilities() {
    return this.#base.capabilities;
  }

  async get(key: string, options: GetOptions = {}): Promise<GetOutcome> {
    const kept = this.#objects.get(key);
    if (kept === undefined) return this.#base.get(key, options);
    const serverTime = this.#now();
    if (kept === null) return { outcome: 'absent', serverTime };
    if (options.ifGenerationNot === kept.meta.generation) return { outcome: 'unchanged', serverTime };
    if (kept.body === null) throw new Error(`${key} is read in a rehearsal that did not keep it.`);
    const body = options.range ? kept.body.subarray(options.range.start, options.range.end) : kept.body;
    return { outcome: 'found', meta: kept.meta, body, serverTime };
  }

  async head(key: string, options: Parameters<ObjectStore['head']>[1] = {}): Promise<ObjectMeta | null> {
    const kept = this.#objects.get(key);
    return kept === undefined ? this.#base.head(key, options) : (kept?.meta ?? null);
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutOutcome> {
    const { ifGeneration, metadata = {}, signal } = options;
    if (ifGeneration !== undefined) {
      const there = (await this.head(key, { signal }))?.generation ?? ABSENT;
      if (there !== ifGeneration) return { outcome: 'conflict' };
    }
    const meta: ObjectMeta = {
      key,
      generation: `rehearsed-${++this.#writes}`,
      sizeBytes: body.length,
      crc32c: crc32c(body),
      createdAt: this.#now(),
      metadata,
    };
    this.#objects.set(key, { meta, body: this.#bodiless(key) ? null : body });
    return { outcome: 'written', meta };
  }

  async delete(key: string, { ifGeneration, signal }: DeleteOptions): Promise<DeleteOutcome> {
    const there = await this.head(key, { signal });
    if (there === null) return { outcome: 'absent' };
    if (there.generation !== ifGeneration) return { outcome: 'conflict' };
    this.#objects.set(key, null);
    return { outcome: 'deleted' };
  }

  async list(options: ListOptions): Promise<ListPage> {
    const page = await this.#base.list(options);
    return { ...page, items: page.items.filter(({ key }) => this.#objects.get(key) !== null) };
  }

  async close(): Promise<void> {}
}

class ForgetfulRuns implements RunStore {
  readonly #base: RunStore;
  /** By org and run; null: removed. */
  readonly #runs = new Map<string, StoredRun | null>();
  #writes = 0;

  constructor(base: RunStore) {
    this.#base = base;
  }

  get url() {
    return this.#base.url;
  }

  async read(orgId: string, runId: string, signal?: AbortSignal): Promise<StoredRun | null> {
    const kept = this.#runs.get(`${orgId} ${runId}`);
    return kept === undefined ? this.#base.read(orgId, runId, signal) : kept;
  }

  create(run: Run, signal?: AbortSignal): Promise<RunWrite> {
    return this.#write(run.org_id, run.run_id, null, run, signal);
  }

  replace(run: Run, token: string, signal?: AbortSignal): Promise<RunWrite> {
    return this.#write(run.org_id, run.run_id, token, run, signal);
  }

  remove(orgId: string, runId: string, token: string, signal?: AbortSignal): Promise<RunWrite> {
    return this.#write(orgId, runId, token, null, signal);
  }

  async #write(
    orgId: string,
    runId: string,
    expected: string | null,
    run: Run | null,
    signal: AbortSignal | undefined,
  ): Promise<RunWrite> {
    const there = await this.read(orgId, runId, signal);
    if ((there?.token ?? null) !== expected) return { outcome: 'conflict' };
    const token = run === null ? null : `rehearsed-${++this.#writes}`;
    this.#runs.set(`${orgId} ${runId}`, run === null ? null : { run, token: token! });
    return { outcome: 'written', token };
  }

  scan(options: Parameters<RunStore['scan']>[0] = {}) {
    return this.#base.scan(options);
  }

  async close(): Promise<void> {}
}
