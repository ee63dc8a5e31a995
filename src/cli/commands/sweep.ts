import type { Command } from 'commander';
import { openCompactor } from '../../../compactor/open.ts';
import { type Swept, sweepOrg } from '../../../compactor/sweep.ts';
import { withSession } from '../context.ts';
import { count, plain } from '../format.ts';
import { duration } from '../options.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

interface SweepCommandOptions extends OrgsOptions {
  age?: number;
  dryRun?: boolean;
}

export function sweepCommand(program: Command, signal: AbortSignal): void {
  addOrgsOptions(
    program
      .command('sweep')
      .description('look after active runs whose callers are gone: lost records, time-outs'),
  )
    .option('--age <duration>', 'look at rows that changed longer ago than this (default: 3m)', duration)
    .option('--dry-run', 'tell what would be done; change nothing')
    .action(async (options: SweepCommandOptions, command: Command) => {
      checkOrgsOptions(options);
      const { age: ageMs, dryRun = false } = options;
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        const orgs = await orgsOf(context, options, signal);
        const { results, good } = await forEachOrg(output, orgs, signal, (orgId) =>
          sweepOrg(context, orgId, session.recorder, { ageMs, dryRun, signal }),
        );
        output.value(results.map(({ org_id, ...rest }) => ({ org_id, dry_run: dryRun, ...rest })));
        show(output, good, dryRun);
        return good.length === results.length && good.every(({ missing }) => missing.length === 0);
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

function show(output: Output, swept: readonly Swept[], dryRun: boolean): void {
  if (swept.length === 0) {
    output.line('There is no org.');
    return;
  }
  output.table(
    [
      { head: 'ORG', cell: ({ org_id }) => org_id },
      { head: 'ACTIVE', cell: ({ active }) => count(active), align: 'right' },
      { head: 'LOOKED AT', cell: ({ looked }) => count(looked), align: 'right' },
      { head: 'REPAIRED', cell: ({ repaired }) => count(repaired.length), align: 'right' },
      { head: 'TIMED OUT', cell: ({ timed_out }) => count(timed_out.length), align: 'right' },
      { head: 'MISSING', cell: ({ missing }) => count(missing.length), align: 'right' },
    ],
    swept,
  );
  for (const { org_id, missing } of swept)
    for (const runId of missing)
      output.note(`missing: org ${org_id}: run ${plain(runId)} has no canonical run`);
  if (dryRun) output.line('\nNothing was changed.');
}
