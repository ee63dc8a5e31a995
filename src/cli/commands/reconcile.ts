import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { type Reconciled, reconcile } from '../../../compactor/reconcile.ts';
import { InputError } from '../../core/errors.ts';
import { shardOf } from '../compaction.ts';
import { withSession } from '../context.ts';
import { count, counted, plain, withHint } from '../format.ts';
import { duration, orgsOption, positiveInteger } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';
import { parseShard, type Shard } from '../shard.ts';

interface ReconcileCommandOptions {
  org?: string[];
  shard?: Shard;
  shards?: number;
  full?: boolean;
  sample?: number;
  budget?: number;
  rate?: number;
  window?: number;
  dryRun?: boolean;
  force?: boolean;
}

const TOLD_MAX = 50;
const SAMPLE = 0.01;

export function reconcileCommand(program: Command, signal: AbortSignal): void {
  program
    .command('reconcile')
    .description(
      'hold canonical runs and index against each other, and repair what differs; made to be scheduled',
    )
    .addOption(orgsOption('only this org; may be repeated (default: every org)'))
    .option('--full', 'look at every run (default: a sample of 1%, another one in every pass)')
    .option('--sample <percent>', 'look at this share of the runs', percent)
    .option('--budget <duration>', 'begin nothing new after this long; the next call goes on there', duration)
    .option('--shard <i/n>', 'only orgs of this share; I counts from 0 (default: from the job)', parseShard)
    .option('--shards <n>', 'tasks of the Kubernetes Indexed Job (env: RUNFOLD_SHARD_COUNT)', positiveInteger)
    .option('--rate <n>', 'canonical runs read per second, at most', positiveInteger)
    .option('--window <n>', 'runs between two saves of the cursor', positiveInteger)
    .option('--dry-run', 'tell what differs; change nothing')
    .option('--force', 'remove rows without canonical runs however many they are')
    .action(async (options: ReconcileCommandOptions, command: Command) => {
      const { org, full, sample, budget, rate, window, dryRun = false, force } = options;
      if (full && sample !== undefined) throw new InputError('--full and --sample exclude each other.');
      const shard = shardOf({ ...options, parallel: 1, codec: 'hyparquet' });
      const good = await withSession(command, signal, async ({ session, output }) => {
        const progress = output.progress('Reconciling', (runs) => counted(runs, 'run'));
        try {
          const context = await openCompactor(session);
          for (const one of org ?? []) await mustExist(context, one, signal);
          const done = await reconcile(context, session.recorder, {
            orgs: org,
            shard,
            sample: full ? 1 : (sample ?? SAMPLE),
            budgetMs: budget,
            ratePerSecond: rate,
            windowRuns: window,
            dryRun,
            force,
            signal,
            onProgress: ({ scanned }) => progress.update(scanned),
          });
          progress.stop();
          show(output, done, dryRun);
          return (
            done.failed.length + done.orgs_failed.length === 0 && done.drift.every(({ repaired }) => repaired)
          );
        } finally {
          progress.stop();
        }
      });
      if (!good) throw new Exit(EXIT.problem);
    });
}

function percent(value: string): number {
  const number = Number(value.replace(/%$/, ''));
  if (number > 0 && number <= 100) return number / 100;
  throw new InputError(`${JSON.stringify(value)} is not a share.`, {
    hint: 'Use a percentage, such as 5 or 0.1%.',
  });
}

function show(output: Output, done: Reconciled, dryRun: boolean): void {
  output.value({ dry_run: dryRun, ...done });
  for (const { org_id, run_id, kind, repaired, repairable } of done.drift.slice(0, TOLD_MAX)) {
    const what = repaired ? ': repaired' : dryRun && repairable ? ': to repair' : '';
    output.note(`${kind}: org ${org_id}: run ${plain(run_id)}${what}`);
  }
  if (done.drift.length > TOLD_MAX)
    output.note(`${counted(done.drift.length - TOLD_MAX, 'more run')} differ`);
  for (const { key, reason } of done.failed.slice(0, TOLD_MAX))
    output.note(`failed: ${plain(key)}: ${plain(reason)}; its row, if it has one, stays as it is`);
  for (const { org_id, outcome, reason, hint } of done.orgs_failed.slice(0, TOLD_MAX))
    output.note(`${outcome}: org ${org_id}: ${plain(withHint(reason, hint))}`);
  if (done.orgs_failed.length > TOLD_MAX)
    output.note(`${counted(done.orgs_failed.length - TOLD_MAX, 'more failure')}; --json lists all`);
  const mended = done.drift.filter((one) => (dryRun ? one.repairable : one.repaired)).length;
  const drift =
    done.drift.length === 0
      ? 'no drift'
      : `${counted(done.drift.length, 'run')} ${dryRun ? 'differ' : 'differed'}, ${count(mended)} ${dryRun ? 'to repair' : 'repaired'}`;
  const left =
    done.orgs_failed.length === 0
      ? ''
      : `; ${counted(done.orgs_failed.length, 'problem')} with orgs, told above`;
  output.line(`${counted(done.scanned, 'run')} of ${counted(done.orgs, 'org')} looked at: ${drift}${left}`);
  output.line(
    done.complete
      ? `Pass ${count(done.pass)} ${dryRun ? 'would be' : 'is'} complete.`
      : 'The next call goes on where this one ended.',
  );
  if (dryRun) output.line('Nothing was changed.');
}
