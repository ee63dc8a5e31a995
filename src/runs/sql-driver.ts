import type { Documents, DocumentWrite } from './sql-documents.ts';
import { documentOf, type SqlStatements, type SqlTable, scannedOf, valuesOf } from './sql-table.ts';

export type SqlValue = string | number;

/**
 * All that one database does in a way of its own: run one statement in one attempt, obey the signal at once, and say what
 * is known of its effect. A StoreError means that there was none.
 */
export interface SqlDriver {
  /** Without secrets. */
  readonly url: string;
  rows(
    statement: string,
    values: readonly SqlValue[],
    signal: AbortSignal,
  ): Promise<Record<string, unknown>[]>;
  /** `conflict` where it changed no row. */
  write(statement: string, values: readonly SqlValue[], signal: AbortSignal): Promise<DocumentWrite>;
  /** Names the table itself, however the URL was spelled. */
  identity(table: SqlTable, signal: AbortSignal): Promise<string>;
  close(): Promise<void>;
}

/** The documents of one table, whichever database it is in: one statement per call. */
export function documentsOn(driver: SqlDriver, table: SqlTable, statements: SqlStatements): Documents {
  const { url } = driver;
  return {
    url,
    async read({ orgId, id }, signal) {
      const [row] = await driver.rows(statements.read, [orgId, id], signal);
      return row === undefined ? null : documentOf(url, table.idColumn, row);
    },
    insert: (document, signal) => driver.write(statements.insert, valuesOf(document), signal),
    update: (document, { revision, writeId }, signal) =>
      driver.write(statements.update, [...valuesOf(document), revision, writeId], signal),
    delete: ({ orgId, id }, { revision, writeId }, signal) =>
      driver.write(statements.delete, [orgId, id, revision, writeId], signal),
    async page({ orgId, after, limit }, signal) {
      const which = orgId === undefined ? (after ? 'after' : 'all') : after ? 'org after' : 'org';
      const org = orgId ?? after?.orgId;
      const values = [limit, ...(org === undefined ? [] : [org]), ...(after ? [after.id] : [])];
      const rows = await driver.rows(statements.page(which), values, signal);
      return rows.map((row) => scannedOf(url, table.idColumn, row));
    },
    identity: (signal) => driver.identity(table, signal),
    close: () => driver.close(),
  };
}
