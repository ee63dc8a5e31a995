import type { Command } from 'commander';
import { openCompactor } from '../../../compactor/open.ts';
import { type Upgraded, upgradeOrg } from '../../../compactor/upgrade.ts';
import { withSession } from '../context.ts';
import { bytes, count, counted, dim } from '../format.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

interface UpgradeCommandOptions extends OrgsOptions {
  dryRun?: boolean;
}

export function upgradeCommand(program: Command, signal: AbortSignal): void {
  addOrgsOptions(
    program
      .command('upgrade')
      .description('rewrite what older versions of runfold wrote, while writers and readers go on'),
  )
    .option('--dry-run', 'show what is in which format, and what would be rewritten; change nothing')
    .action(async (options: UpgradeCommandOptions, command: Command) => {
      checkOrgsOptions(options);
      const { dryRun = false } = options;
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        const orgs = await orgsOf(context, options, signal);
        const progress = output.progress('Upgrading', (parts) => counted(parts, 'part'));
        try {
          const { results, good } = await forEachOrg(output, orgs, signal, async (orgId) => {
            const onProgress = (parts: number, total: number) => progress.update(parts, total);
            const upgraded = await upgradeOrg(context, orgId, { dryRun, signal, onProgress });
            return { ...upgraded, dry_run: dryRun };
          });
          progress.stop();
          output.value(results);
          show(output, good, dryRun);
          return good.length === orgs.length;
        } finally {
          progress.stop();
        }
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

function show(output: Output, upgraded: readonly Upgraded[], dryRun: boolean): void {
  const rows = upgraded.flatMap(({ org_id, projection, formats }) =>
    formats.map((format) => ({ org_id, isOld: format.projection < projection, ...format })),
  );
  if (rows.length > 0) {
    output.table(
      [
        { head: 'ORG', cell: ({ org_id }) => org_id },
        { head: 'LEVEL', cell: ({ level }) => (level === 0 ? 'head' : count(level)), align: 'right' },
        { head: 'PROJECTION', cell: ({ projection }) => count(projection), align: 'right' },
        { head: 'PARTS', cell: ({ parts }) => count(parts), align: 'right' },
        { head: 'RUNS', cell: ({ runs }) => count(runs), align: 'right' },
        { head: 'SIZE', cell: ({ size_bytes }) => bytes(size_bytes), align: 'right' },
        { head: '', cell: ({ isOld }) => (isOld ? (dryRun ? 'to rewrite' : 'rewritten') : dim('current')) },
      ],
      rows,
    );
    output.line();
  }
  const parts = upgraded.reduce((sum, { rewritten }) => sum + rewritten.length, 0);
  output.line(
    `${counted(upgraded.length, 'org')}: ${counted(parts, 'part')} ${dryRun ? 'to rewrite' : 'rewritten'}`,
  );
}
