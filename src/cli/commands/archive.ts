import type { Command } from 'commander';
import { archiveOrg } from '../../../compactor/archive.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { showArchived, showWaiting } from '../archived.ts';
import { withSession } from '../context.ts';
import { counted } from '../format.ts';
import { duration } from '../options.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import { EXIT, Exit } from '../run.ts';
import { addTraceOptions, type TraceOptions, traceLimitsOf } from '../trace-options.ts';

interface ArchiveCommandOptions extends OrgsOptions, TraceOptions {
  budget?: number;
  leftovers?: boolean;
  dryRun?: boolean;
}

export function archiveCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command('archive')
    .description('put the logs of ended runs into one verified object each');
  addTraceOptions(addOrgsOptions(command))
    .option('--budget <duration>', 'how long one org may take (default: 1m)', duration)
    .option('--leftovers', 'delete chunks that no live log explains, too, once they may go')
    .option('--dry-run', 'read and assemble it all, tell what would be done; change nothing')
    .action(async (options: ArchiveCommandOptions, command: Command) => {
      checkOrgsOptions(options);
      const limits = traceLimitsOf(options);
      const { budget: budgetMs, leftovers, dryRun = false } = options;
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session, undefined, limits);
        const orgs = await orgsOf(context, options, signal);
        const progress = output.progress('Archiving', (runs) => counted(runs, 'run'));
        const onProgress = (done: number, total: number) => progress.update(done, total);
        const { results, good } = await forEachOrg(output, orgs, signal, (orgId) =>
          archiveOrg(context, orgId, session.recorder, { budgetMs, leftovers, dryRun, onProgress, signal }),
        ).finally(() => progress.stop());
        output.value(results.map(({ org_id, ...rest }) => ({ org_id, dry_run: dryRun, ...rest })));
        for (const archived of good) showArchived(output, archived, { now: session.clock.now(), dryRun });
        showWaiting(output, good, session.clock.now());
        if (dryRun) output.line('Nothing was changed.');
        const bad = good.some(
          ({ failed, given_up, missing, work_renewed }) =>
            work_renewed || failed.length + given_up.length + missing.length > 0,
        );
        return good.length === results.length && !bad;
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}
