import { crc32c } from '../core/crc32c.ts';
import { CorruptError, InputError } from '../core/errors.ts';
import type { Document, ScannedDocument, StoredDocument } from './sql-documents.ts';

/** Where the documents are. An operator may bring a table of his own: these columns, and (org, id) unique. */
export interface SqlTable {
  /** PostgreSQL only. */
  schema?: string | undefined;
  table: string;
  idColumn: string;
}

export interface SqlDialect {
  /** The name of parameter `n`, from 1 on. */
  parameter(n: number): string;
  integer: string;
  text: string;
  /** Makes a column compare by bytes, whatever the database's locale. */
  bytewise: string;
}

export interface SqlStatements {
  /** Runs once, where the schema is managed. */
  create: string;
  /** Fails where the table lacks a column. */
  probe: string;
  read: string;
  insert: string;
  update: string;
  delete: string;
  /** Parameters: limit; then org, then id, as far as given. */
  page(by: 'all' | 'after' | 'org' | 'org after'): string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;

/** The whole SQL of a table. Values always travel as parameters, and names are checked. */
export function statementsOf(table: SqlTable, dialect: SqlDialect): SqlStatements {
  const name = [table.schema, table.table]
    .flatMap((part) => (part === undefined ? [] : [quoted(part)]))
    .join('.');
  const id = quoted(table.idColumn);
  const p = dialect.parameter;
  const columns = `org_id, ${id}, revision, write_id, body, crc32c`;
  const [org, by] = [`org_id${dialect.bytewise}`, `${id}${dialect.bytewise}`];
  const where = {
    all: '',
    after: `WHERE (${org}, ${by}) > (${p(2)}, ${p(3)})`,
    org: `WHERE org_id = ${p(2)}`,
    'org after': `WHERE org_id = ${p(2)} AND ${by} > ${p(3)}`,
  };
  return {
    create: `CREATE TABLE IF NOT EXISTS ${name} (
      org_id ${dialect.text} NOT NULL,
      ${id} ${dialect.text} NOT NULL,
      revision ${dialect.integer} NOT NULL,
      write_id TEXT NOT NULL,
      body TEXT NOT NULL,
      crc32c ${dialect.integer} NOT NULL,
      PRIMARY KEY (org_id, ${id})
    )`,
    probe: `SELECT ${columns} FROM ${name} LIMIT 0`,
    read: `SELECT ${columns} FROM ${name} WHERE org_id = ${p(1)} AND ${id} = ${p(2)}`,
    insert: `INSERT INTO ${name} (${columns}) VALUES (${[1, 2, 3, 4, 5, 6].map(p).join(', ')})
      ON CONFLICT (org_id, ${id}) DO NOTHING`,
    update: `UPDATE ${name} SET revision = ${p(3)}, write_id = ${p(4)}, body = ${p(5)}, crc32c = ${p(6)}
      WHERE org_id = ${p(1)} AND ${id} = ${p(2)} AND revision = ${p(7)} AND write_id = ${p(8)}`,
    delete: `DELETE FROM ${name}
      WHERE org_id = ${p(1)} AND ${id} = ${p(2)} AND revision = ${p(3)} AND write_id = ${p(4)}`,
    page: (which) => `SELECT ${columns} FROM ${name} ${where[which]} ORDER BY ${org}, ${by} LIMIT ${p(1)}`,
  };
}

export function checkSqlName(what: string, name: string): string {
  if (NAME.test(name)) return name;
  throw new InputError(`${JSON.stringify(name)} is not a name for a ${what}.`, {
    hint: 'Use letters, digits and _, first no digit, at most 63 characters.',
  });
}

function quoted(name: string): string {
  return `"${checkSqlName('table, schema or column', name)}"`;
}

export function valuesOf({ orgId, id, revision, writeId, body }: Document): (string | number)[] {
  return [orgId, id, revision, writeId, body, bodyChecksum(body)];
}

/** A row as drivers give it, under the names of `columns`. Throws CorruptError (law 8). */
export function documentOf(where: string, idColumn: string, row: Record<string, unknown>): StoredDocument {
  const [orgId, id, writeId, body] = [row.org_id, row[idColumn], row.write_id, row.body];
  const key = `${where}/${orgId}/${id}`;
  const revision = Number(row.revision);
  if (
    typeof orgId !== 'string' ||
    typeof id !== 'string' ||
    typeof writeId !== 'string' ||
    typeof body !== 'string' ||
    !Number.isSafeInteger(revision)
  ) {
    throw new CorruptError(key, 'its columns do not have the types of a document');
  }
  if (bodyChecksum(body) !== Number(row.crc32c)) throw new CorruptError(key, 'its checksum is wrong');
  return { orgId, id, revision, writeId, body };
}

/** As `documentOf`, for scans: a corrupt row is listed, and the rest goes on. */
export function scannedOf(where: string, idColumn: string, row: Record<string, unknown>): ScannedDocument {
  const key = { orgId: String(row.org_id), id: String(row[idColumn]) };
  try {
    return { ...key, document: documentOf(where, idColumn, row) };
  } catch (problem) {
    if (problem instanceof CorruptError) return { ...key, problem };
    throw problem;
  }
}

function bodyChecksum(body: string): number {
  return crc32c(new TextEncoder().encode(body));
}
