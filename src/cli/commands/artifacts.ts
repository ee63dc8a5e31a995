import type { Command } from 'commander';
import { type Expired, type ExpiredArtifact, expireOrg } from '../../../compactor/expire.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { InputError } from '../../core/errors.ts';
import { expiredInWords, noteFailed } from '../compaction.ts';
import { withSession } from '../context.ts';
import { count, counted, plain } from '../format.ts';
import { addOrgsOptions, checkOrgsOptions, forEachOrg, type OrgsOptions, orgsOf } from '../orgs.ts';
import type { Output } from '../output.ts';
import { resultsOption, withResults } from '../results.ts';
import { EXIT, Exit } from '../run.ts';
import { iso } from '../times.ts';

interface SweepOptions extends OrgsOptions {
  dryRun?: boolean;
  history?: boolean;
}

/** Lines that people get; `--json` has all. */
const SHOWN_MAX = 50;

export function artifactsCommand(program: Command, signal: AbortSignal): void {
  const artifacts = program
    .command('artifacts')
    .description('what operators left: results, consoles, statistics');
  addOrgsOptions(
    artifacts.command('sweep').description('remove artifacts whose time is over, of runs that have ended'),
  )
    .addOption(resultsOption())
    .option('--history', 'look at sealed history, too: reads all of it')
    .option('--dry-run', 'tell what would be removed; change nothing')
    .action(async (options: SweepOptions, command: Command) => {
      checkOrgsOptions(options);
      const { dryRun = false, history = false } = options;
      const ok = await withSession(command, signal, ({ session, output }) =>
        withResults(command, session, async (results) => {
          if (results === undefined) {
            throw new InputError('No result store was named.', {
              hint: 'Add --results gs://bucket/prefix, or set RUNFOLD_RESULTS; --results none only marks.',
            });
          }
          const context = await openCompactor(session);
          const orgs = await orgsOf(context, options, signal);
          const progress = output.progress('Sweeping', (runs) => counted(runs, 'run'));
          const onRun = (done: number, of: number) => progress.update(done, of);
          const sweep = { results, dryRun, history, onRun, signal };
          const { results: told, good } = await forEachOrg(output, orgs, signal, (orgId) =>
            expireOrg(context, orgId, session.recorder, sweep),
          ).finally(() => progress.stop());
          output.value(told.map(({ org_id, ...rest }) => ({ org_id, dry_run: dryRun, ...rest })));
          show(output, good, dryRun);
          return good.length === told.length && good.every(({ failed }) => failed.length === 0);
        }),
      );
      if (!ok) throw new Exit(EXIT.problem);
    });
}

function show(output: Output, orgs: readonly Expired[], dryRun: boolean): void {
  const all = orgs.flatMap(({ org_id, artifacts }) => artifacts.map((artifact) => ({ org_id, ...artifact })));
  if (all.length === 0) output.line('Nothing has expired.');
  else {
    output.table<ExpiredArtifact & { org_id: string }>(
      [
        { head: 'ORG', cell: ({ org_id }) => org_id },
        { head: 'RUN', cell: ({ run_id }) => run_id },
        { head: 'ARTIFACT', cell: ({ operator, port }) => `${operator}/${port}` },
        { head: 'EXPIRED', cell: ({ expires_at }) => `${iso(expires_at).slice(0, 19)}Z` },
        { head: 'OUTCOME', cell: ({ outcome, reason }) => `${outcome}${reason ? `: ${plain(reason)}` : ''}` },
        { head: 'URI', cell: ({ uri }) => plain(uri ?? '-') },
      ],
      all.slice(0, SHOWN_MAX),
    );
    output.line(`\n${counted(all.length, 'artifact')}: ${expiredInWords({ artifacts: all })}`);
  }
  for (const org of orgs) noteFailed(output, org);
  for (const { org_id, waiting } of orgs)
    if (waiting > 0) output.note(`waiting: org ${org_id}: ${count(waiting)} more runs; sweep again`);
  if (dryRun) output.line('\nNothing was changed.');
}
