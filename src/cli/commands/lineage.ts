import { type Command, Option } from 'commander';
import type { LineageDirection } from '../../catalog/lineage.ts';
import { withSession } from '../context.ts';
import { counted, plain } from '../format.ts';
import { lineageTree } from '../lineage-tree.ts';
import { orgOption, positiveInteger } from '../options.ts';
import { addTimeTravel, openView, type TimeTravelOptions } from '../time-travel.ts';

interface LineageOptions extends TimeTravelOptions {
  namespace: string;
  name: string;
  direction: LineageDirection;
  depth?: number;
}

export function lineageCommand(program: Command, signal: AbortSignal): void {
  addTimeTravel(
    program
      .command('lineage')
      .description('what feeds a table and what it feeds')
      .addOption(orgOption())
      .requiredOption('--namespace <namespace>', 'of the table')
      .requiredOption('--name <name>', 'of the table')
      .addOption(
        new Option('--direction <direction>', 'where to look')
          .choices(['upstream', 'downstream', 'both'])
          .default('both'),
      )
      .option('--depth <k>', 'at most so many runs away (default: as far as it goes)', positiveInteger),
  ).action(async (options: LineageOptions, command: Command) => {
    const { namespace, name, direction, depth } = options;
    await withSession(command, signal, async (context) => {
      const { output } = context;
      const { org, label } = await openView(context, options);
      const table = { namespace, name };
      const lineage = org.lineage({ table, direction, depth });
      output.value(lineage);
      if (lineage.nodes.length === 0) {
        return output.line(`No run of ${label} has read or written ${plain(namespace)} ${plain(name)}.`);
      }
      for (const line of lineageTree(table, lineage)) output.line(line);
      const { nodes, edges } = lineage;
      output.line(`\n${counted(nodes.length, 'table')}, ${counted(edges.length, 'edge')}`);
    });
  });
}
