import { type Command, Option } from 'commander';
import type { CompactorContext } from '../../compactor/context.ts';
import { compactPass, type PassOptions, type PassResult } from '../../compactor/pass.ts';
import { InputError } from '../core/errors.ts';
import { PART_CODECS, type PartCodecName } from '../snapshot/codec.ts';
import { count, counted, dim, plain } from './format.ts';
import { orgsOption, positiveInteger } from './options.ts';
import type { Output } from './output.ts';

/** What `runfold compact` and `runfold-compactor` have in common. */
export interface CompactionOptions {
  org?: string[];
  all?: boolean;
  parallel: number;
  codec: PartCodecName;
}

export function addCompactionOptions(command: Command): Command {
  return command
    .addOption(orgsOption('only this org; may be repeated (default: orgs with a tail)'))
    .option('--all', 'every org there is, also those without a dirty marker')
    .option('--parallel <n>', 'orgs at a time', positiveInteger, 4)
    .addOption(
      new Option('--codec <codec>', 'the writer of Parquet parts').choices(PART_CODECS).default('hyparquet'),
    );
}

export function orgsOf({ org, all }: CompactionOptions): NonNullable<PassOptions['orgs']> {
  if (org !== undefined && all) {
    throw new InputError('--org and --all exclude each other.', { hint: 'Leave one of them out.' });
  }
  return org ?? (all ? 'all' : 'dirty');
}

/** One pass with a progress bar. */
export async function showPass(
  context: CompactorContext,
  output: Output,
  options: PassOptions,
): Promise<PassResult[]> {
  const progress = output.progress('Compacting', (orgs) => counted(orgs, 'org'));
  let total = 0;
  let done = 0;
  try {
    return await compactPass(context, {
      ...options,
      onStart: (orgs) => {
        total = orgs;
        progress.update(0, total);
      },
      onOrg: (result) => {
        progress.update(++done, total);
        options.onOrg?.(result);
      },
    });
  } finally {
    progress.stop();
  }
}

/** An org whose fold failed, or whose log holds entries that cannot be read. */
export function isProblem(result: PassResult): boolean {
  return result.outcome === 'failed' || result.quarantined > 0;
}

export function showResults(output: Output, results: readonly PassResult[]): void {
  for (const result of results) {
    if (result.outcome === 'failed')
      output.note(`failed: org ${result.org_id}: ${plain(result.message)} (${result.code})`);
    else if (result.quarantined > 0) {
      const entries = counted(result.quarantined, 'unreadable entry', 'unreadable entries');
      output.note(`quarantined: org ${result.org_id}: ${entries}; see runfold inspect`);
    }
  }
  const compacted = results.filter((result) => result.outcome !== 'failed');
  if (compacted.length === 0) {
    if (results.length === 0) output.line('Nothing to do: no org has a tail.');
    return;
  }
  output.table(
    [
      { head: 'ORG', cell: ({ org_id }) => org_id },
      { head: 'OUTCOME', cell: ({ outcome }) => (outcome === 'committed' ? outcome : dim(outcome)) },
      { head: 'VERSION', cell: ({ version }) => (version === null ? '-' : count(version)), align: 'right' },
      { head: 'ENTRIES', cell: ({ entries }) => count(entries), align: 'right' },
      { head: 'RECORDS', cell: ({ records }) => count(records), align: 'right' },
      { head: 'ROWS', cell: ({ rows }) => count(rows), align: 'right' },
      { head: 'WAITING', cell: ({ waiting }) => count(waiting), align: 'right' },
      { head: 'COLLECTED', cell: ({ collected }) => count(collected.objects), align: 'right' },
    ],
    compacted,
  );
}
