import { InputError } from '../src/core/errors.ts';
import { type Kept, readKept } from './support/kept.ts';
import { type Report, type ScenarioOptions, thousands } from './support/report.ts';

const FORMS = ['all', 'some', 'readme'] as const;
type Form = (typeof FORMS)[number];

/** What stands for the rest where there is no room for all scenarios, as their names begin. */
const SOME = [
  '1 000 runs in all, 1 000 of the org',
  '1 000 000 runs in all',
  'the org has 10 000 of',
  'the org has 100 000 of',
  '5 000 entries',
  '20 000 runs of 1 000 tables',
];

/**
 * A kept result as Markdown: table RESULT.json [all | some | readme]. `some`: of a cold refresh, the scenarios that
 * stand for the rest. `readme`: those, a line per rival and a column per scenario.
 */
export async function run({ args }: ScenarioOptions): Promise<Report> {
  const [path, form = 'all', ...more] = args;
  if (path === undefined || !isForm(form) || more.length > 0) {
    throw new InputError('One result, and one form of its table.', {
      hint: `npm run bench -- table RESULT.json [${FORMS.join(' | ')}]`,
    });
  }
  const kept = readKept(path);
  const text = form === 'readme' ? compact(kept, path) : whole(kept, path, form);
  return { title: '', head: [], rows: [], notes: [], data: { markdown: text }, text };
}

function whole({ head, rows, scenario }: Kept, path: string, form: Form): string {
  if (head === undefined || rows === undefined) {
    throw new InputError(`${path} has no table.`, {
      hint: `Take "${scenario}" again with this version: --out FILE.json.`,
    });
  }
  let of = '';
  const shown = rows.filter(([name]) => {
    // A line without a scenario is of the one above.
    of = name || of;
    return form === 'all' || isShown(scenario, of);
  });
  return markdown(head, shown);
}

interface Line {
  scenario: string;
  rival: string;
  rows: number;
  ms: { median: number };
  dollarsPerMillion: number | null;
}

/** Milliseconds and dollars, the least in bold of those in a column who give all rows, whoever has it. */
function compact({ scenario, data }: Kept, path: string): string {
  const lines = (data as { results?: Line[] }).results ?? [];
  const isComparison = lines.every(
    ({ rival, ms }) => typeof rival === 'string' && typeof ms?.median === 'number',
  );
  if (lines.length === 0 || !isComparison) {
    throw new InputError(`${path} is of "${scenario}", which compares no rivals by milliseconds.`, {
      hint: 'A short table is made of cold-refresh and rivals; say all for any other.',
    });
  }
  const of = lines.filter((line) => isShown(scenario, line.scenario));
  if (of.length === 0) {
    throw new InputError(`${path} has none of the scenarios of the short table: it is a quick one.`, {
      hint: 'Say all, or take it again without --quick.',
    });
  }
  const scenarios = [...new Set(of.map((line) => line.scenario))];
  const rivals = [...new Set(of.map(({ rival }) => rival))];
  const at = (rival: string, name: string) =>
    of.find((line) => line.rival === rival && line.scenario === name);
  const rows = rivals.map((rival) => [
    rival,
    ...scenarios.map((name) => {
      const line = at(rival, name);
      if (line === undefined) return 'not run';
      const column = of.filter((other) => other.scenario === name);
      const most = Math.max(...column.map((other) => other.rows));
      // Who answers from the newest runs alone is not as quick as who gives them all: it is said, and is not bold.
      const fewer = line.rows < most;
      const rows = fewer ? `, ${thousands(line.rows)} rows` : '';
      const whole = fewer ? [] : column.filter((other) => other.rows === most);
      const ms = shown(
        line.ms.median,
        whole.map((other) => other.ms.median),
        showMs,
      );
      if (line.dollarsPerMillion === null) return `${ms}, a server${rows}`;
      const dollars = whole.flatMap((other) => other.dollarsPerMillion ?? []);
      return `${ms}, ${shown(line.dollarsPerMillion, dollars, showDollars)}${rows}`;
    }),
  ]);
  return `${markdown(['median ms, $ per 10⁶ refreshes', ...scenarios], rows)}
Bold is the least of a column among those who answer from all rows. Rows are said where somebody answers from fewer.
`;
}

function isForm(form: string): form is Form {
  return (FORMS as readonly string[]).includes(form);
}

function isShown(scenario: string, name: string): boolean {
  return scenario !== 'cold-refresh' || SOME.some((start) => name.startsWith(start));
}

function shown(value: number, all: readonly number[], show: (value: number) => string): string {
  // What reads the same is the same.
  return show(value) === show(Math.min(...all)) ? `**${show(value)}**` : show(value);
}

function showMs(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : thousands(ms);
}

function showDollars(dollars: number): string {
  return `$${dollars < 100 ? dollars.toFixed(2) : thousands(dollars)}`;
}

/** The first two columns are names where the second holds no figures. */
function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const isName = (column: number) =>
    column === 0 || (column === 1 && rows.every((row) => !/^[\d*<≥]/.test(row[1]!)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const rule = `|${head.map((_, i) => (isName(i) ? '---' : '---:')).join('|')}|`;
  return `${[line(head), rule, ...rows.map(line)].join('\n')}\n`;
}
