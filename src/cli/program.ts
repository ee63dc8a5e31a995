import { activeCommand } from './commands/active.ts';
import { compactCommand } from './commands/compact.ts';
import { demoCommand } from './commands/demo.ts';
import { importCommand } from './commands/import.ts';
import { inspectCommand } from './commands/inspect.ts';
import { lineageCommand } from './commands/lineage.ts';
import { runsCommand } from './commands/runs.ts';
import { tablesCommand } from './commands/tables.ts';
import { verifyCommand } from './commands/verify.ts';
import { newProgram } from './new-program.ts';
import { runProgram } from './run.ts';

const EXAMPLES = `
Examples:
  $ runfold demo
  $ export RUNFOLD_STORE=file:./catalog
  $ runfold import openlineage --org acme events.ndjson
  $ runfold compact
  $ runfold tables --org acme
  $ runfold runs --org acme --status FAILED,TIMED_OUT --since 24h
  $ runfold lineage --org acme --namespace warehouse --name mart.revenue --direction upstream
  $ runfold tables --org acme --json | jq '.[].name'

Exit codes: 0 fine, 1 a problem found, 2 wrong use.`;

/** The command line of the bin `runfold`. */
export function main(argv: readonly string[]): Promise<void> {
  return runProgram((signal) => {
    const program = newProgram('runfold', 'An org-scoped catalog of pipeline runs on object storage.');
    program.addHelpText('after', EXAMPLES);
    const add = [
      importCommand,
      compactCommand,
      tablesCommand,
      runsCommand,
      activeCommand,
      lineageCommand,
      inspectCommand,
      verifyCommand,
      demoCommand,
    ];
    for (const command of add) command(program, signal);
    return program;
  }, argv);
}
