import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import type { CompactorContext } from '../../../compactor/context.ts';
import { type Exported, type ExportOptions, exportLegacy } from '../../../compactor/export-legacy.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { listOrgs, orgsUnder } from '../../../compactor/orgs.ts';
import { EXPORTS_PREFIX, exportPrefix } from '../../store/keys.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { withSession } from '../context.ts';
import { count, counted } from '../format.ts';
import { positiveInteger } from '../options.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions } from '../orgs.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

interface ExportCommandOptions extends OrgsOptions {
  full?: boolean;
  force?: boolean;
  parallel?: number;
  dryRun?: boolean;
}

export function exportCommand(program: Command, signal: AbortSignal): void {
  addOrgsOptions(
    program
      .command('export')
      .description('write the catalog for readers that have not moved yet')
      .command('legacy')
      .description(
        'one JSON object per run, by run and by table, and one index per org; writes only what changed',
      ),
  )
    .option('--full', 'list what is there, and mend what is missing, different or left over')
    .option('--force', 'empty the export of an org whose catalog is gone')
    .option('--parallel <n>', 'runs at a time (default: 64)', positiveInteger)
    .option('--dry-run', 'list every object that would be written or removed; change nothing')
    .action(async (options: ExportCommandOptions, command: Command) => {
      checkOrgsOptions(options);
      const { full, force, parallel, dryRun = false } = options;
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        if (parallel !== undefined) context.limits = { ...context.limits, parallelMax: parallel };
        for (const one of options.org ?? []) await mustBeKnown(context, one, signal);
        const orgs = options.org ?? (await orgsToExport(context.store, signal));
        const { results, good } = await forEachOrg(output, orgs, signal, async (orgId) => {
          const exported = await exportOne(output, (onProgress) =>
            exportLegacy(context, orgId, { full, force, dryRun, signal, onProgress }),
          );
          return { ...exported, dry_run: dryRun };
        });
        output.value(results);
        show(output, good, dryRun);
        const isWhole = good.every((one) => one.unconfirmed.length === 0 && one.quarantined === 0);
        return isWhole && good.length === orgs.length;
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

/** Also orgs of which nothing but an export is left. */
async function orgsToExport(store: ObjectStore, signal: AbortSignal): Promise<string[]> {
  const orgs = new Set(await listOrgs(store, signal));
  for await (const orgId of orgsUnder(store, EXPORTS_PREFIX, signal)) orgs.add(orgId);
  return [...orgs].sort();
}

async function mustBeKnown(context: CompactorContext, orgId: string, signal: AbortSignal): Promise<void> {
  const { items } = await context.store.list({ prefix: exportPrefix(orgId), limit: 1, signal });
  if (items.length === 0) await mustExist(context, orgId, signal);
}

async function exportOne(
  output: Output,
  work: (onProgress: NonNullable<ExportOptions['onProgress']>) => Promise<Exported>,
): Promise<Exported> {
  const progress = output.progress('Exporting', (runs) => counted(runs, 'run'));
  try {
    return await work((runs, total) => progress.update(runs, total));
  } finally {
    progress.stop();
  }
}

function show(output: Output, exported: readonly Exported[], dryRun: boolean): void {
  for (const one of exported) {
    const { org_id, runs, tables, written, removed, unchanged, unconfirmed, quarantined } = one;
    if (dryRun) {
      for (const key of written) output.line(`write  ${key}`);
      for (const key of removed) output.line(`remove ${key}`);
    }
    for (const key of unconfirmed) output.note(`not confirmed: ${key}; the next export sees to it`);
    if (quarantined > 0) {
      const entries = counted(quarantined, 'unreadable entry', 'unreadable entries');
      output.note(`incomplete: org ${org_id} has ${entries}; run \`runfold repair\`, then export again`);
    }
    const would = dryRun ? 'to be ' : '';
    output.line(
      `Org ${org_id}: ${counted(runs, 'run')} of ${counted(tables, 'table')}; ${counted(written.length, 'object')} ${would}written, ${count(removed.length)} ${would}removed, ${count(unchanged)} unchanged`,
    );
  }
}
