import type { Command } from 'commander';
import { collect, type GarbageObject, inspectGarbage } from '../../../compactor/collect.ts';
import type { CompactorContext } from '../../../compactor/context.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { find } from '../../../compactor/plan.ts';
import { withSession } from '../context.ts';
import { count, counted, plain } from '../format.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';
import { iso } from '../times.ts';

interface CollectedOrg {
  org_id: string;
  dry_run: boolean;
  /** All that waits, as it was before anything was deleted. */
  objects: GarbageObject[];
  deleted: number;
}

export function collectCommand(program: Command, signal: AbortSignal): void {
  addOrgsOptions(
    program
      .command('collect')
      .description('delete what committed versions made unneeded, once its grace is over'),
  )
    .option('--dry-run', 'list every object, why and from when on it may go; delete nothing')
    .action(async (options: OrgsOptions & { dryRun?: boolean }, command: Command) => {
      checkOrgsOptions(options);
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        const orgs = await orgsOf(context, options, signal);
        const { results, good } = await forEachOrg(output, orgs, signal, (orgId) =>
          collectOrg(context, orgId, options.dryRun ?? false, signal),
        );
        output.value(results);
        show(output, good);
        return good.length === results.length;
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

async function collectOrg(
  context: CompactorContext,
  orgId: string,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<CollectedOrg> {
  const found = await find(context, orgId, signal);
  const objects = await inspectGarbage(context, found, { signal });
  const collected = dryRun ? { objects: 0, lists: 0 } : await collect(context, found, { signal });
  return { org_id: orgId, dry_run: dryRun, objects, deleted: collected.objects + collected.lists };
}

function show(output: Output, orgs: readonly CollectedOrg[]): void {
  const objects = orgs.flatMap((org) => org.objects.map((object) => ({ org_id: org.org_id, ...object })));
  if (objects.length > 0) {
    output.table(
      [
        { head: 'ORG', cell: ({ org_id }) => org_id },
        { head: 'OBJECT', cell: ({ key }) => key },
        { head: 'DUE', cell: ({ due, due_at }) => (due ? 'now' : iso(due_at)) },
        { head: 'WHY', cell: ({ reason }) => plain(reason) },
      ],
      objects,
    );
    output.line();
  }
  const due = objects.filter((object) => object.due).length;
  const deleted = orgs.reduce((sum, org) => sum + org.deleted, 0);
  const done = orgs.some(({ dry_run }) => dry_run) ? 'nothing deleted' : `${count(deleted)} deleted`;
  output.line(`${counted(objects.length, 'object')} of garbage, ${count(due)} due, ${done}`);
}
