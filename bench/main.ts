import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { errorMessage } from '../src/core/errors.ts';
import type { Scenario } from './support/report.ts';

/** Every benchmark: a new one is a line here and a module that exports `run`. */
const SCENARIOS: Record<string, { about: string; load(): Promise<{ run: Scenario }> }> = {
  codec: {
    about: 'Parquet codecs: encode, decode and merge of a part, and its size',
    load: () => import('./codec.ts'),
  },
};

const HELP = `Usage: npm run bench -- <scenario> [--json] [--quick]

Scenarios:
${Object.entries(SCENARIOS)
  .map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`)
  .join('\n')}

  --json     the report as JSON on stdout, for keeping
  --quick    smaller and fewer: to see that it works, not to quote
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'boolean' }, quick: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  const [name] = positionals;
  const scenario = name === undefined ? undefined : SCENARIOS[name];
  if (values.help === true || scenario === undefined) {
    const asked = values.help === true || name === undefined;
    (asked ? process.stdout : process.stderr).write(asked ? HELP : `No scenario "${name}".\n\n${HELP}`);
    return asked ? 0 : 2;
  }
  const { run } = await scenario.load();
  const report = await run({ quick: values.quick ?? false });
  const machine = `${process.platform}, ${cpus().length} cores, Node ${process.versions.node}`;
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify({ scenario: name, machine, data: report.data }, null, 2)}\n`);
    return 0;
  }
  const table = new Table({
    head: report.head,
    colAligns: report.head.map((_, i) => (i === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  table.push(...report.rows);
  process.stdout.write(
    `${report.title} (${machine})\n${table}\n${report.notes.map((note) => `${note}\n`).join('')}`,
  );
  return 0;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${errorMessage(error)}\n`);
    process.exitCode = 1;
  },
);
