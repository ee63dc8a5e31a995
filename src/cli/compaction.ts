import { type Command, Option } from 'commander';
import type { CompactorContext } from '../../compactor/context.ts';
import type { Expired } from '../../compactor/expire.ts';
import { compactPass, isFailure, type PassOptions, type PassResult } from '../../compactor/pass.ts';
import { runSchedule, type Trigger } from '../../compactor/schedule.ts';
import { InputError } from '../core/errors.ts';
import type { Session } from '../session.ts';
import { PART_CODECS, type PartCodecName } from '../snapshot/codec.ts';
import { showArchived } from './archived.ts';
import { count, counted, dim, plain } from './format.ts';
import { orgsOption, positiveInteger } from './options.ts';
import { noteFailure } from './orgs.ts';
import type { Output } from './output.ts';
import { parseShard, type Shard, shardOfTask } from './shard.ts';

/** What `runfold compact` and `runfold-compactor` have in common. */
export interface CompactionOptions {
  org?: string[];
  all?: boolean;
  parallel: number;
  codec: PartCodecName;
  shard?: Shard;
  shards?: number;
  exportLegacy?: boolean;
}

export function addCompactionOptions(command: Command): Command {
  return command
    .addOption(orgsOption('only this org; may be repeated (default: orgs with a tail)'))
    .option('--all', 'every org there is, also those without a dirty marker')
    .option('--shard <i/n>', 'only orgs of this share; I counts from 0 (default: from the job)', parseShard)
    .option('--shards <n>', 'tasks of the Kubernetes Indexed Job (env: RUNFOLD_SHARD_COUNT)', positiveInteger)
    .option('--parallel <n>', 'orgs at a time', positiveInteger, 4)
    .option('--export-legacy', 'bring the legacy export of each org that was folded up to date')
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

/** What the command line says, else the job this is a task of. Orgs that were named are not divided by the job. */
export function shardOf({ org, shard, shards }: CompactionOptions): Shard | undefined {
  if (shard !== undefined && shards !== undefined) {
    throw new InputError('--shard and --shards exclude each other.', {
      hint: '--shard I/N says it all; --shards N goes with an index from the environment.',
    });
  }
  if (shard !== undefined || org !== undefined) return shard;
  return shardOfTask(process.env, shards);
}

/** At SIGTERM a pass begins no further org, and may finish those it is at within this long; then it is aborted. */
export const STOP_WITHIN_MS = 10_000;

export interface PassesOptions extends Pick<PassOptions, 'orgs'> {
  trigger: Trigger;
  /** Every so many passes one looks at all orgs; with `allFirst` the first does too. */
  fullEvery: number;
  allFirst?: boolean;
  sweep: boolean;
  /** Archive logs of ended runs. */
  archive: boolean;
  /** Delete orphans in full passes. */
  orphans: boolean;
  stop: AbortSignal;
  pass: (
    number: number,
    which: Pick<PassOptions, 'orgs' | 'sweep' | 'archive' | 'orphans' | 'signal'>,
  ) => Promise<unknown>;
  /** A pass that failed as a whole: a store that is away now may be back for the next one. */
  onError: (error: unknown) => void;
}

/** Passes at their times until `stop`; gives how many there were. */
export async function runPasses(session: Session, options: PassesOptions): Promise<number> {
  const {
    trigger,
    orgs = 'dirty',
    fullEvery,
    allFirst,
    sweep,
    archive,
    orphans,
    stop,
    pass,
    onError,
  } = options;
  const { passes } = await runSchedule({
    trigger,
    pass: async ({ number, full, signal }) => {
      try {
        await pass(number, {
          orgs: (full || (number === 1 && allFirst === true)) && orgs === 'dirty' ? 'all' : orgs,
          sweep: sweep ? session.recorder : undefined,
          archive: archive ? session.recorder : undefined,
          orphans: full && orphans,
          signal,
        });
      } catch (error) {
        if (!signal.aborted) onError(error);
      }
    },
    fullEvery,
    stop,
    stopWithinMs: STOP_WITHIN_MS,
    clock: session.clock,
  });
  return passes;
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
  let deferred = 0;
  try {
    return await compactPass(context, {
      ...options,
      onStart: (orgs) => {
        total = orgs;
        progress.update(0, total);
      },
      onOrg: (result) => {
        if (result.outcome === 'deferred') deferred++;
        progress.update(++done, total, deferred === 0 ? undefined : `${count(deferred)} deferred`);
        options.onOrg?.(result);
      },
    });
  } finally {
    progress.stop();
  }
}

/** An org of which something failed, or of which entries or parts were found that cannot be read. */
export function isProblem(result: PassResult): boolean {
  if (result.outcome === 'failed' || result.quarantined > 0 || chores(result).some(isFailure)) return true;
  return result.expired !== undefined && !isFailure(result.expired) && result.expired.failed.length > 0;
}

function chores({ swept, expired, archived, orphans, exported }: Exclude<PassResult, { outcome: 'failed' }>) {
  return [swept, expired, archived, orphans, exported].filter((chore) => chore !== undefined);
}

export function showResults(output: Output, results: readonly PassResult[]): void {
  for (const result of results) {
    const failures = result.outcome === 'failed' ? [result] : chores(result).filter(isFailure);
    for (const failure of failures) noteFailure(output, result.org_id, failure);
    if (result.outcome !== 'failed' && result.quarantined > 0) {
      const objects = counted(result.quarantined, 'unreadable object', 'unreadable objects');
      output.note(`quarantined: org ${result.org_id}: ${objects}; see runfold inspect`);
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
      { head: 'ROWS', cell: ({ rows }) => (rows === null ? '-' : count(rows)), align: 'right' },
      {
        head: 'DEFERRED',
        cell: ({ deferred }) => (deferred === null ? '-' : count(deferred.entries)),
        align: 'right',
      },
      { head: 'WAITING', cell: ({ waiting }) => count(waiting), align: 'right' },
      { head: 'COLLECTED', cell: ({ collected }) => count(collected.objects), align: 'right' },
      { head: 'AMPLIFICATION', cell: (result) => amplification(result.write_amplification), align: 'right' },
    ],
    compacted,
  );
  for (const { org_id, swept, expired, archived, orphans, exported } of compacted) {
    if (exported !== undefined && !isFailure(exported)) {
      const [written, removed] = [count(exported.written), count(exported.removed)];
      output.line(`exported: org ${org_id}: ${written} objects written, ${removed} removed`);
    }
    if (swept !== undefined && !isFailure(swept) && swept.repaired.length + swept.timed_out.length > 0) {
      const [repaired, late] = [count(swept.repaired.length), count(swept.timed_out.length)];
      output.line(`swept: org ${org_id}: ${repaired} repaired, ${late} timed out`);
    }
    if (expired !== undefined && !isFailure(expired)) noteFailed(output, expired);
    if (expired !== undefined && !isFailure(expired) && expired.artifacts.length > 0)
      output.line(`expired: org ${org_id}: ${expiredInWords(expired)}`);
    if (archived !== undefined && !isFailure(archived)) showArchived(output, archived);
    if (orphans !== undefined && !isFailure(orphans) && orphans.orphans.length > 0) {
      const found = counted(orphans.orphans.length, 'orphan');
      output.line(`orphans: org ${org_id}: ${found}, ${count(orphans.deleted)} deleted`);
    }
  }
}

export function noteFailed(output: Output, { org_id, failed }: Expired): void {
  for (const { run_id, code, message } of failed)
    output.note(`failed: org ${org_id}: run ${plain(run_id)}: ${plain(message)} (${code})`);
}

/** `3 deleted, 1 kept` */
export function expiredInWords({ artifacts }: Pick<Expired, 'artifacts'>): string {
  return (['deleted', 'marked', 'kept'] as const)
    .map((outcome) => [artifacts.filter((one) => one.outcome === outcome).length, outcome] as const)
    .filter(([n]) => n > 0)
    .map(([n, outcome]) => `${count(n)} ${outcome}`)
    .join(', ');
}

/** Rows written per run that is there: `1.8`. */
export function amplification(value: number | null): string {
  return value === null ? '-' : value.toFixed(1);
}
