import type { Command } from 'commander';
import { mustExist } from '../../compactor/backfill-source.ts';
import type { OrgCatalog, OrgSnapshot } from '../catalog/catalog.ts';
import { InputError } from '../core/errors.ts';
import type { CommandContext } from './context.ts';
import { counted } from './format.ts';
import { positiveInteger, time } from './options.ts';
import type { Output } from './output.ts';
import { EXIT } from './run.ts';
import { iso } from './times.ts';

export interface TimeTravelOptions {
  org: string;
  version?: number;
  asOf?: number;
}

export function addTimeTravel(command: Command): Command {
  return command
    .option('--version <n>', 'as this version of the manifest has it, without the tail', positiveInteger)
    .option('--as-of <time>', 'as the version that was current then: ISO-8601, or an age such as 2h', time);
}

/**
 * The org as it is now, or as a kept version has it, and words for which of the two it is. Throws InputError for an org of
 * which nothing is known: an answer that is empty looks the same for one that is mistyped. One LIST or two more, where
 * it has no manifest and no run.
 */
export async function openView(
  { session, output, signal }: CommandContext,
  { org: orgId, version, asOf }: TimeTravelOptions,
): Promise<{ org: OrgCatalog | OrgSnapshot; label: string }> {
  if (version !== undefined && asOf !== undefined) {
    throw new InputError('--version and --as-of exclude each other.', { hint: 'Leave one of them out.' });
  }
  if (version === undefined && asOf === undefined) {
    const org = await session.catalog.org(orgId).refresh({ signal });
    const { manifest, rowCount } = org.state;
    if (manifest === null && rowCount === 0) await mustExist(session, orgId, signal);
    warnOfQuarantine(output, orgId, org.stats.quarantined);
    return { org, label: `org ${orgId}` };
  }
  const query = version === undefined ? { asOf: asOf as number } : { version };
  const org = await session.catalog.open(orgId, query, { signal });
  const when = org.committedAt === null ? '' : ` of ${iso(org.committedAt)}`;
  return { org, label: `org ${orgId} in version ${org.version}${when}` };
}

/** What a compactor set aside is missing from every answer: that is said each time, and by the exit code. */
function warnOfQuarantine(output: Output, orgId: string, quarantined: number): void {
  if (quarantined === 0) return;
  const entries = counted(quarantined, 'corrupt entry', 'corrupt entries');
  output.note(
    `incomplete: ${entries} of org ${orgId} set aside, and what they said is missing; run runfold repair --org ${orgId}`,
  );
  process.exitCode = EXIT.problem;
}
