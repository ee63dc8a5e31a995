import type { Projection } from '../runs/projection.ts';
import { COLUMNS, type ColumnDefinition, readColumn } from './columns.ts';
import { formatDatasets } from './datasets.ts';

/**
 * RFC 4180, UTF-8, lines ended by CRLF. Null is nothing, the empty text is `""`; times are ISO 8601 UTC, tables the JSON
 * `[["namespace","name"],…]`. A text that a spreadsheet would take for a formula gets an apostrophe in front: who needs
 * texts as they are takes another format.
 */
export function csvHeader(): string {
  return `${COLUMNS.map(({ name }) => name).join(',')}\r\n`;
}

export function csvLine(row: Projection): string {
  return `${COLUMNS.map((definition: ColumnDefinition) => cell(definition, row)).join(',')}\r\n`;
}

function cell(definition: ColumnDefinition, row: Projection): string {
  const value = readColumn(definition, row);
  if (value === null || value === undefined) return '';
  if (definition.kind === 'flag') return value === 1 ? 'true' : 'false';
  if (definition.kind === 'time') return new Date(value as number).toISOString();
  if (typeof value === 'number') return String(value);
  return quoted(typeof value === 'string' ? value : formatDatasets(value as Projection['inputs']));
}

function quoted(text: string): string {
  const safe = /^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text;
  return safe === '' || /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
