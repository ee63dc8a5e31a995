import { type Command, Option } from 'commander';
import type { RunFilter } from '../../catalog/views.ts';
import { type Projection, tablesOf } from '../../runs/projection.ts';
import type { RunStatus } from '../../runs/run.ts';
import { EXPORT_FORMATS, type ExportFormat, exportRuns } from '../../snapshot/export.ts';
import { withSession } from '../context.ts';
import { count, counted, dim, plain, status } from '../format.ts';
import { orgOption, positiveInteger, statusOption, time } from '../options.ts';
import type { Output } from '../output.ts';
import { addTimeTravel, openView, type TimeTravelOptions } from '../time-travel.ts';
import { iso } from '../times.ts';

/** Rows that people get without --limit; the line below the table says how many there are. */
const SHOWN_MAX = 50;

interface RunsOptions extends TimeTravelOptions {
  namespace?: string;
  name?: string;
  status?: RunStatus[];
  kind?: string;
  queue?: string;
  reference?: string;
  format?: ExportFormat;
  since?: number;
  until?: number;
  limit?: number;
}

export function runsCommand(program: Command, signal: AbortSignal): void {
  addTimeTravel(
    program
      .command('runs')
      .description('the runs of an org, newest first')
      .addOption(orgOption())
      .option('--namespace <namespace>', 'runs that write a table of this namespace')
      .option('--name <name>', 'runs that write a table of this name')
      .addOption(statusOption())
      .option('--kind <kind>', 'runs of this kind')
      .option('--reference <id>', 'runs of this reference')
      .option('--queue <queue>', 'runs of this queue')
      .option('--since <time>', 'created then or later: ISO-8601, or an age such as 24h', time)
      .option('--until <time>', 'created before then', time)
      .option('--limit <n>', `at most so many (default: all with --json, else ${SHOWN_MAX})`, positiveInteger)
      .addOption(
        new Option('--format <format>', 'write a file to standard output instead').choices(EXPORT_FORMATS),
      ),
  ).action(async (options: RunsOptions, command: Command) => {
    await withSession(command, signal, async (context) => {
      const { output } = context;
      const { org, label } = await openView(context, options);
      const filter = filterOf(options);
      if (options.format !== undefined) {
        const runs = org.runs(filter, { signal });
        return output.bytes(exportRuns(options.format, org.orgId, runs), options.format);
      }
      if (output.json) return output.values(org.runs(filter, { signal }));
      const limit = options.limit ?? SHOWN_MAX;
      const shown: Projection[] = [];
      for await (const run of org.runs({ ...filter, limit: limit + 1 }, { signal })) shown.push(run);
      if (shown.length === 0) return output.line(`There is no such run of ${label}.`);
      showRuns(output, shown.slice(0, limit));
      // How many more there are only history could tell.
      output.line(
        shown.length > limit
          ? `\nThe newest ${counted(limit, 'run')} of ${label} (--limit shows more)`
          : `\n${counted(shown.length, 'run')} of ${label}`,
      );
    });
  });
}

function filterOf(options: RunsOptions): RunFilter {
  const { namespace, name, status, kind, reference: reference_id, queue, since, until, limit } = options;
  const table = namespace === undefined && name === undefined ? undefined : { namespace, name };
  return { table, status, kind, reference_id, queue, since, until, limit };
}

export function showRuns(output: Output, runs: readonly Projection[]): void {
  if (runs.length === 0) return;
  output.table(
    [
      { head: 'RUN', cell: ({ run_id }) => run_id },
      { head: 'STATUS', cell: (run) => status(run.status) },
      { head: 'UPDATED', cell: ({ updated_at }) => `${iso(updated_at).slice(0, 19)}Z` },
      { head: 'KIND', cell: ({ kind }) => plain(kind) },
      { head: 'QUEUE', cell: ({ queue }) => plain(queue ?? '-') },
      { head: 'TRY', cell: ({ attempt }) => count(attempt), align: 'right' },
      { head: 'TASK', cell: ({ latest_task: task }) => (task === null ? '-' : plain(task.key)) },
      { head: 'WRITES', cell: (run) => writes(run) },
      { head: 'ERROR', cell: ({ error }) => plain(error?.message.slice(0, 200) ?? '') },
    ],
    runs,
  );
}

function writes(run: Projection): string {
  const tables = tablesOf(run);
  const more = tables.length > 1 ? dim(` +${count(tables.length - 1)}`) : '';
  return tables.length === 0 ? '-' : `${plain(tables.at(-1)!.name)}${more}`;
}
