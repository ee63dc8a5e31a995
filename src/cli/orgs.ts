import { type Command, Option } from 'commander';
import { mustExist } from '../../compactor/backfill-source.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { listOrgs } from '../../compactor/orgs.ts';
import { type Failure, isFailure, safely } from '../../compactor/pass.ts';
import { InputError } from '../core/errors.ts';
import { plain } from './format.ts';
import { orgsOption } from './options.ts';
import type { Output } from './output.ts';

/** `--org A --org B`, or `--all`: one of the two must be said. */
export interface OrgsOptions {
  org?: string[];
  all?: boolean;
}

export function addOrgsOptions(command: Command): Command {
  return command
    .addOption(orgsOption('this org; may be repeated'))
    .addOption(new Option('--all', 'every org there is'));
}

export function checkOrgsOptions({ org, all }: OrgsOptions): void {
  if ((org === undefined) === (all !== true)) {
    throw new InputError(org === undefined ? 'No org was named.' : '--org and --all exclude each other.', {
      hint: 'Say either --org ORG or --all.',
    });
  }
}

/** Throws InputError for a named org of which nothing is known: one LIST for each, or two. */
export async function orgsOf(
  context: CompactorContext,
  { org }: OrgsOptions,
  signal: AbortSignal,
): Promise<string[]> {
  for (const one of org ?? []) await mustExist(context, one, signal);
  return org ?? (await listOrgs(context.store, signal));
}

/** Of one org: what the work gave, or why it failed. */
export type PerOrg<T> = T | ({ org_id: string } & Failure);

/** One org after the other. One that fails is told on standard error, and stops nobody. */
export async function forEachOrg<T extends { org_id: string }>(
  output: Output,
  orgs: readonly string[],
  signal: AbortSignal,
  work: (orgId: string) => Promise<T>,
): Promise<{ results: PerOrg<T>[]; good: T[] }> {
  const results: PerOrg<T>[] = [];
  const good: T[] = [];
  for (const orgId of orgs) {
    const result = await safely(signal, () => work(orgId));
    if (isFailure(result)) {
      results.push({ org_id: orgId, ...result });
      noteFailure(output, orgId, result);
    } else {
      results.push(result);
      good.push(result);
    }
  }
  return { results, good };
}

/** One line on standard error; what to do about it where that is known. */
export function noteFailure(output: Output, orgId: string, { code, message }: Failure): void {
  const remedy =
    code === 'CORRUPT'
      ? `; run runfold verify --org ${orgId}, and runfold repair --org ${orgId} to rebuild from its canonical runs`
      : '';
  output.note(`failed: org ${orgId}: ${plain(message)} (${code})${remedy}`);
}
