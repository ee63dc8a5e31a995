import { stripVTControlCharacters } from 'node:util';
import CliTable from 'cli-table3';
import { bold } from './format.ts';

export interface Column<T> {
  head: string;
  cell: (row: T) => string;
  align?: 'left' | 'right';
}

const GAP = 2;
const CELL_WIDTH_MIN = 8;
const BORDERLESS = Object.fromEntries(
  ['top', 'bottom', 'left', 'right']
    .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .concat('mid', 'mid-mid', 'middle')
    .map((name) => [name, '']),
);

/** Aligned columns with a head, one line per row. Wider than `widthMax`: the widest columns are cut. */
export function renderTable<T>(columns: readonly Column<T>[], rows: readonly T[], widthMax: number): string {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  const heads = columns.map(({ head }) => head);
  const widths = fit(
    heads.map((head, i) => Math.max(head.length, ...cells.map((row) => widthOf(row[i]!)))),
    widthMax,
  );
  const table = new CliTable({
    head: heads.map((head) => bold(head)),
    chars: BORDERLESS,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP },
    colWidths: widths.map((width) => width + GAP),
    colAligns: columns.map(({ align = 'left' }) => align),
  });
  table.push(...cells);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function widthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Takes from the widest column until the line fits, or no column can give any more. */
function fit(natural: readonly number[], widthMax: number): number[] {
  const widths = [...natural];
  const total = () => widths.reduce((sum, width) => sum + width + GAP, -GAP);
  while (total() > widthMax) {
    const widest = widths.indexOf(Math.max(...widths));
    if (widths[widest]! <= CELL_WIDTH_MIN) break;
    widths[widest]!--;
  }
  return widths;
}
