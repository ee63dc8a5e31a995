import { type Command, Option } from 'commander';
import { archiveLimits } from '../../compactor/archive-limits.ts';
import { defaultLimits, type Limits } from '../core/limits.ts';
import { duration, positiveInteger } from './options.ts';

/** Of every command that archives logs. */
export interface TraceOptions {
  traceAttempts?: number | '' | undefined;
  traceWindow?: number | '' | undefined;
}

export function addTraceOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--trace-attempts <n>', 'tries to archive a log before its gaps are filled (default: 8)')
        .env('RUNFOLD_TRACE_ATTEMPTS')
        .argParser(unlessEmpty(positiveInteger)),
    )
    .addOption(traceWindowOption('within what time of the first try (default: 48h)'));
}

export function traceWindowOption(description: string): Option {
  return new Option('--trace-window <duration>', description)
    .env('RUNFOLD_TRACE_WINDOW')
    .argParser(unlessEmpty(duration));
}

/** Throws InputError for what archivers cannot keep: call it before a store is opened. */
export function traceLimitsOf({ traceAttempts, traceWindow }: TraceOptions): Limits {
  return archiveLimits(defaultLimits, {
    traceAttemptsMax: traceAttempts === '' ? undefined : traceAttempts,
    traceWindowMs: traceWindow === '' ? undefined : traceWindow,
  });
}

/** A variable that is there and empty says nothing; commander makes it ''. */
function unlessEmpty<T>(parse: (value: string) => T): (value: string) => T | '' {
  return (value) => (value === '' ? '' : parse(value));
}
