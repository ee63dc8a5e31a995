import type { Command } from 'commander';
import { withSession } from '../context.ts';
import { counted } from '../format.ts';
import { orgOption } from '../options.ts';
import { addTimeTravel, openView, type TimeTravelOptions } from '../time-travel.ts';
import { showRuns } from './runs.ts';

export function activeCommand(program: Command, signal: AbortSignal): void {
  addTimeTravel(
    program
      .command('active')
      .description('the runs of an org that have not ended, newest first')
      .addOption(orgOption())
      .option('--queue <queue>', 'runs of this queue'),
  ).action(async ({ queue, ...options }: TimeTravelOptions & { queue?: string }, command: Command) => {
    await withSession(command, signal, async (context) => {
      const { output } = context;
      const { org, label } = await openView(context, options);
      const runs = org.active(queue === undefined ? {} : { queue });
      await output.values(runs);
      showRuns(output, runs);
      output.line(`${runs.length > 0 ? '\n' : ''}${counted(runs.length, 'active run')} of ${label}`);
    });
  });
}
