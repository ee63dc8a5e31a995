import { mapParallel } from '../src/core/concurrency.ts';
import { crc32c } from '../src/core/crc32c.ts';
import { OutcomeUnknownError } from '../src/core/errors.ts';
import { encodeStored } from '../src/core/stored-json.ts';
import { type Projection, tablesOf } from '../src/runs/projection.ts';
import type { Dataset } from '../src/runs/run.ts';
import { exportedRunKey, exportedTableKey, exportIndexKey } from '../src/store/keys.ts';
import { ABSENT, type ObjectMeta } from '../src/store/object-store.ts';
import type { CompactorContext } from './context.ts';
import { type ExportedRun, type ExportIndex, writeExportIndex } from './export-index.ts';

export interface ExportReport {
  org_id: string;
  runs: number;
  tables: number;
  /** Keys written; with `dryRun`, those that would be. The index comes last, and only if anything changed. */
  written: string[];
  removed: string[];
  /** Objects that are as they should be. */
  unchanged: number;
  /** Keys whose write or removal the store did not confirm: the next export sees to them. */
  unconfirmed: string[];
}

export interface ExportTarget {
  orgId: string;
  /** What is there and was not asked for yet, where it was listed. */
  found: Map<string, ObjectMeta> | null;
  dryRun: boolean;
}

type Removal = ExportIndex['removed'][number];

/** One export at work: what it has looked at, written and removed so far. */
export class Export {
  readonly runs = new Map<string, ExportedRun>();
  readonly #context: CompactorContext;
  readonly #before: ExportIndex;
  readonly #target: ExportTarget;
  readonly #written: string[] = [];
  readonly #removed: string[] = [];
  readonly #unconfirmed: string[] = [];
  readonly #tables = new Set<string>();
  /** What an earlier index gave up, and its export did not live to delete. */
  readonly #left: Map<string, string>;
  #unchanged = 0;
  #isIndexStale: boolean;

  constructor(
    context: CompactorContext,
    before: ExportIndex & { isCorrupt?: boolean },
    target: ExportTarget,
  ) {
    this.#context = context;
    this.#before = before;
    this.#target = target;
    this.#left = new Map(before.removed.map(({ key, generation }) => [key, generation]));
    this.#isIndexStale = before.isCorrupt ?? false;
  }

  report(): ExportReport {
    const { orgId } = this.#target;
    return {
      org_id: orgId,
      runs: this.runs.size,
      tables: this.#tables.size,
      written: [...this.#written.sort(), ...(this.#isIndexStale ? [exportIndexKey(orgId)] : [])],
      removed: this.#removed.sort(),
      unchanged: this.#unchanged,
      unconfirmed: this.#unconfirmed.sort(),
    };
  }

  /** Writes what of one run differs from the last export. */
  async run(row: Projection, signal: AbortSignal): Promise<void> {
    const body = encodeStored(row);
    const checksum = crc32c(body);
    const tables = distinct(tablesOf(row));
    const { orgId, found } = this.#target;
    const known = this.#before.runs.get(row.run_id);
    for (const table of tables) this.#tables.add(nameOf(table));
    const keys = keysOf(orgId, row.run_id, tables);
    const { revision, status, updated_at } = row;
    const entry: ExportedRun = { revision, status, updated_at, tables, crc32c: checksum };
    this.runs.set(row.run_id, entry);
    if (found === null && known?.crc32c === checksum) {
      this.#unchanged += keys.length;
      return;
    }
    const old = new Set(known === undefined ? [] : keysOf(orgId, row.run_id, known.tables));
    for (const key of keys) {
      this.#left.delete(key);
      const wanted: Wanted = { key, body, checksum, revision, known: known?.crc32c ?? null };
      const outcome = await this.#put(wanted, old.has(key), signal);
      if (outcome === 'unchanged') this.#unchanged++;
      else if (outcome === 'written') this.#written.push(key);
      else entry.crc32c = null;
      if (outcome === 'unknown') this.#unconfirmed.push(key);
    }
    if (known === undefined || entry.crc32c !== known.crc32c) this.#isIndexStale = true;
  }

  /**
   * Removes what is no longer part of the export: first an index is committed that does not name it, then exactly the
   * generations that were seen before are deleted. So a slow export never removes what a later one has written.
   */
  async finish(version: number | null, signal: AbortSignal | undefined): Promise<void> {
    const { store } = this.#context;
    const { orgId, dryRun } = this.#target;
    const leftovers = [...this.#left].map(([key, generation]) => ({ key, generation }));
    const left = await this.#removeAll(leftovers, signal);
    const gone = await this.#gone(signal);
    if (gone.length > 0 || this.runs.size !== this.#before.runs.size) this.#isIndexStale = true;
    if (this.#isIndexStale && !dryRun) {
      const { generation } = this.#before;
      await writeExportIndex(store, orgId, {
        version,
        runs: this.runs,
        removed: [...gone, ...left],
        generation,
      });
    }
    await this.#removeAll(gone, signal);
  }

  /** Objects of runs and tables that are no more, as they are now. */
  async #gone(signal: AbortSignal | undefined): Promise<Removal[]> {
    const { orgId, found } = this.#target;
    if (found !== null) return [...found.values()].map(({ key, generation }) => ({ key, generation }));
    const keys: string[] = [];
    for (const [runId, { tables }] of this.#before.runs) {
      const now = this.runs.get(runId);
      const wanted = new Set(now === undefined ? [] : keysOf(orgId, runId, now.tables));
      for (const key of keysOf(orgId, runId, tables)) if (!wanted.has(key)) keys.push(key);
    }
    const { store, limits } = this.#context;
    const metas = await mapParallel(
      keys,
      limits.parallelMax,
      (key, stop) => store.head(key, { signal: stop }),
      signal,
    );
    return metas.flatMap((meta) => (meta === null ? [] : [{ key: meta.key, generation: meta.generation }]));
  }

  /** Gives back those of which the store did not say that they are gone. */
  async #removeAll(removals: readonly Removal[], signal: AbortSignal | undefined): Promise<Removal[]> {
    const { store, limits } = this.#context;
    const { dryRun, found } = this.#target;
    const left = await mapParallel(
      removals,
      limits.parallelMax,
      async ({ key, generation }, stop) => {
        const outcome = dryRun
          ? (await store.head(key, { signal: stop }))?.generation === generation
            ? 'deleted'
            : 'absent'
          : (await store.delete(key, { ifGeneration: generation, signal: stop })).outcome;
        if (outcome === 'deleted') {
          this.#removed.push(key);
          found?.delete(key);
        }
        if (outcome !== 'unknown') return [];
        this.#unconfirmed.push(key);
        return [{ key, generation }];
      },
      signal,
    );
    return left.flat();
  }

  /**
   * `newer`: another export, which began later, has written it. A key that the last export did not name is created, and
   * looked at only where something is in the way: the export before may have ended before its index.
   */
  async #put(
    wanted: Wanted,
    isKnown: boolean,
    signal: AbortSignal,
  ): Promise<'written' | 'unchanged' | 'newer' | 'unknown'> {
    const { store, limits } = this.#context;
    const { found, dryRun } = this.#target;
    let meta: ObjectMeta | null = found?.get(wanted.key) ?? null;
    let isSeen = found?.delete(wanted.key) !== undefined;
    for (let round = 0; round < limits.contentionRoundsMax; round++) {
      if (!isSeen && (isKnown || dryRun || round > 0)) {
        meta = await store.head(wanted.key, { signal });
        isSeen = true;
      }
      if (meta?.crc32c === wanted.checksum) return 'unchanged';
      if (meta !== null && found === null && (await this.#isNewer(meta, wanted, signal))) return 'newer';
      if (dryRun) return 'written';
      const put = await store.put(wanted.key, wanted.body, {
        ifGeneration: meta?.generation ?? ABSENT,
        contentType: 'application/json',
        signal,
      });
      if (put.outcome !== 'conflict') return put.outcome;
      isSeen = false;
    }
    throw new OutcomeUnknownError(`${wanted.key} changes too often.`);
  }

  /** What is there is neither what the last export wrote nor what this one wants: its own revision tells. */
  async #isNewer(meta: ObjectMeta, { known, revision }: Wanted, signal: AbortSignal): Promise<boolean> {
    if (meta.crc32c === known) return false;
    const got = await this.#context.store.get(meta.key, { signal });
    if (got.outcome !== 'found') return false;
    try {
      const there = JSON.parse(new TextDecoder().decode(got.body)) as { revision?: unknown } | null;
      return typeof there?.revision === 'number' && there.revision > revision;
    } catch {
      // Not ours any more, whatever it is.
      return false;
    }
  }
}

interface Wanted {
  key: string;
  body: Uint8Array;
  checksum: number;
  revision: number;
  /** Checksum of what the last export wrote; null: there was none, or it is not known. */
  known: number | null;
}

function keysOf(orgId: string, runId: string, tables: readonly Dataset[]): string[] {
  return [exportedRunKey(orgId, runId), ...tables.map((table) => exportedTableKey(orgId, table, runId))];
}

function nameOf({ namespace, name }: Dataset): string {
  return JSON.stringify([namespace, name]);
}

function distinct(tables: readonly Dataset[]): Dataset[] {
  return [
    ...new Map(
      tables.map(({ namespace, name }) => [nameOf({ namespace, name }), { namespace, name }]),
    ).values(),
  ];
}
