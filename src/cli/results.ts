import { type Command, Option } from 'commander';
import { openResults, type ResultStore } from '../runs/results.ts';
import type { Session } from '../session.ts';
import type { GlobalOptions } from './options.ts';

/** `none` is said, never meant by silence: what is only marked is never deleted afterwards. */
const NONE = 'none';

export function resultsOption(): Option {
  return new Option(
    '--results <url>',
    `the store of results, whose expired ones are deleted; ${NONE}: they are only marked`,
  ).env('RUNFOLD_RESULTS');
}

/**
 * Undefined: nobody said anything, so nothing expires. Null: `none`. Closed when `work` is done. `create`: a `file:`
 * store is made where it is missing, as --store is.
 */
export async function withResults<T>(
  command: Command,
  session: Session,
  work: (results: ResultStore | null | undefined) => Promise<T>,
  { create = false }: { create?: boolean } = {},
): Promise<T> {
  const { results: url, endpoint, runs } = command.optsWithGlobals<GlobalOptions & { results?: string }>();
  if (url === undefined || url === '') return work(undefined);
  if (url === NONE) return work(null);
  const apartFrom = [session.store.url, ...(runs === undefined ? [] : [runs])];
  const results = await openResults(url, { endpoint, create, apartFrom });
  try {
    return await work(results);
  } finally {
    await results.store.close();
  }
}
