import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { InputError } from '../core/errors.ts';

/** One record of a table, as it stands in the file and as an object of its columns. */
export interface FileRow {
  /** Of its first line, from 1 on. */
  line: number;
  /** As it stands there, without its line end. */
  raw: string;
  /** Null: it is none. */
  values: Record<string, unknown> | null;
}

export interface TableFile {
  /** The line that names the columns of a CSV file; null: NDJSON. */
  header: string | null;
  rows: AsyncIterable<FileRow>;
}

/** Opens a table: NDJSON where the first line begins with `{`, else CSV (RFC 4180) with a header. */
export async function openTable(path: string): Promise<TableFile> {
  await access(path, constants.R_OK).catch((cause) => {
    throw new InputError(`${path} cannot be read.`, { cause });
  });
  const records = recordsOf(path);
  const first = await records.next();
  if (first.done === true) throw new InputError(`${path} is empty.`);
  if (first.value.raw.trimStart().startsWith('{'))
    return { header: null, rows: jsonRows(first.value, records) };
  const names = cellsOf(first.value.raw).map((name) => name.trim());
  if (new Set(names).size < names.length || names.includes('')) {
    throw new InputError(`${path}: its first line does not name the columns.`, {
      hint: 'CSV begins with a header; NDJSON has one JSON object per line.',
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
    const value: unknown = JSON.parse(raw);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

/** Lines, joined while a quote is open; empty ones are left out. */
async function* recordsOf(path: string): AsyncGenerator<Located> {
  let line = 0;
  let open: Located | null = null;
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const text of lines) {
    line++;
    const record: Located =
      open === null ? { line, raw: text } : { line: open.line, raw: `${open.raw}\n${text}` };
    open = null;
    const isCsv = !record.raw.trimStart().startsWith('{');
    if (isCsv && (record.raw.split('"').length - 1) % 2 === 1) open = record;
    else if (record.raw.trim() !== '') yield record;
  }
  if (open !== null) yield open;
}

function cellsOf(raw: string): string[] {
  const cells: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^,]*))(,|$)/gy;
  for (let match = cell.exec(raw); match !== null; match = cell.exec(raw)) {
    cells.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'));
    if (match[3] === '') break;
  }
  return cells;
}
