import type { Entrant, Refreshed } from './entrant.ts';
import type { PythonWorker } from './python.ts';
import type { Stack } from './stack.ts';

interface PythonRival {
  /** In worker.py. */
  id: string;
  name: string;
  about: string;
}

/** Of 100 000 rows, on a machine that others use too. */
const PREPARE_MS_MAX = 600_000;

/** Settings are in worker.py; what they mean for the comparison stands here, because the report prints it. */
export const PYTHON_RIVALS: readonly PythonRival[] = [
  {
    id: 'delta-commit',
    name: 'Delta Lake, one commit',
    about:
      'the deltalake package: partitioned by org, one zstd file per org, its whole log one JSON commit and no tail: its best case, which lasts until the next commit; opened anew, to_pyarrow_table of the partition',
  },
  {
    id: 'delta-checkpoint',
    name: 'Delta Lake, checkpoint',
    about: 'the same with a checkpoint at the newest version and nothing after it: as a table in use is',
  },
  {
    id: 'slatedb',
    name: 'SlateDB',
    about:
      'the slatedb package: keys org/run, values JSON, zstd, 64 KiB blocks, memtable flushed; a reader that follows the latest manifest and writes no checkpoint, opened anew, looks for newer writes in the log, then scan_prefix with 16 MiB read ahead in 16 tasks; values are not parsed',
  },
  {
    id: 'slatedb-flushed',
    name: 'SlateDB, flushed only',
    about: 'the same without looking into the log: it does not see acknowledged writes that are not flushed',
  },
  {
    id: 'duckdb',
    name: 'DuckDB, ranged reads',
    about:
      "the duckdb package over one zstd Parquet file of the org, whose name is known: an export, as old as its last run; read through pyarrow's Cloud Storage client and ParquetFile with pre_buffer, then asked by DuckDB in memory. DuckDB's own httpfs is not in its package: INSTALL downloads it by DuckDB's version, unpinned by a checksum",
  },
  {
    id: 'duckdb-whole',
    name: 'DuckDB, whole file',
    about: 'the same file, downloaded by one GET, then read by DuckDB from memory',
  },
];

export function pythonEntrant(
  { id, name, about }: PythonRival,
  worker: PythonWorker,
  { direct, slow, bucket }: Pick<Stack, 'direct' | 'slow' | 'bucket'>,
  { folder, org }: { folder: string; org: string },
): Entrant {
  return {
    name,
    about,
    billed: 'requests',
    prepare: () =>
      worker.ask<void>({ do: 'prepare', rival: id, base: direct, bucket, folder }, PREPARE_MS_MAX),
    check: () => worker.ask<string | null>({ do: 'check', rival: id, base: direct, bucket, folder, org }),
    refresh: () => worker.ask<Refreshed>({ do: 'refresh', rival: id, base: slow, bucket, org }),
  };
}
