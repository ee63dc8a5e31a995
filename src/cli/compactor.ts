import type { Command } from 'commander';
import type { CompactorContext } from '../../compactor/context.ts';
import { openCompactor } from '../../compactor/open.ts';
import type { PassOptions, PassResult } from '../../compactor/pass.ts';
import { cronTrigger, runSchedule } from '../../compactor/schedule.ts';
import { throwIfAborted } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import {
  addCompactionOptions,
  type CompactionOptions,
  isProblem,
  orgsOf,
  showPass,
  showResults,
} from './compaction.ts';
import { withSession } from './context.ts';
import { counted } from './format.ts';
import { newProgram } from './new-program.ts';
import { type GlobalOptions, positiveInteger } from './options.ts';
import type { Output } from './output.ts';

import { EXIT, Exit, printError, runProgram } from './run.ts';
import { iso } from './times.ts';

/** A pass that runs at SIGTERM may finish within this long; then it is aborted, which is always safe. */
const STOP_WITHIN_MS = 10_000;

const EXAMPLES = `
Examples:
  $ runfold-compactor --once --store gs://my-bucket
  $ runfold-compactor --schedule "* * * * *" --store gs://my-bucket
  $ runfold-compactor --schedule "*/20 * * * * *" --full-every 180 --json

Any number of compactors may run at the same time. SIGTERM ends it well, with exit code 0.`;

interface CompactorOptions extends CompactionOptions, GlobalOptions {
  once?: boolean;
  schedule?: string;
  fullEvery: number;
}

/** The command line of the bin `runfold-compactor`. */
export function main(argv: readonly string[]): Promise<void> {
  return runProgram((signal) => {
    const program = newProgram('runfold-compactor', 'Folds the tails of orgs into their snapshots.');
    addCompactionOptions(program)
      .option('--once', 'make one pass and end')
      .option('--schedule <cron>', 'make a pass at these times (UTC) until SIGTERM')
      .option('--full-every <n>', 'every so many scheduled passes one covers all orgs', positiveInteger, 60)
      .addHelpText('after', EXAMPLES)
      .action((options: CompactorOptions, command: Command) => compactor(options, command, signal));
    return program;
  }, argv);
}

async function compactor(options: CompactorOptions, command: Command, signal: AbortSignal): Promise<void> {
  if ((options.once === true) === (options.schedule !== undefined)) {
    throw new InputError('Say either --once or --schedule "<cron>".', {
      hint: 'For example: runfold-compactor --schedule "*/5 * * * *".',
    });
  }
  const orgs = orgsOf(options);
  const trigger = options.schedule === undefined ? null : cronTrigger(options.schedule);
  await withSession(command, signal, async ({ session, output }) => {
    const context = await openCompactor(session, options.codec);
    const pass = (which: PassOptions['orgs'], number: number, stop: AbortSignal) =>
      onePass(context, output, { orgs: which, parallel: options.parallel, signal: stop }, number);
    if (trigger === null) {
      const results = await pass(orgs, 1, signal);
      throwIfAborted(signal);
      if (results.some(isProblem)) throw new Exit(EXIT.problem);
      return;
    }
    const { passes } = await runSchedule({
      trigger,
      pass: async ({ number, full, signal: stop }) => {
        try {
          await pass(full && orgs === 'dirty' ? 'all' : orgs, number, stop);
        } catch (error) {
          // A store that is away now may be back for the next pass.
          if (!stop.aborted) printError(error, options.debug ?? false);
        }
      },
      fullEvery: options.fullEvery,
      stop: signal,
      stopWithinMs: STOP_WITHIN_MS,
      clock: session.clock,
    });
    output.line(`Stopped after ${counted(passes, 'pass', 'passes')}.`);
  });
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
