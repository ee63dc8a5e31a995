import { activeCommand } from './commands/active.ts';
import { archiveCommand } from './commands/archive.ts';
import { artifactsCommand } from './commands/artifacts.ts';
import { backfillCommand } from './commands/backfill.ts';
import { collectCommand } from './commands/collect.ts';
import { compactCommand } from './commands/compact.ts';
import { deleteCommand } from './commands/delete.ts';
import { demoCommand } from './commands/demo.ts';
import { exportCommand } from './commands/export.ts';
import { historyCommand } from './commands/history.ts';
import { importCommand } from './commands/import.ts';
import { inspectCommand } from './commands/inspect.ts';
import { lineageCommand } from './commands/lineage.ts';
import { migrateCommand } from './commands/migrate.ts';
import { orphansCommand } from './commands/orphans.ts';
import { policyCommand } from './commands/policy.ts';
import { probeCommand } from './commands/probe.ts';
import { reconcileCommand } from './commands/reconcile.ts';
import { repairCommand } from './commands/repair.ts';
import { runsCommand } from './commands/runs.ts';
import { serveCommand } from './commands/serve.ts';
import { sweepCommand } from './commands/sweep.ts';
import { tablesCommand } from './commands/tables.ts';
import { tokenCommand } from './commands/token.ts';
import { traceCommand } from './commands/trace.ts';
import { upgradeCommand } from './commands/upgrade.ts';
import { verifyCommand } from './commands/verify.ts';
import { addVersion, newProgram } from './new-program.ts';
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
  $ runfold tables --org acme --as-of 24h
  $ runfold trace follow --org acme --run 0193-a
  $ runfold policy set --org acme --retain 90d --time-travel 7d --dry-run
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
      historyCommand,
      inspectCommand,
      verifyCommand,
      repairCommand,
      backfillCommand,
      reconcileCommand,
      migrateCommand,
      exportCommand,
      upgradeCommand,
      sweepCommand,
      artifactsCommand,
      archiveCommand,
      traceCommand,
      collectCommand,
      orphansCommand,
      policyCommand,
      deleteCommand,
      probeCommand,
      serveCommand,
      tokenCommand,
      demoCommand,
    ];
    for (const command of add) command(program, signal);
    return addVersion(program, argv);
  }, argv);
}
