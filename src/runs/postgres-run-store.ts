import type { Pool, PoolClient, QueryResult } from 'pg';
import { type Clock, cancelled } from '../core/clock.ts';
import { errorMessage, RunfoldError, StoreError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import type { Documents, DocumentWrite } from './sql-documents.ts';
import { SqlRunStore } from './sql-run-store.ts';
import { settling } from './sql-settling.ts';
import {
  documentOf,
  type SqlStatements,
  type SqlTable,
  scannedOf,
  statementsOf,
  valuesOf,
} from './sql-table.ts';

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
  options: Pick<PostgresOptions, 'connectionString' | 'manage' | 'poolMax' | 'limits'>,
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
  const documents = new PostgresDocuments(redacted(options.connectionString, table), pool, table, statements);
  try {
    if (options.manage ?? true) await documents.create();
    await documents.probe();
    return documents;
  } catch (error) {
    await documents.close();
    throw error;
  }
}

class PostgresDocuments implements Documents {
  readonly url: string;
  readonly #pool: Pool;
  readonly #table: SqlTable & { schema: string };
  readonly #statements: SqlStatements;

  constructor(url: string, pool: Pool, table: SqlTable & { schema: string }, statements: SqlStatements) {
    this.url = url;
    this.#pool = pool;
    this.#table = table;
    this.#statements = statements;
  }

  async create(): Promise<void> {
    const client = await this.#connect(new AbortController().signal);
    try {
      const { rows } = await client.query('SELECT to_regclass($1) AS found', [
        `"${this.#table.schema}"."${this.#table.table}"`,
      ]);
      // Whoever may use a table need not be allowed to create one.
      if ((rows[0] as { found: unknown }).found !== null) return;
      await client.query(
        `BEGIN; SELECT pg_advisory_xact_lock(${CREATE_LOCK});
         CREATE SCHEMA IF NOT EXISTS "${this.#table.schema}";
         ${this.#statements.create};
         COMMIT`,
      );
    } catch (error) {
      throw definite(this.url, error);
    } finally {
      client.release();
    }
  }

  /** Columns and the unique constraint, without a write: EXPLAIN plans the insert and does not run it. */
  async probe(): Promise<void> {
    const client = await this.#connect(new AbortController().signal);
    try {
      await client.query(this.#statements.probe);
      const insert = this.#statements.insert.replace(/\$\d/g, 'NULL');
      await client.query(`EXPLAIN ${insert}`);
    } catch (error) {
      throw definite(this.url, error);
    } finally {
      client.release();
    }
  }

  async read({ orgId, id }: { orgId: string; id: string }, signal: AbortSignal) {
    const { rows } = await this.#query(this.#statements.read, [orgId, id], signal);
    return rows.length === 0 ? null : documentOf(this.url, this.#table.idColumn, rows[0]);
  }

  insert(...[document, signal]: Parameters<Documents['insert']>): Promise<DocumentWrite> {
    return this.#write(this.#statements.insert, valuesOf(document), signal);
  }

  update(...[document, expected, signal]: Parameters<Documents['update']>): Promise<DocumentWrite> {
    const values = [...valuesOf(document), expected.revision, expected.writeId];
    return this.#write(this.#statements.update, values, signal);
  }

  delete(...[{ orgId, id }, expected, signal]: Parameters<Documents['delete']>): Promise<DocumentWrite> {
    return this.#write(this.#statements.delete, [orgId, id, expected.revision, expected.writeId], signal);
  }

  async page(...[{ orgId, after, limit }, signal]: Parameters<Documents['page']>) {
    const which = orgId === undefined ? (after ? 'after' : 'all') : after ? 'org after' : 'org';
    const org = orgId ?? after?.orgId;
    const values = [limit, ...(org === undefined ? [] : [org]), ...(after ? [after.id] : [])];
    const { rows } = await this.#query(this.#statements.page(which), values, signal);
    return rows.map((row) => scannedOf(this.url, this.#table.idColumn, row));
  }

  /** Connections that are out come back first. */
  close(): Promise<void> {
    return this.#pool.end();
  }

  async #query(text: string, values: unknown[], signal: AbortSignal): Promise<QueryResult> {
    const client = await this.#connect(signal);
    try {
      return await run(client, text, values, signal);
    } catch (error) {
      if (signal.aborted) throw reasonOf(signal);
      throw definite(this.url, error);
    }
  }

  /** Autocommit: one statement is one transaction, and its answer says whether that was committed. */
  async #write(text: string, values: unknown[], signal: AbortSignal): Promise<DocumentWrite> {
    const client = await this.#connect(signal);
    try {
      const { rowCount } = await run(client, text, values, signal);
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
  text: string,
  values: unknown[],
  signal: AbortSignal,
): Promise<QueryResult> {
  const onAbort = () => destroy(client);
  signal.addEventListener('abort', onAbort, { once: true });
  let broken = true;
  try {
    if (signal.aborted) destroy(client);
    const result = await client.query(text, values);
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

/** SQLSTATE; undefined where it is no answer of the server. */
function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown; severity?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && 'severity' in (error as object)
    ? code
    : undefined;
}

/**
 * Whether a statement may have been committed all the same. The server's ERROR says that it was not. A connection
 * that broke says nothing, nor does a server that was shut down or lost its standby in the middle.
 */
function isAmbiguous(error: unknown): boolean {
  const state = sqlState(error);
  return state === undefined || state.startsWith('08') || state === '40003' || /^57P0[1245]$/.test(state);
}

const RETRYABLE = /^(08|53|40001|40P01|55P03|57014|57P0|25006|XX000)/;
const DENIED = /^(28|42501|3D000)/;

/** What is known to have had no effect, as StoreError. */
function definite(url: string, error: unknown): unknown {
  if (error instanceof RunfoldError) return error;
  const state = sqlState(error);
  const message = `${url}: ${errorMessage(error) || 'no connection'}.`;
  if (state === undefined) {
    return new StoreError('STORE_UNAVAILABLE', message, {
      retryable: true,
      hint: 'See that the server is up and can be reached.',
      cause: error,
    });
  }
  const details = { sqlstate: state };
  if (DENIED.test(state)) {
    const hint = 'See user, password, database and privileges.';
    return new StoreError('STORE_DENIED', message, { retryable: false, hint, cause: error, details });
  }
  if (state === '57014') {
    return new StoreError('DEADLINE_EXCEEDED', message, { retryable: true, cause: error, details });
  }
  const retryable = RETRYABLE.test(state);
  return new StoreError(retryable ? 'STORE_UNAVAILABLE' : 'STORE_FAILED', message, {
    retryable,
    hint: hintOf(state),
    cause: error,
    details,
  });
}

function hintOf(state: string): string {
  if (state === '42P01' || state === '3F000')
    return 'Create the table (docs/MIGRATION.md), or leave out manage=off.';
  if (state === '42703') return 'The table lacks a column: docs/MIGRATION.md has its definition.';
  if (state === '42P10')
    return 'The table needs PRIMARY KEY or UNIQUE (org_id, run_id): without it two creates can both win.';
  return 'The details have the SQLSTATE; the log of the server may say more.';
}

function redacted(connectionString: string, { schema, table }: { schema: string; table: string }): string {
  try {
    const { protocol, host, pathname } = new URL(connectionString);
    return `${protocol}//${host}${pathname}/${schema}.${table}`;
  } catch {
    return `postgres:${schema}.${table}`;
  }
}
