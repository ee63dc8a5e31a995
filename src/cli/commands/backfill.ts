import { type Command, Option } from 'commander';
import { type Backfilled, backfill } from '../../../compactor/backfill.ts';
import { type LegacyMode, mustExistOrBeFlat } from '../../../compactor/backfill-legacy.ts';
import type { BackfillProgress } from '../../../compactor/backfill-pace.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { shardOf } from '../compaction.ts';
import { withSession } from '../context.ts';
import { count, counted, duration, plain, withHint } from '../format.ts';
import { orgsOption, positiveInteger } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';
import { parseShard, type Shard } from '../shard.ts';

interface BackfillCommandOptions {
  org?: string[];
  shard?: Shard;
  shards?: number;
  rate?: number;
  unit?: number;
  parallel: number;
  legacy: LegacyMode;
  dryRun?: boolean;
}

/** Unreadable runs that people are told one by one; --json tells all. */
const TOLD_MAX = 20;
/** Where no bar is shown, a line this often. */
const TELL_EVERY_MS = 10_000;

export function backfillCommand(program: Command, signal: AbortSignal): void {
  program
    .command('backfill')
    .description(
      'build the catalog of an existing deployment from its canonical runs; may be killed and repeated',
    )
    .addOption(orgsOption('only this org; may be repeated (default: every org with canonical runs)'))
    .option(
      '--shard <i/n>',
      'only this share of the work; I counts from 0 (default: from the job)',
      parseShard,
    )
    .option('--shards <n>', 'tasks of the Kubernetes Indexed Job (env: RUNFOLD_SHARD_COUNT)', positiveInteger)
    .option('--rate <n>', 'canonical runs read per second, at most', positiveInteger)
    .option('--unit <n>', 'runs per unit: committed, and after a kill done again, in one go', positiveInteger)
    .option('--parallel <n>', 'units at a time', positiveInteger, 2)
    .addOption(
      new Option(
        '--legacy <mode>',
        'flat keys of older deployments: copy them under their org, move, or skip them',
      )
        .choices(['copy', 'move', 'skip'])
        .default('copy'),
    )
    .option('--dry-run', 'read and compare everything, tell what would be done; change nothing')
    .action(async (options: BackfillCommandOptions, command: Command) => {
      const { org, rate, unit, parallel, legacy, dryRun = false } = options;
      // Units are divided, not orgs: a shard holds for named orgs as well.
      const shard = shardOf({ ...options, parallel, codec: 'hyparquet' });
      const done = await withSession(command, signal, async ({ session, output }) => {
        const tell = teller(output, session.clock.monotonic);
        try {
          const context = await openCompactor(session);
          for (const one of org ?? []) await mustExistOrBeFlat(context, one, legacy, signal);
          return await backfill(context, session.recorder, {
            orgs: org,
            shard,
            dryRun,
            ratePerSecond: rate,
            unitRuns: unit,
            parallel,
            legacy,
            signal,
            onProgress: tell.progress,
          }).then((result) => {
            tell.stop();
            show(output, result, dryRun);
            return result;
          });
        } finally {
          tell.stop();
        }
      });
      if (done.failed.length + done.orgs_failed.length + done.legacy.failed.length > 0)
        throw new Exit(EXIT.problem);
    });
}

function teller(output: Output, now: () => number) {
  let eta = '';
  let total = 0;
  const bar = output.progress('Backfilling', (runs) =>
    runs === total ? `${counted(runs, 'run')}${eta}` : count(runs),
  );
  let toldAt = now();
  return {
    progress(progress: BackfillProgress) {
      total = progress.total ?? -1;
      eta = progress.etaMs === null ? '' : `, about ${duration(progress.etaMs)} left`;
      bar.update(progress.done, progress.total);
      if (process.stderr.isTTY || now() - toldAt < TELL_EVERY_MS) return;
      toldAt = now();
      const of = progress.total === null ? '' : ` of ${count(progress.total)}`;
      output.note(
        `${progress.phase}: ${count(progress.done)}${of} runs, ${count(progress.perSecond)}/s${eta}`,
      );
    },
    stop: () => bar.stop(),
  };
}

function show(output: Output, done: Backfilled, dryRun: boolean): void {
  output.value({ dry_run: dryRun, ...done });
  const failed = [...done.legacy.failed, ...done.failed];
  for (const { key, reason } of failed.slice(0, TOLD_MAX))
    output.note(`failed: ${plain(key)}: ${plain(reason)}`);
  if (failed.length > TOLD_MAX)
    output.note(`failed: ${counted(failed.length - TOLD_MAX, 'more run')}; --json lists all`);
  for (const { org_id, outcome, reason, hint } of done.orgs_failed.slice(0, TOLD_MAX))
    output.note(`${outcome}: org ${org_id}: ${plain(withHint(reason, hint))}`);
  if (done.orgs_failed.length > TOLD_MAX)
    output.note(`failed: ${counted(done.orgs_failed.length - TOLD_MAX, 'more org')}; --json lists all`);
  const { legacy } = done;
  const to = (will: string, did: string) => (dryRun ? `to ${will}` : did);
  if (legacy.scanned + legacy.failed.length > 0) {
    const gone = legacy.deleted > 0 ? `, ${count(legacy.deleted)} ${to('delete', 'deleted')}` : '';
    const late =
      legacy.recorded > 0
        ? `, ${count(legacy.recorded)} known but not shown, ${to('record', 'recorded now')}`
        : '';
    output.line(
      `${counted(legacy.scanned, 'flat key')}: ${count(legacy.copied)} ${to('copy', 'copied')}, ${count(legacy.unchanged)} known${late}${gone}`,
    );
  }
  const parts = [
    `${count(done.indexed)} ${to('index', 'indexed')}`,
    `${count(done.unchanged)} unchanged`,
    `${count(done.skipped)} skipped`,
  ];
  output.line(`${counted(done.scanned, 'run')}: ${parts.join(', ')}, ${count(failed.length)} failed`);
  if (dryRun) output.line('Nothing was changed.');
  if (!done.complete)
    output.line(`Work ${dryRun ? 'would be' : 'is'} left: other shards have it, or the next call.`);
}
