import { styleText } from 'node:util';
import { type Command, CommanderError } from 'commander';
import { errorMessage, InputError, isRunfoldError } from '../core/errors.ts';
import { refuseRepeats } from './options.ts';

/** 0 fine, 1 a problem found, 2 wrong use; 128 + n where signal n ended it. */
export const EXIT = { fine: 0, problem: 1, wrongUse: 2 } as const;

/** Thrown by a command that has told its own story and only wants its exit code. */
export class Exit extends Error {
  readonly code: number;

  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs one command line and sets the exit code. The signal aborts on Ctrl-C; a second Ctrl-C ends at once. Nothing
 * escapes: what is thrown becomes one sentence and a hint on standard error, with `--debug` the stack as well.
 */
export async function runProgram(
  build: (signal: AbortSignal) => Command,
  argv: readonly string[],
): Promise<void> {
  quietWarnings();
  quietPipes();
  const stop = new AbortController();
  let stoppedBy: number | null = null;
  const onSignal = (name: keyof typeof SIGNALS) => {
    if (stoppedBy !== null) process.exit(stoppedBy);
    stoppedBy = SIGNALS[name];
    stop.abort();
  };
  for (const name of Object.keys(SIGNALS)) process.on(name, onSignal);
  try {
    const program = build(stop.signal);
    refuseRepeats(program);
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = commanderCode(error);
    else if (error instanceof Exit) process.exitCode = error.code;
    else if (stoppedBy !== null) process.exitCode = stoppedBy;
    else process.exitCode = printError(error, argv.includes('--debug'));
  } finally {
    for (const name of Object.keys(SIGNALS)) process.off(name, onSignal);
  }
}

/** Help and the version were asked for; everything else that commander throws it has printed as wrong use. */
function commanderCode({ code }: CommanderError): number {
  return code === 'commander.helpDisplayed' || code === 'commander.version' ? EXIT.fine : EXIT.wrongUse;
}

export function printError(error: unknown, debug: boolean): number {
  const lines = [`${red('error:')} ${sentence(error)}`];
  const hint = hintOf(error);
  if (hint !== null) lines.push(`hint: ${hint}`);
  if (debug) lines.push(stackOf(error));
  process.stderr.write(`${lines.join('\n')}\n`);
  return error instanceof InputError ? EXIT.wrongUse : EXIT.problem;
}

function hintOf(error: unknown): string | null {
  if (!isRunfoldError(error)) return 'This is a defect in runfold. --debug shows where.';
  return error.hint ?? (error instanceof InputError ? '--help shows how it is used.' : null);
}

/** Messages may quote stored bytes or answers of a server: one line, whatever they hold. */
function sentence(error: unknown): string {
  const text = errorMessage(error).replace(/\s+/g, ' ').trim();
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

function red(text: string): string {
  return styleText('red', text, { stream: process.stderr });
}

/** A reader that has seen enough (`| head`) is no error. */
function quietPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(EXIT.fine);
      // Not through the stream that failed.
      if (stream === process.stdout)
        process.stderr.write(`error: Standard output cannot be written (${error.code}).\n`);
      process.exit(EXIT.problem);
    });
  }
}

/** The file store takes its locks with node:sqlite, which some supported versions of Node call experimental. */
function quietWarnings(): void {
  const emit = process.emitWarning;
  process.emitWarning = ((warning: string | Error, ...rest: never[]) => {
    if (errorMessage(warning).startsWith('SQLite is an experimental feature')) return;
    (emit as (warning: string | Error, ...rest: never[]) => void).call(process, warning, ...rest);
  }) as typeof process.emitWarning;
}
