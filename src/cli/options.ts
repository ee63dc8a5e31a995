import { type Command, InvalidArgumentError, Option } from 'commander';
import { systemClock } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { RUN_STATUSES, type RunStatus } from '../runs/run.ts';
import { parseDuration, parseTime } from './times.ts';

/** Options of every command; they may stand before or after its name. */
export interface GlobalOptions {
  store?: string;
  runs?: string;
  endpoint?: string;
  json?: boolean;
  debug?: boolean;
}

export function addGlobalOptions(program: Command): Command {
  return program
    .addOption(new Option('--store <url>', 'file:DIR, gs://bucket[/prefix] or memory:').env('RUNFOLD_STORE'))
    .addOption(
      new Option('--runs <url>', 'canonical runs, where not in the store: sqlite:FILE or postgres://…').env(
        'RUNFOLD_RUNS',
      ),
    )
    .option('--endpoint <url>', 'of a Cloud Storage emulator (env: RUNFOLD_GCS_ENDPOINT)')
    .option('--json', 'JSON on standard output, and nothing else there')
    .option('--debug', 'show the stack of an error');
}

export function orgOption(): Option {
  return new Option('--org <org>', 'the org').argParser(orgId).makeOptionMandatory();
}

export function orgsOption(description: string): Option {
  return orgsLike(description, orgId);
}

export function statusOption(): Option {
  return repeatable(new Option('--status <status>', 'one or more, with commas between').argParser(statuses));
}

const REPEATABLE = new WeakSet<Option>();

function repeatable(option: Option): Option {
  REPEATABLE.add(option);
  return option;
}

/**
 * Refuses an option with one value that was given twice, for the program and all its commands: which of the two was
 * meant, nobody knows. Call it when all commands are there.
 */
export function refuseRepeats(command: Command): void {
  for (const option of command.options) {
    if (REPEATABLE.has(option) || (!option.required && !option.optional)) continue;
    let given = 0;
    command.on(`option:${option.name()}`, () => {
      if (++given === 1) return;
      throw new InputError(`${option.long} was given twice.`, { hint: 'It takes one value: leave one out.' });
    });
  }
  for (const sub of command.commands) refuseRepeats(sub);
}

/** `*` besides: every org. */
export function orgsOrAllOption(description: string): Option {
  return orgsLike(description, (value) => (value === '*' ? value : orgId(value)));
}

function orgsLike(description: string, parse: (value: string) => string): Option {
  return repeatable(
    new Option('--org <org>', description).argParser((value: string, before: string[] | undefined) => [
      ...new Set([...(before ?? []), parse(value)]),
    ]),
  );
}

function orgId(value: string): string {
  return checkId('org id', value);
}

export function positiveInteger(value: string): number {
  const number = /^[0-9]{1,12}$/.test(value) ? Number(value) : 0;
  if (number > 0) return number;
  throw new InvalidArgumentError('It must be a whole number from 1 on.');
}

export function port(value: string): number {
  const number = /^[0-9]{1,5}$/.test(value) ? Number(value) : -1;
  if (number >= 0 && number <= 65_535) return number;
  throw new InvalidArgumentError('It must be a port from 0 to 65535.');
}

export function duration(value: string): number {
  return parseDuration(value);
}

/** A duration, or `off`. */
export function durationOrOff(value: string): number | 'off' {
  return value === 'off' ? 'off' : parseDuration(value);
}

/** One status or several with commas between, in any case. */
function statuses(value: string, before: readonly RunStatus[] = []): RunStatus[] {
  const named = value.split(',').map((name) => {
    const found = RUN_STATUSES.find((known) => known === name.trim().toUpperCase());
    if (found === undefined) {
      throw new InputError(`${JSON.stringify(name)} is not a status.`, {
        hint: `Statuses are ${RUN_STATUSES.join(', ')}.`,
      });
    }
    return found;
  });
  return [...before, ...named];
}

export function time(value: string): number {
  return parseTime(value, systemClock.now());
}
