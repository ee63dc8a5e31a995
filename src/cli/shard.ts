import { InputError } from '../core/errors.ts';

/** One of `count` shares of all orgs; `index` counts from 0. */
export interface Shard {
  index: number;
  count: number;
}

/** `I/N`, I from 0 to N − 1. */
export function parseShard(text: string): Shard {
  const match = /^(\d{1,6})\/(\d{1,6})$/.exec(text);
  const shard = { index: Number(match?.[1]), count: Number(match?.[2]) };
  if (match !== null && shard.index < shard.count) return shard;
  throw new InputError(`${JSON.stringify(text)} is not a shard.`, {
    hint: 'Write I/N with I from 0 to N - 1: of three compactors the first is 0/3, the last 2/3.',
  });
}

/**
 * The share of this task of a Cloud Run job (CLOUD_RUN_TASK_INDEX, CLOUD_RUN_TASK_COUNT) or of a Kubernetes Indexed Job
 * (JOB_COMPLETION_INDEX; Kubernetes does not tell how many there are, so `count` or RUNFOLD_SHARD_COUNT must).
 * Undefined: it is none.
 */
export function shardOfTask(
  env: Readonly<Record<string, string | undefined>>,
  count?: number,
): Shard | undefined {
  const shards = count?.toString() ?? env['RUNFOLD_SHARD_COUNT'];
  for (const { index, counts } of JOBS) {
    const task = env[index];
    if (task === undefined || task === '') continue;
    const of = count?.toString() ?? (counts === null ? shards : env[counts]);
    if (of === undefined || of === '') {
      throw new InputError(`This is a task of a job (${index}), but how many there are is not known.`, {
        hint: `Say --shards N or set ${counts ?? 'RUNFOLD_SHARD_COUNT'} to the tasks of the job; --shard 0/1 takes all orgs.`,
      });
    }
    return shardOf(index, task, of);
  }
  if (shards === undefined) return undefined;
  throw new InputError('The number of shards is known, but not which of them this is.', {
    hint: 'Say --shard I/N, or run it where JOB_COMPLETION_INDEX or CLOUD_RUN_TASK_INDEX is set.',
  });
}

/** Kubernetes does not tell its tasks how many there are. */
const JOBS = [
  { index: 'CLOUD_RUN_TASK_INDEX', counts: 'CLOUD_RUN_TASK_COUNT' },
  { index: 'JOB_COMPLETION_INDEX', counts: null },
] as const;

function shardOf(variable: string, index: string, count: string): Shard {
  try {
    return parseShard(`${index}/${count}`);
  } catch (cause) {
    throw new InputError(`${variable} is ${JSON.stringify(index)}, which is no shard of ${count}.`, {
      hint: 'It counts from 0: the number of shards must be that of the tasks of the job.',
      cause,
    });
  }
}
