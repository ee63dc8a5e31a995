import type { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { openSession, type Session } from '../session.ts';
import { openStore } from '../store/open.ts';
import type { GlobalOptions } from './options.ts';
import { Output } from './output.ts';

/** What a command's action works with. */
export interface CommandContext {
  session: Session;
  output: Output;
  signal: AbortSignal;
}

/** Runs an action on the store that the command line names, and closes it whatever happens. */
export async function withSession<T>(
  command: Command,
  signal: AbortSignal,
  action: (context: CommandContext) => Promise<T>,
): Promise<T> {
  const options = command.optsWithGlobals<GlobalOptions>();
  if (options.store === undefined || options.store === '') {
    throw new InputError('No store was named.', {
      hint: 'Add --store file:DIR or --store gs://bucket, or set RUNFOLD_STORE.',
    });
  }
  const store = await openStore(options.store, { endpoint: options.endpoint });
  try {
    const session = openSession(store);
    const result = await action({ session, output: outputOf(command), signal });
    await session.close();
    return result;
  } finally {
    await store.close();
  }
}

export function outputOf(command: Command): Output {
  return new Output(command.optsWithGlobals<GlobalOptions>().json ?? false);
}
