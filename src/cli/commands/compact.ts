import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { openCompactor } from '../../../compactor/open.ts';
import {
  addCompactionOptions,
  type CompactionOptions,
  isProblem,
  orgsOf,
  shardOf,
  showPass,
  showResults,
} from '../compaction.ts';
import { withSession } from '../context.ts';
import { EXIT, Exit } from '../run.ts';

export function compactCommand(program: Command, signal: AbortSignal): void {
  addCompactionOptions(
    program.command('compact').description('fold the tails of orgs into their snapshots'),
  ).action(async (options: CompactionOptions, command: Command) => {
    const orgs = orgsOf(options);
    const shard = shardOf(options);
    const results = await withSession(command, signal, async ({ session, output }) => {
      const context = await openCompactor(session, options.codec);
      for (const one of options.org ?? []) await mustExist(context, one, signal);
      const { parallel, exportLegacy } = options;
      const passed = await showPass(context, output, { orgs, shard, parallel, exportLegacy, signal });
      output.value(passed);
      showResults(output, passed);
      return passed;
    });
    if (results.some(isProblem)) throw new Exit(EXIT.problem);
  });
}
