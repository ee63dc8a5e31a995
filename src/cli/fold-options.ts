import type { Command } from 'commander';
import { type FoldPolicy, foldPolicy } from '../../compactor/due.ts';
import { InputError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import { LIST_PAGE_MAX } from '../store/object-store.ts';
import { durationOrOff, positiveInteger } from './options.ts';

/** When a compactor folds; see compactor/due.ts. */
export interface FoldOptions {
  foldAfter?: number | 'off';
  foldEntries?: number;
  foldRecords?: number;
}

export function addFoldOptions(command: Command, defaultAge: string): Command {
  return command
    .option(
      '--fold-after <age>',
      `fold a short tail once it is this old; off: at every pass (default: ${defaultAge})`,
      durationOrOff,
    )
    .option('--fold-entries <n>', 'fold a tail of so many entries at once (default: 250)', positiveInteger)
    .option('--fold-records <n>', 'fold a tail of so many records at once (default: 500)', positiveInteger);
}

/** Undefined: everything is folded at every pass, as it is where neither an option nor the command itself says otherwise. */
export function foldPolicyOf(
  { foldAfter, foldEntries, foldRecords }: FoldOptions,
  limits: Limits,
  defaultAfterMs: number | 'off',
): FoldPolicy | undefined {
  const more = foldEntries !== undefined || foldRecords !== undefined;
  if (more && foldAfter === 'off') {
    throw new InputError('--fold-after off leaves no room for --fold-entries and --fold-records.', {
      hint: 'Without a tail that may wait nothing decides when: leave one of them out.',
    });
  }
  if (foldEntries !== undefined && foldEntries > LIST_PAGE_MAX) {
    throw new InputError(`--fold-entries may be ${LIST_PAGE_MAX} at most.`, {
      hint: 'More do not fit the one page that a refresh lists.',
    });
  }
  const policy = foldPolicy(limits);
  const afterMs = foldAfter ?? (more && defaultAfterMs === 'off' ? policy.afterMs : defaultAfterMs);
  if (afterMs === 'off') return undefined;
  return { afterMs, entries: foldEntries ?? policy.entries, records: foldRecords ?? policy.records };
}
