import type { Projection } from '../runs/projection.ts';
import { csvHeader, csvLine } from './csv.ts';
import type { Rows } from './rows.ts';
import { RowsBuilder } from './rows.ts';

export const EXPORT_FORMATS = ['parquet', 'arrow', 'ndjson', 'csv'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export const EXPORT_TYPES: Readonly<Record<ExportFormat, string>> = {
  parquet: 'application/vnd.apache.parquet',
  arrow: 'application/vnd.apache.arrow.stream',
  ndjson: 'application/x-ndjson',
  csv: 'text/csv; charset=utf-8; header=present',
};

export interface ExportOptions {
  /** Rows of one piece: a Parquet row group, an Arrow batch. */
  pieceRows?: number;
  onPiece?: (rows: number) => void;
}

/**
 * Rows whose bytes are made at once: what is held in memory, and for how long nothing else runs. A Parquet footer says
 * something of every row group, all in memory until the end: those are larger.
 */
const PIECE_ROWS: Readonly<Record<ExportFormat, number>> = {
  parquet: 10_000,
  arrow: 4_000,
  ndjson: 4_000,
  csv: 4_000,
};

/**
 * The runs as one file, in pieces, each made when it is asked for; columns as in docs/SCHEMA.md, in NDJSON the projection.
 * Memory holds one piece. A reader that stops early ends the reading of the runs, too.
 */
export async function* exportRuns(
  format: ExportFormat,
  orgId: string,
  runs: AsyncIterable<Projection>,
  { pieceRows = PIECE_ROWS[format], onPiece }: ExportOptions = {},
): AsyncGenerator<Uint8Array, void, void> {
  const encoder = await encoderOf(format, orgId);
  let piece: Projection[] = [];
  for await (const run of runs) {
    piece.push(run);
    if (piece.length < pieceRows) continue;
    onPiece?.(piece.length);
    yield encoder.push(piece);
    piece = [];
  }
  onPiece?.(piece.length);
  yield encoder.push(piece);
  yield encoder.finish();
}

interface Encoder {
  /** Called at least once, the last time perhaps with none. */
  push(runs: readonly Projection[]): Uint8Array;
  finish(): Uint8Array;
}

/** Arrow and Parquet load when they are asked for. */
async function encoderOf(format: ExportFormat, orgId: string): Promise<Encoder> {
  if (format === 'csv') return new TextEncoding(csvHeader(), csvLine);
  if (format === 'ndjson') return new TextEncoding('', (run) => `${JSON.stringify(run)}\n`);
  if (format === 'arrow') {
    const stream = new (await import('./arrow.ts')).ArrowStream();
    return { push: (runs) => stream.push(rowsOf(orgId, runs)), finish: () => stream.finish() };
  }
  const { ParquetFile } = await import('./codec-hyparquet.ts');
  const file = new ParquetFile(orgId);
  return {
    push(runs) {
      file.push(rowsOf(orgId, runs));
      return file.take();
    },
    finish: () => file.finish(),
  };
}

class TextEncoding implements Encoder {
  readonly #encoder = new TextEncoder();
  readonly #line: (run: Projection) => string;
  #header: string;

  constructor(header: string, line: (run: Projection) => string) {
    this.#header = header;
    this.#line = line;
  }

  push(runs: readonly Projection[]): Uint8Array {
    const header = this.#header;
    this.#header = '';
    return this.#encoder.encode(header + runs.map(this.#line).join(''));
  }

  finish(): Uint8Array {
    return new Uint8Array(0);
  }
}

function rowsOf(orgId: string, runs: readonly Projection[]): Rows {
  const builder = new RowsBuilder(orgId, runs.length);
  for (const run of runs) builder.add(run);
  return builder.build();
}
