import { z } from 'zod';
import { CorruptError, OutcomeUnknownError, RunfoldError } from '../src/core/errors.ts';
import { isId } from '../src/core/ids.ts';
import { checkStored, encodeStored, parseStored } from '../src/core/stored-json.ts';
import { type Dataset, datasetSchema, RUN_STATUSES, type RunStatus } from '../src/runs/run.ts';
import { exportIndexKey, exportPrefix } from '../src/store/keys.ts';
import { ABSENT, type ObjectStore } from '../src/store/object-store.ts';

const EXPORT_FORMAT = 1;

const count = z.number().int().nonnegative();

const exportedRunSchema = z.looseObject({
  revision: z.number().int().positive(),
  status: z.enum(RUN_STATUSES),
  updated_at: count,
  /** Its tables, as positions in `tables`. */
  tables: z.array(count),
  /** Of the run's object; null: a write of it was not confirmed. */
  crc32c: count.nullable(),
});

const indexSchema = z.looseObject({
  format: z.literal(EXPORT_FORMAT),
  org_id: z.string(),
  /** Of the manifest that was exported, with the tail over it; null: there was only a tail. */
  version: count.nullable(),
  tables: z.array(datasetSchema.extend({ runs: count })),
  runs: z.record(z.string(), exportedRunSchema),
  /** Objects that are no longer part of the export, each by the generation that may be deleted. */
  removed: z.array(z.object({ key: z.string(), generation: z.string() })),
});
type StoredIndex = z.infer<typeof indexSchema>;

export interface ExportedRun {
  revision: number;
  status: RunStatus;
  updated_at: number;
  tables: readonly Dataset[];
  crc32c: number | null;
}

/** What the last export left, by run; and what lets the next one replace it. */
export interface ExportIndex {
  version: number | null;
  runs: ReadonlyMap<string, ExportedRun>;
  removed: StoredIndex['removed'];
  generation: string | null;
}

export const EMPTY: ExportIndex = { version: null, runs: new Map(), removed: [], generation: null };

/** One GET. Throws CorruptError: an export can always be made anew, with `full`. */
export async function readExportIndex(
  store: ObjectStore,
  orgId: string,
  signal?: AbortSignal,
): Promise<ExportIndex> {
  const key = exportIndexKey(orgId);
  const got = await store.get(key, { signal });
  if (got.outcome !== 'found') return EMPTY;
  const stored = checkStored(key, indexSchema, parseStored(key, 'export', EXPORT_FORMAT, got.body));
  if (stored.org_id !== orgId) throw corrupt(key, 'it belongs to another org');
  const runs = new Map<string, ExportedRun>();
  const { removed, tables } = stored;
  for (const [runId, { revision, status, updated_at, crc32c, tables: at }] of Object.entries(stored.runs)) {
    // Ids and keys become requests: what is none of this org's never does.
    if (!isId(runId)) throw corrupt(key, `${JSON.stringify(runId)} is no run id`);
    const own = at.map((position) => tables[position]);
    if (!own.every((table) => table !== undefined)) throw corrupt(key, `run ${runId} has a table too many`);
    runs.set(runId, { revision, status, updated_at, crc32c, tables: own });
  }
  if (!removed.every((one) => one.key.startsWith(exportPrefix(orgId))))
    throw corrupt(key, 'it would remove what is not of the export');
  return { version: stored.version, runs, removed, generation: got.meta.generation };
}

/** Replaces exactly the index that was read: of two exports at a time, one finds out. One PUT. */
export async function writeExportIndex(store: ObjectStore, orgId: string, index: ExportIndex): Promise<void> {
  const key = exportIndexKey(orgId);
  const put = await store.put(key, encodeExportIndex(orgId, index), {
    ifGeneration: index.generation ?? ABSENT,
    contentType: 'application/json',
    cacheControl: 'no-store',
  });
  if (put.outcome === 'written') return;
  if (put.outcome === 'unknown')
    throw new OutcomeUnknownError(`The store did not confirm ${key}.`, { cause: put.cause });
  throw new RunfoldError('REVISION_CONFLICT', `Another export of org ${orgId} was quicker.`, {
    hint: 'Repeat the command: it writes what is left.',
  });
}

/** Tables by namespace and name, runs by their ids: the same content gives the same bytes. */
function encodeExportIndex(orgId: string, { version, runs, removed }: ExportIndex): Uint8Array {
  const tables = new Map<string, Dataset & { runs: number }>();
  const nameOf = ({ namespace, name }: Dataset) => JSON.stringify([namespace, name]);
  for (const run of runs.values()) {
    for (const { namespace, name } of run.tables) {
      const known = tables.get(nameOf({ namespace, name }));
      if (known === undefined) tables.set(nameOf({ namespace, name }), { namespace, name, runs: 1 });
      else known.runs++;
    }
  }
  const names = [...tables.keys()].sort();
  const positions = new Map(names.map((name, i) => [name, i]));
  const index: StoredIndex = {
    format: EXPORT_FORMAT,
    org_id: orgId,
    version,
    tables: names.map((name) => tables.get(name)!),
    runs: Object.fromEntries(
      [...runs.keys()].sort().map((runId) => {
        const { revision, status, updated_at, crc32c, tables: own } = runs.get(runId)!;
        const at = own.map((table) => positions.get(nameOf(table))!);
        return [runId, { revision, status, updated_at, tables: at, crc32c }];
      }),
    ),
    removed,
  };
  return encodeStored(index);
}

function corrupt(key: string, reason: string): CorruptError {
  return new CorruptError(key, reason, { hint: 'Export with --full: it makes the export anew.' });
}
