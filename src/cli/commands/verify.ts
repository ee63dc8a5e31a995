import type { Command } from 'commander';
import { everyOrg, mustExist } from '../../../compactor/backfill-source.ts';
import type { CompactorContext } from '../../../compactor/context.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { verifyOrg } from '../../../compactor/verify.ts';
import type { Verified } from '../../../compactor/verify-report.ts';
import { InputError } from '../../core/errors.ts';
import { withSession } from '../context.ts';
import { bytes, count, counted, plain } from '../format.ts';
import { orgsOption } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';

export function verifyCommand(program: Command, signal: AbortSignal): void {
  program
    .command('verify')
    .description('read everything of an org and hold it against the laws of the protocol')
    .addOption(orgsOption('only this org; may be repeated (default: every org)'))
    .option('--all', 'every org, the default')
    .action(async ({ org, all }: { org?: string[]; all?: boolean }, command: Command) => {
      if (org !== undefined && all) throw new InputError('--org and --all exclude each other.');
      const ok = await withSession(command, signal, async ({ session, output }) => {
        const context = await openCompactor(session);
        // A name that is mistyped must not pass for an org without a problem.
        for (const orgId of org ?? []) await mustExist(context, orgId, signal);
        const verified = await verifyAll(context, output, org ?? (await everyOrg(context, signal)), signal);
        return report(output, verified);
      });
      if (!ok) throw new Exit(EXIT.problem);
    });
}

async function verifyAll(
  context: CompactorContext,
  output: Output,
  orgs: readonly string[],
  signal: AbortSignal,
): Promise<Verified[]> {
  const verified: Verified[] = [];
  const progress = output.progress('Verifying', (objects) => counted(objects, 'object'));
  let before = 0;
  try {
    for (const orgId of orgs) {
      const one = await verifyOrg(context, orgId, {
        signal,
        onProgress: ({ objects, runs }) => progress.update(before + objects + runs),
      });
      before += one.checked.objects + one.checked.runs;
      verified.push(one);
    }
    return verified;
  } finally {
    progress.stop();
  }
}

function report(output: Output, verified: readonly Verified[]): boolean {
  const problems = verified.flatMap(({ org_id, problems }) =>
    problems.map((one) => ({ org: org_id, ...one })),
  );
  const ok = problems.length === 0;
  const orgs = verified.map((one) => ({
    org: one.org_id,
    ok: one.problems.length === 0,
    checked: one.checked,
  }));
  output.value({ ok, problems, orgs });
  for (const { org, law, key, run_id, message } of problems) {
    const where = [key, run_id === undefined ? undefined : `run ${run_id}`].filter(
      (part) => part !== undefined,
    );
    output.line(`law ${law}: org ${org}: ${[...where, plain(message)].join(': ')}`);
  }
  if (problems.length > 0) output.line();
  if (orgs.length > 0) {
    output.table(
      [
        { head: 'ORG', cell: ({ org }) => org },
        { head: 'OK', cell: ({ ok }) => (ok ? 'yes' : 'NO') },
        { head: 'OBJECTS', cell: ({ checked }) => count(checked.objects), align: 'right' },
        { head: 'SIZE', cell: ({ checked }) => bytes(checked.bytes), align: 'right' },
        { head: 'MANIFESTS', cell: ({ checked }) => count(checked.manifests), align: 'right' },
        { head: 'RUNS', cell: ({ checked }) => count(checked.runs), align: 'right' },
        { head: 'ROWS', cell: ({ checked }) => count(checked.rows), align: 'right' },
      ],
      orgs,
    );
  }
  output.line(
    ok
      ? `\n${counted(orgs.length, 'org')}: no problem found`
      : `\n${counted(problems.length, 'problem')} found`,
  );
  return ok;
}
