import type { Command } from 'commander';
import { checkId } from '../../core/ids.ts';
import { lifecycleError, transition } from '../../runs/lifecycle.ts';
import type { Recorded } from '../../runs/recorder.ts';
import type { Session } from '../../session.ts';
import { withSession } from '../context.ts';
import { orgOption } from '../options.ts';

interface DeleteOptions {
  org: string;
  run: string;
  dryRun?: boolean;
}

export function deleteCommand(program: Command, signal: AbortSignal): void {
  program
    .command('delete')
    .description('delete one run that has ended: canonical run, row, logs, and what history holds of it')
    .addOption(orgOption())
    .requiredOption('--run <id>', 'the run', (value) => checkId('run id', value))
    .option('--dry-run', 'tell whether it would be deleted; change nothing')
    .action(async ({ org, run: runId, dryRun = false }: DeleteOptions, command: Command) => {
      await withSession(command, signal, async ({ session, output }) => {
        const { run, changed } = dryRun
          ? await previewDelete(session, org, runId, signal)
          : await session.recorder.apply(org, runId, { type: 'delete' }, signal);
        // Logs go at once; what fails here the compactor does when it removes the stub.
        if (!dryRun) await session.traces.remove(run, signal);
        const { deleted_at } = run;
        output.value({ org_id: org, run_id: runId, dry_run: dryRun, deleted: changed, deleted_at });
        const verb = dryRun ? 'would be deleted' : 'is deleted';
        output.line(`Run ${runId} of org ${org} ${changed ? verb : 'was deleted before'}.`);
      });
    });
}

/** As the recorder would decide, on the run as it is now. */
async function previewDelete(
  { runs, recorder }: Session,
  orgId: string,
  runId: string,
  signal: AbortSignal,
): Promise<Recorded> {
  const run = (await runs.read(orgId, runId, signal))?.run ?? null;
  const answer = transition(run, { type: 'delete' }, recorder.now());
  if (answer.outcome === 'refused') throw lifecycleError(answer, orgId, runId, run);
  return { run: run as Recorded['run'], changed: answer.outcome === 'changed' };
}
