import type { Command } from 'commander';
import { mustExist } from '../../compactor/backfill-source.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { openCompactor } from '../../compactor/open.ts';
import type { PassOptions, PassResult } from '../../compactor/pass.ts';
import { cronTrigger } from '../../compactor/schedule.ts';
import { throwIfAborted } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import type { ResultStore } from '../runs/results.ts';
import {
  addCompactionOptions,
  type CompactionOptions,
  isProblem,
  orgsOf,
  runPasses,
  STOP_WITHIN_MS,
  shardOf,
  showPass,
  showResults,
} from './compaction.ts';
import { type CommandContext, withSession } from './context.ts';
import { addFoldOptions, type FoldOptions, foldPolicyOf } from './fold-options.ts';
import { counted } from './format.ts';
import { serveMetrics } from './metrics-server.ts';
import { addVersion, newProgram } from './new-program.ts';
import { type GlobalOptions, port, positiveInteger } from './options.ts';
import type { Output } from './output.ts';

import { resultsOption, withResults } from './results.ts';
import { EXIT, Exit, printError, runProgram } from './run.ts';
import { iso } from './times.ts';
import { addTraceOptions, type TraceOptions, traceLimitsOf } from './trace-options.ts';

/** A pass over all orgs every so many passes. */
const FULL_EVERY = 60;

const EXAMPLES = `
Examples:
  $ runfold-compactor --once --store gs://my-bucket
  $ runfold-compactor --schedule "* * * * *" --store gs://my-bucket
  $ runfold-compactor --schedule "*/20 * * * * *" --full-every 180 --json
  $ runfold-compactor --once --all --shard 0/4 --store gs://my-bucket
  $ runfold-compactor --once --fold-after 10m --store gs://my-bucket    # in a job that runs every minute

Any number of compactors may run at the same time; --shard divides the orgs among them. As a task of a Cloud Run job or
a Kubernetes Indexed Job it takes its share by itself. A tail that is short and young is deferred to a later pass: see
--fold-after. With --export-legacy nothing is. On a schedule each pass also sweeps the orgs it compacts and
archives the logs of their ended runs, and each full pass removes their orphans; with --results each pass removes expired artifacts. SIGTERM finishes the orgs it is at, and ends a schedule with exit code 0.`;

interface CompactorOptions extends CompactionOptions, FoldOptions, TraceOptions, GlobalOptions {
  once?: boolean;
  schedule?: string;
  fullEvery?: number;
  sweep: boolean;
  results?: string;
  archive: boolean;
  orphans: boolean;
  metricsPort?: number;
  metricsHost: string;
}

/** The command line of the bin `runfold-compactor`. */
export function main(argv: readonly string[]): Promise<void> {
  return runProgram((signal) => {
    const program = newProgram('runfold-compactor', 'Folds the tails of orgs into their snapshots.');
    addFoldOptions(addTraceOptions(addCompactionOptions(program)), '10m on a schedule; off with --once')
      .option('--once', 'make one pass and end')
      .option('--schedule <cron>', 'make a pass at these times (UTC) until SIGTERM')
      .option(
        '--full-every <n>',
        `every so many scheduled passes one covers all orgs (default: ${FULL_EVERY})`,
        positiveInteger,
      )
      .option('--no-sweep', 'do not look after active runs whose callers are gone')
      .addOption(resultsOption())
      .option('--no-archive', 'do not archive the logs of ended runs')
      .option('--no-orphans', 'do not delete orphans in full passes')
      .option('--metrics-port <port>', 'on a schedule: serve /metrics for Prometheus there', port)
      .option('--metrics-host <address>', 'the address to serve them on', '127.0.0.1')
      .addHelpText('after', EXAMPLES)
      .action((options: CompactorOptions, command: Command) => compactor(options, command, signal));
    return addVersion(program, argv);
  }, argv);
}

async function compactor(options: CompactorOptions, command: Command, signal: AbortSignal): Promise<void> {
  if ((options.once === true) === (options.schedule !== undefined)) {
    throw new InputError('Say either --once or --schedule "<cron>".', {
      hint: 'For example: runfold-compactor --schedule "*/5 * * * *".',
    });
  }
  const orgs = orgsOf(options);
  const shard = shardOf(options);
  if (options.metricsPort !== undefined && options.schedule === undefined) {
    throw new InputError('--metrics-port goes with --schedule: a single pass is over before anybody asks.', {
      hint: 'Read the figures of a pass from --json.',
    });
  }
  if (options.fullEvery !== undefined && options.schedule === undefined) {
    throw new InputError('--full-every goes with --schedule: a single pass is one of its kind.', {
      hint: 'With --once, --all covers all orgs.',
    });
  }
  const limits = traceLimitsOf(options);
  const { parallel, exportLegacy } = options;
  if (exportLegacy && [options.foldAfter, options.foldEntries, options.foldRecords].some(isDeferring)) {
    throw new InputError('With --export-legacy every pass folds: its readers see nothing else.', {
      hint: 'Leave out --fold-after, --fold-entries and --fold-records.',
    });
  }
  const trigger = options.schedule === undefined ? null : cronTrigger(options.schedule);
  const action = async (
    { session, output }: CommandContext,
    results: ResultStore | null | undefined,
  ): Promise<void> => {
    const context = await openCompactor(session, options.codec, limits);
    const expire = results === undefined ? undefined : { recorder: session.recorder, results };
    const fold = foldPolicyOf(options, session.limits, trigger === null ? 'off' : session.limits.foldAfterMs);
    const pass = (
      number: number,
      which: Pick<PassOptions, 'orgs' | 'sweep' | 'archive' | 'orphans' | 'signal'>,
    ) =>
      onePass(
        context,
        output,
        { ...which, fold, expire, shard, parallel, exportLegacy, drain: signal },
        number,
      );
    if (trigger === null) {
      // One that is named before its first run is mistyped, more likely than new. A schedule may begin before it.
      for (const org of options.org ?? []) await mustExist(context, org, signal);
      const results = await pass(1, { orgs, signal: abortedLater(signal) });
      throwIfAborted(signal);
      if (results.some(isProblem)) throw new Exit(EXIT.problem);
      return;
    }
    const { metricsPort, metricsHost } = options;
    const server = metricsPort === undefined ? null : await serveMetrics(session, metricsPort, metricsHost);
    if (server !== null) output.note(`Metrics are at ${server.url}/metrics.`);
    const { fullEvery = FULL_EVERY, sweep, orphans, debug = false } = options;
    const passes = await runPasses(session, {
      trigger,
      orgs,
      // Nothing tells of an org whose artifacts expired while nobody compacted: the first pass looks at all.
      allFirst: expire !== undefined,
      fullEvery,
      sweep,
      archive: options.archive,
      orphans,
      stop: signal,
      pass,
      onError: (error) => printError(error, debug),
    }).finally(() => server?.close());
    output.line(`Stopped after ${counted(passes, 'pass', 'passes')}.`);
  };
  // On a schedule it may be up before the first writer; a single pass over what is not there is a mistyped one.
  const work = (context: CommandContext) =>
    withResults(command, context.session, (results) => action(context, results));
  await withSession(command, signal, work, { create: trigger !== null });
}

function isDeferring(option: number | 'off' | undefined): boolean {
  return option !== undefined && option !== 'off';
}

/** Aborts `STOP_WITHIN_MS` after `signal`. */
function abortedLater(signal: AbortSignal): AbortSignal {
  const later = new AbortController();
  const wait = () => void setTimeout(() => later.abort(), STOP_WITHIN_MS).unref();
  if (signal.aborted) wait();
  else signal.addEventListener('abort', wait, { once: true });
  return later.signal;
}

async function onePass(
  context: CompactorContext,
  output: Output,
  options: PassOptions,
  number: number,
): Promise<PassResult[]> {
  const at = context.clock.now();
  const results = await showPass(context, output, {
    ...options,
    onOrg: (result) => output.value({ pass: number, at, ...result }),
  });
  output.line(`${iso(at)} pass ${number}: ${counted(results.length, 'org')}`);
  if (results.length > 0) showResults(output, results);
  return results;
}
