import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, cancelled } from '../core/clock.ts';
import { CorruptError, errorMessage, InputError, StoreError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import type { Documents, DocumentWrite } from './sql-documents.ts';
import { documentsOn, type SqlDriver, type SqlValue } from './sql-driver.ts';
import { SqlRunStore } from './sql-run-store.ts';
import { settling } from './sql-settling.ts';
import { type SqlTable, statementsOf } from './sql-table.ts';

/** Another process writes: it takes some ms at most, so it is asked again soon, and the event loop stays free. */
const BUSY_PAUSE_MS = 3;

/** https://www.sqlite.org/rescode.html, primary codes. */
const SQLITE = { busy: 5, readOnly: 8, ioError: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 };

export interface SqliteOptions {
  /** A path, or `:memory:`. Its folder must exist. */
  path: string;
  table?: string | undefined;
  /** Off: what was acknowledged last may be lost with the power (never with the process). */
  fsync?: boolean | undefined;
  /** `false`: a file or table that is missing is an InputError, and nothing is made. Default true. */
  create?: boolean | undefined;
  clock: Clock;
  random: Random;
  limits: Limits;
}

/**
 * Canonical runs in one SQLite file (`node:sqlite`), in WAL mode: any number of processes of one host, readers never
 * wait. The file must lie on a local file system.
 */
export async function openSqliteRunStore(options: SqliteOptions): Promise<SqlRunStore> {
  const table: SqlTable = { table: options.table ?? 'runs', idColumn: 'run_id' };
  const documents = await openSqliteDocuments(options, table);
  return new SqlRunStore(settling(documents, options), options);
}

export async function openSqliteDocuments(
  { path, fsync = true, create = true, limits }: Pick<SqliteOptions, 'path' | 'fsync' | 'create' | 'limits'>,
  table: SqlTable,
): Promise<Documents> {
  const { DatabaseSync } = await import('node:sqlite');
  const statements = statementsOf(table, {
    parameter: (n) => `?${n}`,
    integer: 'INTEGER',
    text: 'TEXT',
    bytewise: ' COLLATE BINARY',
  });
  const url = `sqlite:${path}`;
  if (!create && path !== ':memory:') checkFolder(url, path);
  let database: DatabaseSync | undefined;
  try {
    const signal = AbortSignal.timeout(limits.requestDeadlineMs);
    if (!create && path !== ':memory:') {
      // Opened to be read, a missing file is not made, and one that is not ours stays as it is.
      const looked = new DatabaseSync(path, { readOnly: true });
      database = looked;
      await patiently(url, signal, () => {
        if (!hasTable(looked, table)) throw missing(url);
      });
      looked.close();
      database = undefined;
    }
    const opened = new DatabaseSync(path);
    database = opened;
    // Two processes may open a new file at the same time.
    await patiently(url, signal, () => {
      opened.exec('PRAGMA journal_mode = WAL');
      opened.exec(`PRAGMA synchronous = ${fsync ? 'FULL' : 'NORMAL'}`);
      opened.exec(statements.create);
      opened.exec(statements.probe);
    });
    return documentsOn(new SqliteDriver(url, opened), table, statements);
  } catch (error) {
    database?.close();
    if (!create && sqliteCode(error) === SQLITE.cantOpen) throw missing(url);
    throw failed(url, error);
  }
}

/** What a dry run, which makes no file, would not find out otherwise. */
function checkFolder(url: string, path: string): void {
  if (existsSync(path)) return;
  const folder = dirname(path);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const what = existsSync(folder) ? 'may not be written to' : 'does not exist';
    throw new InputError(`There is no run store at ${url}, and its folder ${what}.`, {
      hint: 'Check --runs; make the folder first, on a local disk.',
      cause,
    });
  }
}

function hasTable(database: DatabaseSync, { table }: SqlTable): boolean {
  const found = database.prepare(
    "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
  );
  return found.get(table) !== undefined;
}

function missing(url: string): InputError {
  return new InputError(`There is no run store at ${url}.`, {
    hint: 'Check --runs; `runfold migrate --to`, `import` and `serve` make one.',
    details: { missing: url },
  });
}

let nextMemory = 1;

/** Statements are synchronous and take some µs; only waiting for another process's lock is not. */
class SqliteDriver implements SqlDriver {
  readonly url: string;
  readonly #database: DatabaseSync;
  readonly #own = nextMemory++;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(url: string, database: DatabaseSync) {
    this.url = url;
    this.#database = database;
  }

  rows(statement: string, values: readonly SqlValue[], signal: AbortSignal) {
    return patiently(this.url, signal, () => this.#prepare(statement).all(...values));
  }

  async write(statement: string, values: readonly SqlValue[], signal: AbortSignal): Promise<DocumentWrite> {
    try {
      const { changes } = await patiently(this.url, signal, () => this.#prepare(statement).run(...values));
      return { outcome: Number(changes) > 0 ? 'written' : 'conflict' };
    } catch (error) {
      // The disk failed while the transaction was being made durable: a restart may find it or not.
      if (error instanceof StoreError && sqliteCode(error.cause) === SQLITE.ioError)
        return { outcome: 'unknown', cause: error };
      throw error;
    }
  }

  /** Names are those of the file system, and tables do not differ by case. */
  async identity({ table }: SqlTable) {
    const path = this.url.slice('sqlite:'.length);
    // A database in memory is its own.
    if (path === ':memory:') return `sqlite:${process.pid}:${this.#own}`;
    return `sqlite:${realpathSync(path)} ${table.toLowerCase()}`;
  }

  async close() {
    this.#prepared.clear();
    this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#prepared.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#prepared.set(sql, statement);
    return statement;
  }
}

/** Repeats what another process's lock kept from having any effect. Throws StoreError, CorruptError, or `cancelled`. */
async function patiently<T>(url: string, signal: AbortSignal, statement: () => T): Promise<T> {
  for (;;) {
    if (signal.aborted) throw signal.reason instanceof StoreError ? signal.reason : cancelled(signal);
    try {
      return statement();
    } catch (error) {
      if (sqliteCode(error) !== SQLITE.busy) throw failed(url, error);
      await sleep(BUSY_PAUSE_MS);
    }
  }
}

function sqliteCode(error: unknown): number {
  return Number((error as { errcode?: number } | null)?.errcode ?? 0) & 0xff;
}

function failed(url: string, cause: unknown): unknown {
  const code = sqliteCode(cause);
  if (code === 0 && (cause as { code?: string })?.code !== 'ERR_SQLITE_ERROR') return cause;
  const reason = errorMessage(cause);
  if (code === SQLITE.corrupt || code === SQLITE.notADatabase)
    return new CorruptError(url, reason, { cause, hint: 'Restore the file from a backup.' });
  const denied = code === SQLITE.readOnly;
  return new StoreError(denied ? 'STORE_DENIED' : 'STORE_FAILED', `${url}: ${reason}.`, {
    // A full or failing disk may have room again; a missing folder or table will not come by itself.
    retryable: code === SQLITE.ioError,
    hint:
      code === SQLITE.full
        ? 'Make room on the disk.'
        : 'The folder must exist and be writable, on a local file system; a table of your own needs all columns.',
    cause,
  });
}
