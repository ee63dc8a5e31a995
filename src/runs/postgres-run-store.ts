import type { Pool, PoolClient, QueryResult } from 'pg';
import { type Clock, cancelled } from '../core/clock.ts';
import { InputError, StoreError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { checkTable } from './postgres-check.ts';
import { definite, isAmbiguous } from './postgres-errors.ts';
import type { Documents, DocumentWrite } from './sql-documents.ts';
import { documentsOn, type SqlDriver, type SqlValue } from './sql-driver.ts';
import { SqlRunStore } from './sql-run-store.ts';
import { settling } from './sql-settling.ts';
import { type SqlStatements, type SqlTable, statementsOf } from './sql-table.ts';

const POOL_MAX = 10;
const IDLE_MS = 30_000;
/** Serialises the creation of tables: `IF NOT EXISTS` alone loses races with itself. */
const CREATE_LOCK = 0x72756e66;

export interface PostgresOptions {
  /** As libpq reads it, without parameters of ours. */
  connectionString: string;
  schema?: string | undefined;
  table?: string | undefined;
  /** Create schema and table where they are missing. Off: the operator brings them, and they are checked. */
  manage?: boolean | undefined;
  /** `false`: a table that is missing is an InputError, and nothing is made. Default true. */
  create?: boolean | undefined;
  poolMax?: number | undefined;
  clock: Clock;
  random: Random;
  limits: Limits;
}

/** Canonical runs in one PostgreSQL table. Loads `pg`, and asks the server once whether the table will do. */
export async function openPostgresRunStore(options: PostgresOptions): Promise<SqlRunStore> {
  const table = { schema: options.schema ?? 'public', table: options.table ?? 'runs', idColumn: 'run_id' };
  return new SqlRunStore(settling(await openPostgresDocuments(options, table), options), options);
}

export async function openPostgresDocuments(
  options: Pick<PostgresOptions, 'connectionString' | 'manage' | 'create' | 'poolMax' | 'limits'>,
  table: SqlTable & { schema: string },
): Promise<Documents> {
  const { default: pg } = await import('pg');
  const { requestDeadlineMs } = options.limits;
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    max: options.poolMax ?? POOL_MAX,
    idleTimeoutMillis: IDLE_MS,
    connectionTimeoutMillis: requestDeadlineMs,
    // A statement whose client is gone ends by itself: no write lands later than this (see lateWriteMaxMs).
    statement_timeout: requestDeadlineMs,
    application_name: 'runfold',
    keepAlive: true,
  });
  // An idle connection broke: the pool drops it, and the next call opens another.
  pool.on('error', () => undefined);
  const statements = statementsOf(table, {
    parameter: (n) => `$${n}`,
    integer: 'BIGINT',
    text: 'TEXT COLLATE "C"',
    bytewise: ' COLLATE "C"',
  });
  const driver = new PostgresDriver(redacted(options.connectionString, table), pool);
  try {
    if (options.manage ?? true) await createTable(driver, table, statements, options.create ?? true);
    await probe(driver, table, statements);
    return documentsOn(driver, table, statements);
  } catch (error) {
    await driver.close();
    throw error;
  }
}

async function createTable(
  driver: PostgresDriver,
  { schema, table }: SqlTable & { schema: string },
  statements: SqlStatements,
  create: boolean,
): Promise<void> {
  const name = `"${schema}"."${table}"`;
  await driver.alone(async (client) => {
    const { rows } = await client.query('SELECT to_regclass($1) AS found', [name]);
    // Whoever may use a table need not be allowed to create one.
    if ((rows[0] as { found: unknown }).found !== null) return;
    if (!create) {
      await mayCreate(client, driver.url, schema);
      throw new InputError(`There is no run store at ${driver.url}.`, {
        hint: 'Check --runs; `runfold migrate --to`, `import` and `serve` make one.',
        details: { missing: driver.url },
      });
    }
    await client.query(
      `BEGIN; SELECT pg_advisory_xact_lock(${CREATE_LOCK});
       CREATE SCHEMA IF NOT EXISTS "${schema}";
       ${statements.create};
       COMMIT`,
    );
  });
}

/** What a dry run would not find out otherwise. Throws InputError. */
async function mayCreate(client: PoolClient, url: string, schema: string): Promise<void> {
  const { rows } = await client.query(
    `SELECT current_user AS role, CASE WHEN to_regnamespace($1) IS NULL
       THEN has_database_privilege(current_database(), 'CREATE')
       ELSE has_schema_privilege(to_regnamespace($1), 'CREATE') END AS allowed`,
    [`"${schema}"`],
  );
  const { role, allowed } = rows[0] as { role: string; allowed: boolean };
  if (allowed) return;
  throw new InputError(`There is no run store at ${url}, and role ${role} may not create one.`, {
    hint: 'Check --runs; grant it CREATE, or create the table (docs/MIGRATION.md) and add manage=off.',
  });
}

/** Columns, their types and the unique constraint, without a write: EXPLAIN plans the insert and does not run it. */
async function probe(
  driver: PostgresDriver,
  table: SqlTable & { schema: string },
  statements: SqlStatements,
): Promise<void> {
  await driver.alone(async (client) => {
    await client.query(statements.probe);
    await client.query(`EXPLAIN ${statements.insert.replace(/\$\d/g, 'NULL')}`);
    await checkTable(client, driver.url, table);
  });
}

class PostgresDriver implements SqlDriver {
  readonly url: string;
  readonly #pool: Pool;

  constructor(url: string, pool: Pool) {
    this.url = url;
    this.#pool = pool;
  }

  /** Several statements on one connection, when the store is opened: nobody aborts them. */
  async alone(work: (client: PoolClient) => Promise<void>): Promise<void> {
    const client = await this.#connect(new AbortController().signal);
    try {
      await work(client);
    } catch (error) {
      throw definite(this.url, error);
    } finally {
      client.off('error', ignore);
      client.release();
    }
  }

  /** Connections that are out come back first. */
  close(): Promise<void> {
    return this.#pool.end();
  }

  async rows(statement: string, values: readonly SqlValue[], signal: AbortSignal) {
    const client = await this.#connect(signal);
    try {
      return (await run(client, statement, values, signal)).rows as Record<string, unknown>[];
    } catch (error) {
      if (signal.aborted) throw reasonOf(signal);
      throw definite(this.url, error);
    }
  }

  /** The server is known by the moment it started: whatever name, address or port leads to it. */
  async identity({ schema, table }: SqlTable, signal: AbortSignal): Promise<string> {
    const [row] = await this.rows(
      `SELECT concat_ws(' ', 'postgres', extract(epoch FROM pg_postmaster_start_time()),
         (SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass($1)::oid) AS identity`,
      [`"${schema}"."${table}"`],
      signal,
    );
    return String(row?.identity);
  }

  /** Autocommit: one statement is one transaction, and its answer says whether that was committed. */
  async write(statement: string, values: readonly SqlValue[], signal: AbortSignal): Promise<DocumentWrite> {
    const client = await this.#connect(signal);
    try {
      const { rowCount } = await run(client, statement, values, signal);
      return { outcome: (rowCount ?? 0) > 0 ? 'written' : 'conflict' };
    } catch (error) {
      if (isAmbiguous(error)) return { outcome: 'unknown', cause: signal.aborted ? reasonOf(signal) : error };
      throw definite(this.url, error);
    }
  }

  /** Nothing was sent yet: what goes wrong here had no effect. */
  async #connect(signal: AbortSignal): Promise<PoolClient> {
    if (signal.aborted) throw reasonOf(signal);
    const connecting = this.#pool.connect();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(reasonOf(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const client = await Promise.race([connecting, aborted]);
      client.on('error', ignore);
      return client;
    } catch (error) {
      connecting.then(
        (late) => late.release(),
        () => undefined,
      );
      if (signal.aborted) throw reasonOf(signal);
      throw definite(this.url, error);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }
}

/** The connection goes back to the pool, or is destroyed where its state is not known. */
async function run(
  client: PoolClient,
  statement: string,
  values: readonly SqlValue[],
  signal: AbortSignal,
): Promise<QueryResult> {
  const onAbort = () => destroy(client);
  signal.addEventListener('abort', onAbort, { once: true });
  let broken = true;
  try {
    if (signal.aborted) destroy(client);
    const result = await client.query(statement, [...values]);
    broken = signal.aborted;
    return result;
  } catch (error) {
    broken = isAmbiguous(error);
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    client.off('error', ignore);
    client.release(broken);
  }
}

/** `end()` would wait for an answer that may never come. */
function destroy(client: PoolClient): void {
  (client as unknown as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy();
}

/** A listener while the connection is out of the pool: without one, its breaking would end the process. */
function ignore(): void {}

function reasonOf(signal: AbortSignal): unknown {
  return signal.reason instanceof StoreError ? signal.reason : cancelled(signal);
}

function redacted(connectionString: string, { schema, table }: { schema: string; table: string }): string {
  try {
    const { protocol, host, pathname } = new URL(connectionString);
    return `${protocol}//${host}${pathname}/${schema}.${table}`;
  } catch {
    return `postgres:${schema}.${table}`;
  }
}
