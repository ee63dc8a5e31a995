import type { Lineage } from '../../catalog/lineage.ts';
import type { TableView } from '../../catalog/views.ts';
import type { Projection } from '../../runs/projection.ts';
import type { Dataset } from '../../runs/run.ts';
import { showRuns } from '../commands/runs.ts';
import { showTables } from '../commands/tables.ts';
import { bold, bytes, count, counted, dim, duration } from '../format.ts';
import { lineageTree } from '../lineage-tree.ts';
import type { Output } from '../output.ts';
import type { Cost } from './measure.ts';

const ACTIVE_SHOWN = 10;

export interface DemoResult {
  /** The org that was asked about; `runs` and `transitions` are those of both orgs. */
  org: string;
  runs: number;
  transitions: number;
  /** Runs of the org. */
  rows: number;
  /** Entries in the org's log, of which so many are not folded; the others wait to be collected. */
  log: { entries: number; unfolded: number };
  flatScan: Cost;
  flatScanOfOrg: Cost;
  refresh: Cost;
  equal: boolean;
  tables: TableView[];
  active: Projection[];
  showpiece: Dataset;
  lineage: Lineage;
}

export function jsonOf(result: DemoResult): unknown {
  const { flatScan, flatScanOfOrg, active, ...rest } = result;
  return {
    ...rest,
    flat_scan: flatScan,
    flat_scan_of_org: flatScanOfOrg,
    active: active.slice(0, ACTIVE_SHOWN),
  };
}

export function showResult(output: Output, result: DemoResult): void {
  const { org, runs, transitions, rows, tables, active, lineage, showpiece } = result;
  heading(output, `Which tables does ${org} have, and which run wrote each last?`);
  output.line(
    `${counted(runs, 'run')} of two orgs, ${counted(rows, 'run')} of ${org}; ${counted(transitions, 'transition')}.\n`,
  );
  showCosts(output, result);
  heading(output, `Tables of ${org}`);
  showTables(output, tables);
  heading(output, `Active runs of ${org}`);
  showRuns(output, active.slice(0, ACTIVE_SHOWN));
  if (active.length > ACTIVE_SHOWN) output.line(dim(`and ${count(active.length - ACTIVE_SHOWN)} more`));
  heading(output, 'Lineage');
  for (const line of lineageTree(showpiece, lineage)) output.line(line);
}

function showCosts(output: Output, result: DemoResult): void {
  const { flatScan, flatScanOfOrg, refresh, log, equal } = result;
  const rows: [name: string, of: (cost: Cost) => number, show: (value: number) => string][] = [
    ['time', ({ ms }) => ms, duration],
    ['requests', ({ requests }) => requests, count],
    ['rounds', ({ rounds }) => rounds, count],
    ['bytes read', (cost) => cost.bytes, bytes],
  ];
  output.table(
    [
      { head: '', cell: ([name]) => name },
      { head: 'FLAT SCAN, ALL ORGS', cell: ([, of, show]) => show(of(flatScan)), align: 'right' },
      { head: 'FLAT SCAN, THIS ORG', cell: ([, of, show]) => show(of(flatScanOfOrg)), align: 'right' },
      { head: 'RUNFOLD REFRESH', cell: ([, of, show]) => show(of(refresh)), align: 'right' },
      { head: 'ALL ORGS : RUNFOLD', cell: ([, of]) => ratio(of(flatScan), of(refresh)), align: 'right' },
      { head: 'THIS ORG : RUNFOLD', cell: ([, of]) => ratio(of(flatScanOfOrg), of(refresh)), align: 'right' },
    ],
    rows,
  );
  const notes = [
    'Counted below the retries, each on a store opened for it, once, in this process. No network: a file store.',
    'Flat scan: LIST of the canonical runs, GET of each, 64 at a time. Its rounds: one per page of the LIST, as a',
    'page needs the token of the one before, and one for all GETs, which need only the keys.',
    `Refresh: manifest, snapshot and the ${counted(log.entries, 'entry', 'entries')} of the log, ${count(log.unfolded)} of them not folded yet; the others`,
    'wait to be collected. Its rounds: as the SDK counts them.',
  ];
  output.line();
  for (const note of notes) output.line(dim(note));
  output.line(
    equal
      ? '\nAll three answers are the same, field by field.'
      : bold('\nTHE ANSWERS DIFFER: this is a defect in runfold.'),
  );
}

function ratio(a: number, b: number): string {
  if (b === 0) return '-';
  const value = a / b;
  return `${value >= 10 ? count(value) : value.toFixed(1)} : 1`;
}

function heading(output: Output, text: string): void {
  output.line(`\n${bold(text)}`);
}
