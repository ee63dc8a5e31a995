import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { type Repaired, repairOrg } from '../../../compactor/repair.ts';
import { reasonFor } from '../../core/errors.ts';
import { type CommandContext, withSession } from '../context.ts';
import { count, counted, plain } from '../format.ts';
import { orgOption } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

interface RepairCommandOptions {
  org: string;
  dryRun?: boolean;
  force?: boolean;
}

export function repairCommand(program: Command, signal: AbortSignal): void {
  program
    .command('repair')
    .description("build an org's snapshot anew from its canonical runs, while writers go on")
    .addOption(orgOption())
    .option('--dry-run', 'read everything and tell what would be done; change nothing')
    .option('--force', 'empty the catalog of an org that has no canonical run left')
    .action(async (options: RepairCommandOptions, command: Command) => {
      const repaired = await withSession(command, signal, (context) => repair(context, options));
      if (repaired.unreadable.length > 0) throw new Exit(EXIT.problem);
    });
}

async function repair(
  { session, output, signal }: CommandContext,
  { org: orgId, dryRun = false, force }: RepairCommandOptions,
): Promise<Repaired> {
  const context = await openCompactor(session);
  await mustExist(context, orgId, signal);
  const progress = output.progress('Reading canonical runs', (runs) => counted(runs, 'run'));
  try {
    const repaired = await repairOrg(context, orgId, {
      dryRun,
      force,
      signal,
      onProgress: (runs) => progress.update(runs),
    });
    progress.stop();
    output.value({ dry_run: dryRun, ...repaired });
    show(output, repaired, dryRun);
    return repaired;
  } finally {
    progress.stop();
  }
}

function show(
  output: Output,
  { org_id, version, runs, released, discarded, lost_versions, unreadable }: Repaired,
  dryRun: boolean,
) {
  for (const key of released) output.line(`released: ${key}`);
  for (const key of discarded) output.line(`discarded: ${key}`);
  if (released.length > 0) {
    output.line(
      'What released entries said is made good. verify and inspect pass them over, and a compact deletes them once their grace is over (2 min).',
    );
  }
  if (lost_versions.length > 0) {
    output.line(
      `Time travel cannot read, or not all of, ${lost_versions.length === 1 ? 'version' : 'versions'} ${lost_versions.join(', ')}: see runfold history --org ${org_id}.`,
    );
  }
  for (const { key, reason } of unreadable)
    output.note(`unreadable: ${key}: ${plain(reasonFor(key, reason))}`);
  const verb = dryRun ? 'would become' : 'is now';
  output.line(
    `Org ${org_id} ${verb} version ${count(version)} with ${counted(runs, 'run')}` +
      (unreadable.length > 0 ? `; ${counted(unreadable.length, 'canonical run')} cannot be read` : ''),
  );
  if (unreadable.length > 0) {
    output.line(
      `What cannot be read ${dryRun ? 'would have' : 'has'} no row: restore it, then \`runfold reconcile --full --org ${org_id}\` brings it back.`,
    );
  }
}
