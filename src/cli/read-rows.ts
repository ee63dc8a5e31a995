import { createReadStream } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';
import { InputError } from '../core/errors.ts';

/** One record of a table, as it stands in the file and as an object of its columns. */
export interface FileRow {
  /** Of its first line, from 1 on. */
  line: number;
  /** As it stands there, without its last line feed. */
  raw: string;
  /** Null: it is none. */
  values: Record<string, unknown> | null;
}

export interface TableFile {
  /** The line that names the columns of a CSV file, as it stands there; null: NDJSON. */
  header: string | null;
  rows: AsyncIterable<FileRow>;
}

/** A quote that is never closed must not make one record of all that follows. */
const RECORD_LENGTH_MAX = 1024 * 1024;
const BOM = '\ufeff';

/**
 * Opens a table: NDJSON where the first line begins with `{`, else CSV (RFC 4180) with a header; UTF-8, with a byte
 * order mark or without. Throws InputError where it is none, or has no column of those that every row must have.
 */
export async function openTable(path: string, required: readonly string[]): Promise<TableFile> {
  await access(path, constants.R_OK).catch((cause) => {
    throw new InputError(`${path} cannot be read.`, { cause });
  });
  if ((await stat(path)).isDirectory()) {
    throw new InputError(`${path} is a directory.`, { hint: 'Name the file that holds the table.' });
  }
  const records = recordsOf(path);
  const first = await records.next();
  if (first.done === true) throw new InputError(`${path} is empty.`);
  if (isJson(first.value.raw)) return { header: null, rows: jsonRows(first.value, records) };
  const names = cellsOf(first.value.raw).map((name) => name.trim());
  if (new Set(names).size < names.length || names.includes('')) {
    throw new InputError(`${path}: its first line does not name the columns.`, {
      hint: 'CSV begins with a header; NDJSON has one JSON object per line.',
    });
  }
  const missing = required.filter((name) => !names.includes(name));
  if (missing.length > 0) {
    throw new InputError(`${path} has no column ${missing.join(' and none ')}.`, {
      hint: `Its columns are ${names.join(', ').slice(0, 200)}.`,
    });
  }
  return { header: first.value.raw, rows: csvRows(names, records) };
}

type Located = Pick<FileRow, 'line' | 'raw'>;

async function* jsonRows(first: Located, rest: AsyncGenerator<Located>): AsyncGenerator<FileRow> {
  yield { ...first, values: objectOf(first.raw) };
  for await (const record of rest) yield { ...record, values: objectOf(record.raw) };
}

async function* csvRows(names: readonly string[], records: AsyncGenerator<Located>): AsyncGenerator<FileRow> {
  for await (const record of records) {
    const cells = cellsOf(record.raw);
    const values =
      cells.length === names.length ? Object.fromEntries(names.map((name, i) => [name, cells[i]])) : null;
    yield { ...record, values };
  }
}

function objectOf(raw: string): FileRow['values'] {
  try {
    const value: unknown = JSON.parse(withoutMark(raw));
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

/** Lines, in CSV joined while a quote is open; empty ones are left out. The first tells what it is. */
async function* recordsOf(path: string): AsyncGenerator<Located> {
  let isCsv: boolean | null = null;
  let open: Located | null = null;
  let isQuoted = false;
  for await (const { line, raw } of linesOf(path)) {
    isCsv ??= raw.trim() === '' ? null : !isJson(raw);
    if (isCsv === true && (raw.split('"').length - 1) % 2 === 1) isQuoted = !isQuoted;
    open = open === null ? { line, raw } : { line: open.line, raw: `${open.raw}\n${raw}` };
    if (open.raw.length > RECORD_LENGTH_MAX) throw tooLong(path, open.line);
    if (isQuoted) continue;
    if (open.raw.trim() !== '') yield open;
    open = null;
  }
  if (open !== null) yield open;
}

/** Without their line feeds; a carriage return before one stays. */
async function* linesOf(path: string): AsyncGenerator<Located> {
  let line = 1;
  let rest = '';
  for await (const piece of createReadStream(path, { encoding: 'utf8' }) as AsyncIterable<string>) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    if (rest.length > RECORD_LENGTH_MAX) throw tooLong(path, line);
    for (const raw of lines) yield { line: line++, raw };
  }
  if (rest !== '') yield { line, raw: rest };
}

function tooLong(path: string, line: number): InputError {
  return new InputError(`${path}:${line}: a record that begins here does not end within 1 MiB.`, {
    hint: 'Look for a quote that is not closed.',
  });
}

/** A purge keeps it: it belongs to the file. */
function withoutMark(raw: string): string {
  return raw.startsWith(BOM) ? raw.slice(BOM.length) : raw;
}

function isJson(raw: string): boolean {
  return raw.trimStart().startsWith('{');
}

function cellsOf(record: string): string[] {
  const raw = withoutMark(record.endsWith('\r') ? record.slice(0, -1) : record);
  const cells: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^,]*))(,|$)/gy;
  for (let match = cell.exec(raw); match !== null; match = cell.exec(raw)) {
    cells.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'));
    if (match[3] === '') break;
  }
  return cells;
}
