import { brand } from '../core/brand.ts';
import { mapParallel } from '../core/concurrency.ts';
import { CorruptError, FormatError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import { parseRunKey, RUNS_PREFIX, runKey, runsPrefix } from '../store/keys.ts';
import { ABSENT, type ObjectStore, type PutOptions } from '../store/object-store.ts';
import { pagesOf } from '../store/pages.ts';
import { decodeRunOf, encodeRunWithin, type Run } from './run.ts';
import type { RunStore, RunWrite, ScannedRun, ScanOptions, StoredRun } from './run-store.ts';

/** Canonical runs as one JSON object each, compared and swapped by generation. Every call but `scan` is one request. */
export class ObjectRunStore implements RunStore {
  static {
    brand(ObjectRunStore, 'ObjectRunStore');
  }

  readonly url: string;
  readonly #store: ObjectStore;
  readonly #limits: Limits;

  constructor(store: ObjectStore, limits: Limits) {
    this.url = store.url;
    this.#store = store;
    this.#limits = limits;
  }

  async read(orgId: string, runId: string, signal?: AbortSignal): Promise<StoredRun | null> {
    const key = runKey(orgId, runId);
    const got = await this.#store.get(key, { signal });
    if (got.outcome !== 'found') return null;
    return { run: decodeRunOf(key, orgId, runId, got.body), token: got.meta.generation };
  }

  create(run: Run, signal?: AbortSignal): Promise<RunWrite> {
    return this.#put(run, { ifGeneration: ABSENT, signal });
  }

  replace(run: Run, token: string, signal?: AbortSignal): Promise<RunWrite> {
    return this.#put(run, { ifGeneration: token, signal });
  }

  async remove(orgId: string, runId: string, token: string, signal?: AbortSignal): Promise<RunWrite> {
    const answer = await this.#store.delete(runKey(orgId, runId), { ifGeneration: token, signal });
    if (answer.outcome === 'unknown' || answer.outcome === 'conflict') return answer;
    return { outcome: 'written', token: null };
  }

  /** One LIST per 1000 runs and one GET each, `parallelMax` at a time. */
  async *scan({ orgId, onFlat, signal }: ScanOptions = {}): AsyncIterable<ScannedRun> {
    const prefix = orgId === undefined ? RUNS_PREFIX : runsPrefix(orgId);
    for await (const page of pagesOf(this.#store, { prefix, signal })) {
      const isFlat = ({ key }: { key: string }) => !key.slice(RUNS_PREFIX.length).includes('/');
      for (const { key } of page.items.filter(isFlat)) onFlat?.(key);
      const runs = await mapParallel(
        page.items.filter((item) => !isFlat(item)),
        this.#limits.parallelMax,
        (item, stop) => this.#scanOne(item.key, stop),
        signal,
      );
      for (const scanned of runs) if (scanned !== null) yield scanned;
    }
  }

  /** The object store belongs to whoever opened it. */
  async close() {}

  async #scanOne(key: string, signal: AbortSignal): Promise<ScannedRun | null> {
    const ids = parseRunKey(key);
    if (ids === null)
      return { key, problem: new CorruptError(key, 'the name is not that of a canonical run') };
    try {
      const got = await this.#store.get(key, { signal });
      return got.outcome === 'found' ? { key, run: decodeRunOf(key, ids.orgId, ids.runId, got.body) } : null;
    } catch (problem) {
      // What is wrong with one object is a problem of that object; a store that fails is everybody's.
      if (problem instanceof CorruptError || problem instanceof FormatError) return { key, problem };
      throw problem;
    }
  }

  async #put(run: Run, options: PutOptions): Promise<RunWrite> {
    const body = encodeRunWithin(run, this.#limits);
    const key = runKey(run.org_id, run.run_id);
    const put = await this.#store.put(key, body, { ...options, contentType: 'application/json' });
    return put.outcome === 'written' ? { outcome: 'written', token: put.meta.generation } : put;
  }
}
