import type { Command } from 'commander';
import { InputError } from '../core/errors.ts';
import { Telemetry } from '../core/telemetry.ts';
import { openRunStore } from '../runs/open.ts';
import type { RunStore } from '../runs/run-store.ts';
import { openSession, type Session } from '../session.ts';
import { type OpenStoreOptions, openStore } from '../store/open.ts';
import type { GlobalOptions } from './options.ts';
import { Output } from './output.ts';

/** What a command's action works with. */
export interface CommandContext {
  session: Session;
  output: Output;
  signal: AbortSignal;
}

/**
 * Runs an action on the store that the command line names, and closes it whatever happens. `create`: the store of a
 * `file:` URL and the run store may be made; for all other actions one that is missing is a mistyped one.
 */
export async function withSession<T>(
  command: Command,
  signal: AbortSignal,
  action: (context: CommandContext) => Promise<T>,
  { create = false, ...opening }: Pick<OpenStoreOptions, 'create' | 'wrap'> = {},
): Promise<T> {
  const options = command.optsWithGlobals<GlobalOptions>();
  if (options.store === undefined || options.store === '') {
    throw new InputError('No store was named.', {
      hint: 'Add --store file:DIR or --store gs://bucket, or set RUNFOLD_STORE.',
    });
  }
  const telemetry = new Telemetry();
  const store = await openStore(options.store, {
    endpoint: options.endpoint,
    create,
    onRetry: (operation) => telemetry.tell('retry', { operation }),
    ...opening,
  });
  let runs: RunStore | undefined;
  try {
    if (options.runs) {
      const missing = create ? 'create' : 'refuse';
      runs = await openRunStore(options.runs, { store, missing, endpoint: options.endpoint });
    }
    const session = openSession(store, { telemetry, ...(runs ? { runs } : {}) });
    const result = await action({ session, output: outputOf(command), signal });
    await session.close();
    return result;
  } finally {
    await runs?.close();
    await store.close();
  }
}

export function outputOf(command: Command): Output {
  return new Output(command.optsWithGlobals<GlobalOptions>().json ?? false);
}
