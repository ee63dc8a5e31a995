import type { Command } from 'commander';
import { openCompactor } from '../../../compactor/open.ts';
import { type OrphanSweep, sweepOrphans } from '../../../compactor/orphans.ts';
import { withSession } from '../context.ts';
import { bytes, count, counted, duration } from '../format.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

export function orphansCommand(program: Command, signal: AbortSignal): void {
  addOrgsOptions(
    program
      .command('orphans')
      .description('delete what compactors that lost or died left behind, a day later'),
  )
    .option('--dry-run', 'list every object, its size, age and why; delete nothing')
    .action(async (options: OrgsOptions & { dryRun?: boolean }, command: Command) => {
      checkOrgsOptions(options);
      const { dryRun = false } = options;
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        const orgs = await orgsOf(context, options, signal);
        const { results, good } = await forEachOrg(output, orgs, signal, (orgId) =>
          sweepOrphans(context, orgId, { dryRun, signal }),
        );
        output.value(results.map(({ org_id, ...rest }) => ({ org_id, dry_run: dryRun, ...rest })));
        show(output, good, dryRun);
        return good.length === results.length;
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

function show(output: Output, sweeps: readonly OrphanSweep[], dryRun: boolean): void {
  const orphans = sweeps.flatMap((sweep) =>
    sweep.orphans.map((orphan) => ({ org_id: sweep.org_id, ...orphan })),
  );
  if (orphans.length > 0) {
    output.table(
      [
        { head: 'ORG', cell: ({ org_id }) => org_id },
        { head: 'OBJECT', cell: ({ key }) => key },
        { head: 'SIZE', cell: ({ size_bytes }) => bytes(size_bytes), align: 'right' },
        { head: 'AGE', cell: ({ age_ms }) => duration(age_ms), align: 'right' },
        { head: 'WHY', cell: ({ reason }) => reason },
      ],
      orphans,
    );
    output.line();
  }
  const deleted = sweeps.reduce((sum, sweep) => sum + sweep.deleted, 0);
  const size = orphans.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  output.line(
    `${counted(orphans.length, 'orphan')} (${bytes(size)}), ${dryRun ? 'nothing deleted' : `${count(deleted)} deleted`}`,
  );
}
