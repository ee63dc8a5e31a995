import { once } from 'node:events';
import { InputError } from '../core/errors.ts';
import type { ExportFormat } from '../snapshot/export.ts';
import { type Progress, startProgress } from './progress.ts';
import { type Column, renderTable } from './table.ts';
import { isoTimes } from './times.ts';

/**
 * Where a command's words go. With `--json` standard output carries JSON and nothing else; people's lines are then
 * not written at all. Progress and messages go to standard error.
 */
export class Output {
  readonly json: boolean;

  constructor(json: boolean) {
    this.json = json;
  }

  /** One JSON value with ISO times, on one line: with `--json` only. */
  value(value: unknown): void {
    if (this.json) process.stdout.write(`${JSON.stringify(isoTimes(value))}\n`);
  }

  /** A JSON array, written as it comes: a million rows need no million rows of memory. */
  async values(values: AsyncIterable<unknown> | Iterable<unknown>): Promise<void> {
    if (!this.json) return;
    let separator = '[';
    for await (const value of values) {
      const flowing = process.stdout.write(`${separator}${JSON.stringify(isoTimes(value))}`);
      separator = ',\n';
      if (!flowing) await once(process.stdout, 'drain');
    }
    process.stdout.write(separator === '[' ? '[]\n' : ']\n');
  }

  /** A file on standard output, written as it is made. Throws InputError where a terminal would get what is no text. */
  async bytes(pieces: AsyncIterable<Uint8Array>, format: ExportFormat): Promise<void> {
    if (this.json)
      throw new InputError(`--json and --format ${format} exclude each other.`, { hint: 'Leave one out.' });
    if (process.stdout.isTTY && (format === 'parquet' || format === 'arrow')) {
      throw new InputError(`A terminal cannot show ${format}.`, { hint: `Add: > runs.${format}` });
    }
    for await (const piece of pieces) {
      if (!process.stdout.write(piece)) await once(process.stdout, 'drain');
    }
  }

  /** A line for people: without `--json` only. */
  line(text = ''): void {
    if (!this.json) process.stdout.write(`${text}\n`);
  }

  /** A table for people, cut to the terminal's width; whole where the output is no terminal. */
  table<T>(columns: readonly Column<T>[], rows: readonly T[]): void {
    if (this.json) return;
    const width = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY;
    this.line(renderTable(columns, rows, width));
  }

  /** A line beside the output: on standard error; with `--json` only where that is a terminal. */
  note(text: string): void {
    if (!this.json || process.stderr.isTTY) process.stderr.write(`${text}\n`);
  }

  progress(label: string, show: (value: number) => string): Progress {
    return startProgress(label, show);
  }
}
