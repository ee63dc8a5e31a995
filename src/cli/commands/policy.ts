import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { compactOrg } from '../../../compactor/compact.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { checkPolicy, type Forgotten, previewPolicy } from '../../../compactor/policy.ts';
import { KEEP_ALL } from '../../../compactor/retention.ts';
import { InputError, RunfoldError } from '../../core/errors.ts';
import type { Policy } from '../../manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../../manifest/manifest-store.ts';
import type { Session } from '../../session.ts';
import { type CommandContext, withSession } from '../context.ts';
import { count, counted, exactDuration } from '../format.ts';
import { durationOrOff, orgOption } from '../options.ts';
import type { Output } from '../output.ts';
import { iso } from '../times.ts';
import { type TraceOptions, traceLimitsOf, traceWindowOption } from '../trace-options.ts';

interface SetOptions extends Pick<TraceOptions, 'traceWindow'> {
  org: string;
  retain?: number | 'off';
  timeTravel?: number | 'off';
  traceRetain?: number | 'off';
  dryRun?: boolean;
}

export function policyCommand(program: Command, signal: AbortSignal): void {
  const policy = program.command('policy').description('how long an org is remembered');
  policy
    .command('show')
    .description("an org's policy")
    .addOption(orgOption())
    .action(async ({ org }: { org: string }, command: Command) => {
      await withSession(command, signal, async ({ session, output }) => {
        const { version, policy, horizon } = await currentPolicy(session, org, signal);
        if (version === null) await mustExist(session, org, signal);
        output.value({ org_id: org, version, policy, horizon });
        show(output, policy, horizon);
      });
    });
  policy
    .command('set')
    .description('change it; what was forgotten does not come back')
    .addOption(orgOption())
    .option(
      '--retain <duration>',
      'forget runs that ended longer ago, such as 90d; off: never',
      durationOrOff,
    )
    .option(
      '--time-travel <duration>',
      'keep old versions readable for so long, such as 7d; off',
      durationOrOff,
    )
    .option(
      '--trace-retain <duration>',
      'delete archived logs so long after they were archived, such as 365d; off: never',
      durationOrOff,
    )
    .addOption(
      traceWindowOption(
        'the window that archivers have, which --trace-retain may not be below (default: 48h)',
      ),
    )
    .option('--dry-run', 'tell how much the policy would forget; change nothing')
    .action(async (options: SetOptions, command: Command) => {
      const { retain, timeTravel, traceRetain } = options;
      if (retain === undefined && timeTravel === undefined && traceRetain === undefined) {
        throw new InputError('Nothing to set.', { hint: 'Say --retain, --time-travel or --trace-retain.' });
      }
      const changes = changesOf(options);
      checkPolicy(changes, traceLimitsOf(options));
      await withSession(command, signal, (context) => setPolicy(context, options, changes));
    });
}

function changesOf({ retain, timeTravel, traceRetain }: SetOptions): Partial<Policy> {
  return {
    ...(retain !== undefined && { retain_ms: retain === 'off' ? null : retain }),
    ...(timeTravel !== undefined && { time_travel_ms: timeTravel === 'off' ? 0 : timeTravel }),
    ...(traceRetain !== undefined && { trace_retain_ms: traceRetain === 'off' ? null : traceRetain }),
  };
}

async function setPolicy(
  { session, output, signal }: CommandContext,
  { org: orgId, dryRun = false }: SetOptions,
  changes: Partial<Policy>,
): Promise<void> {
  const context = await openCompactor(session);
  await mustExist(context, orgId, signal);
  const before = await currentPolicy(session, orgId, signal);
  const policy: Policy = { ...before.policy, ...changes };
  let { version } = before;
  let { horizon, ...forgets } = await previewPolicy(context, orgId, policy, signal);
  if (!dryRun) {
    const compacted = await compactOrg(context, orgId, { policy, signal });
    if (compacted.outcome !== 'committed') {
      throw new RunfoldError(
        'REVISION_CONFLICT',
        `The manifest of org ${orgId} changes too often to be set.`,
        {
          hint: 'Repeat the command. The policy is as it was.',
        },
      );
    }
    version = compacted.version as number;
    horizon = await committedHorizon(session, orgId, version, signal);
  }
  output.value({ org_id: orgId, dry_run: dryRun, version, policy, horizon, forgets });
  show(output, policy, horizon);
  output.line(`${dryRun ? 'would forget' : 'forgets'}  ${inWords(forgets)}`);
  if (!dryRun) output.line(`\nVersion ${count(version ?? 0)} of org ${orgId} has it.`);
}

async function currentPolicy({ store }: Session, orgId: string, signal: AbortSignal) {
  const { manifest } = (await readManifest(store, orgId, { signal })) as CurrentManifest;
  return {
    version: manifest?.version ?? null,
    policy: manifest?.policy ?? KEEP_ALL,
    horizon: manifest?.horizon ?? null,
  };
}

/** What that version says: time has passed since the preview, and later versions may be there already. */
async function committedHorizon(
  { store }: Session,
  orgId: string,
  version: number,
  signal: AbortSignal,
): Promise<number | null> {
  const { manifest } = (await readManifest(store, orgId, { signal })) as CurrentManifest;
  if (manifest?.version === version) return manifest.horizon;
  return ((await readManifestCopy(store, orgId, version, { signal })) ?? manifest)?.horizon ?? null;
}

function show(
  output: Output,
  { retain_ms, time_travel_ms, trace_retain_ms = null }: Policy,
  horizon: number | null,
): void {
  output.line(
    `retain        ${retain_ms === null ? 'off: runs are never forgotten' : exactDuration(retain_ms)}`,
  );
  output.line(`time travel   ${time_travel_ms === 0 ? 'off' : exactDuration(time_travel_ms)}`);
  output.line(
    `logs          ${trace_retain_ms === null ? 'off: archives are never deleted' : exactDuration(trace_retain_ms)}`,
  );
  output.line(`horizon       ${horizon === null ? '-' : iso(horizon)}`);
}

function inWords({ head_runs, parts, part_runs, parts_partly }: Omit<Forgotten, 'horizon'>): string {
  const partly =
    parts_partly === 0 ? '' : `; of ${counted(parts_partly, 'part')} more some runs may no longer be shown`;
  return `${counted(head_runs, 'run')} of the head and ${counted(parts, 'history part')} with ${counted(part_runs, 'run')}${partly}`;
}
