import type { Command } from 'commander';
import type { TableView } from '../../catalog/views.ts';
import { systemClock } from '../../core/clock.ts';
import { withSession } from '../context.ts';
import { ago, count, counted, plain, status } from '../format.ts';
import { orgOption } from '../options.ts';
import type { Output } from '../output.ts';
import { addTimeTravel, openView, type TimeTravelOptions } from '../time-travel.ts';

export function tablesCommand(program: Command, signal: AbortSignal): void {
  addTimeTravel(
    program
      .command('tables')
      .description('every table of an org and who wrote it last')
      .addOption(orgOption()),
  ).action(async (options: TimeTravelOptions, command: Command) => {
    await withSession(command, signal, async (context) => {
      const { output } = context;
      const { org, label } = await openView(context, options);
      const tables = org.tables();
      await output.values(tables);
      if (tables.length > 0) showTables(output, tables);
      output.line(tables.length > 0 ? '' : `There is no table of ${label}: no run has written one.`);
      if (tables.length > 0) output.line(`${counted(tables.length, 'table')} of ${label}`);
    });
  });
}

export function showTables(output: Output, tables: readonly TableView[]): void {
  const now = systemClock.now();
  output.table(
    [
      { head: 'NAMESPACE', cell: ({ namespace }) => plain(namespace) },
      { head: 'NAME', cell: ({ name }) => plain(name) },
      { head: 'LATEST RUN', cell: ({ latest_run }) => latest_run.run_id },
      { head: 'STATUS', cell: ({ latest_run }) => status(latest_run.status) },
      { head: 'UPDATED', cell: ({ latest_run }) => ago(latest_run.updated_at, now), align: 'right' },
      {
        head: 'LAST SUCCESS',
        cell: ({ latest_success }) => (latest_success === null ? '-' : ago(latest_success.updated_at, now)),
        align: 'right',
      },
      { head: 'UP', cell: ({ upstream }) => count(upstream), align: 'right' },
      { head: 'DOWN', cell: ({ downstream }) => count(downstream), align: 'right' },
    ],
    tables,
  );
}
