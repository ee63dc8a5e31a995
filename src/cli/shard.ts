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
  const cloudRun = env['CLOUD_RUN_TASK_INDEX'];
  if (cloudRun !== undefined) {
    return parseShard(`${cloudRun}/${count ?? env['CLOUD_RUN_TASK_COUNT'] ?? ''}`);
  }
  const kubernetes = env['JOB_COMPLETION_INDEX'];
  const shards = count ?? env['RUNFOLD_SHARD_COUNT'];
  if (kubernetes !== undefined && shards !== undefined) return parseShard(`${kubernetes}/${shards}`);
  if (kubernetes === undefined && shards === undefined) return undefined;
  throw new InputError(
    kubernetes === undefined
      ? 'The number of shards is known, but not which of them this is.'
      : 'This is a task of an Indexed Job (JOB_COMPLETION_INDEX), but how many there are is not known.',
    {
      hint:
        kubernetes === undefined
          ? 'Say --shard I/N, or run it where JOB_COMPLETION_INDEX or CLOUD_RUN_TASK_INDEX is set.'
          : 'Say --shards N or set RUNFOLD_SHARD_COUNT to the completions of the job; --shard 0/1 takes all orgs.',
    },
  );
}
