import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { openCompactor } from '../../../compactor/open.ts';
import { systemClock } from '../../core/clock.ts';
import { reasonFor } from '../../core/errors.ts';
import { amplification } from '../compaction.ts';
import { withSession } from '../context.ts';
import { ago, bold, bytes, count, counted, exactDuration, plain } from '../format.ts';
import { type Inspection, inspectOrg } from '../inspection.ts';
import { orgOption } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';
import { iso } from '../times.ts';

export function inspectCommand(program: Command, signal: AbortSignal): void {
  program
    .command('inspect')
    .description("an org's manifest, parts, tail and garbage")
    .addOption(orgOption())
    .option(
      '--check',
      'read every object of the catalog, and tell which make no sense (canonical runs: see verify)',
    )
    .action(async ({ org, check }: { org: string; check?: boolean }, command: Command) => {
      const { corrupt } = await withSession(command, signal, async ({ session, output }) => {
        const inspection = await inspectOrg(await openCompactor(session), org, {
          signal,
          check: check ?? false,
        });
        if (inspection.manifest === null) await mustExist(session, org, signal);
        output.value(inspection);
        if (!output.json) show(output, inspection);
        return inspection;
      });
      if (corrupt.length > 0) throw new Exit(EXIT.problem);
    });
}

function show(output: Output, { org, manifest, tail, garbage, checked, corrupt }: Inspection): void {
  if (manifest === null) output.line(`Org ${org} has no manifest: nothing of it was folded yet.`);
  else showManifest(output, manifest);
  section(output, 'Tail');
  fields(output, [
    [
      'entries',
      `${count(tail.entries)} (${bytes(tail.bytes)}${tail.corrupt > 0 ? `, ${count(tail.corrupt)} corrupt` : ''})`,
    ],
    ['records', `${count(tail.records)} (${counted(tail.intents, 'intent')})`],
    ['oldest', whenOf(tail.oldest_at)],
  ]);
  section(output, 'Garbage');
  fields(output, [
    ['lists', count(garbage.lists)],
    [
      'objects',
      `${count(garbage.objects)} (${counted(garbage.entries, 'entry', 'entries')}, ${counted(garbage.parts, 'part')}, ${counted(garbage.manifests, 'manifest copy', 'manifest copies')})`,
    ],
    ['oldest', whenOf(garbage.oldest_at)],
  ]);
  section(output, 'Corrupt');
  for (const { key, reason } of corrupt) output.line(`  ${plain(key)}: ${plain(reason)}`);
  if (corrupt.length === 0) output.line(`  nothing ${checked ? 'in all objects of the catalog' : 'known'}`);
  else output.line(`  What they said is missing or refused: runfold repair --org ${org} makes it good.`);
  if (!checked)
    output.line('  History parts and copies of manifests were not read: --check reads every object.');
}

function showManifest(output: Output, manifest: NonNullable<Inspection['manifest']>): void {
  output.line(bold(`Manifest of org ${manifest.org_id}`));
  const { fold, totals, quarantine, policy, horizon } = manifest;
  fields(output, [
    ['version', `${count(manifest.version)}, committed ${whenOf(manifest.committed_at)}`],
    ['size', bytes(manifest.size_bytes)],
    ['rows', `${count(manifest.rows)} (${count(manifest.active)} active)`],
    ['covers until', iso(manifest.covers_until)],
    ['state hash', manifest.state_hash],
    [
      'this fold',
      `${counted(fold.entries, 'entry', 'entries')}, ${counted(fold.records, 'record')}, ${counted(fold.ties, 'tie')}`,
    ],
    [
      'all folds',
      `${counted(totals.entries, 'entry', 'entries')}, ${counted(totals.records, 'record')}, ${counted(totals.rows_written, 'row')} written`,
    ],
    ['amplification', `${amplification(manifest.write_amplification)} rows written per run`],
    ['retain', policy.retain_ms === null ? 'off' : exactDuration(policy.retain_ms)],
    ['time travel', policy.time_travel_ms === 0 ? 'off' : exactDuration(policy.time_travel_ms)],
    ['horizon', horizon === null ? '-' : iso(horizon)],
    ['open intents', count(manifest.intents.length)],
    ['tombstones', count(manifest.tombstones.length)],
    ['quarantine', count(quarantine.length)],
  ]);
  for (const { key, reason, since, released } of quarantine) {
    const state = released
      ? 'released by a repair: nothing is missing for it'
      : plain(reasonFor(key, reason));
    output.line(`  ${iso(since)} ${plain(key)}: ${state}`);
  }
  section(output, 'Parts');
  output.table(
    [
      { head: 'PART', cell: ({ name }) => name },
      { head: 'LEVEL', cell: ({ level }) => (level === 0 ? 'head' : count(level)), align: 'right' },
      { head: 'RUNS', cell: ({ runs }) => count(runs), align: 'right' },
      { head: 'ROWS', cell: ({ rows }) => count(rows), align: 'right' },
      {
        head: 'GROUPS',
        cell: ({ row_groups }) => (row_groups === null ? '-' : count(row_groups)),
        align: 'right',
      },
      { head: 'SIZE', cell: ({ size_bytes }) => bytes(size_bytes), align: 'right' },
      { head: 'WHERE', cell: ({ inline_bytes }) => (inline_bytes === null ? 'object' : 'in the manifest') },
      {
        head: 'OLDEST RUN',
        cell: ({ created_at_min }) => (created_at_min === null ? '-' : iso(created_at_min)),
      },
    ],
    manifest.parts,
  );
}

function section(output: Output, title: string): void {
  output.line(`\n${bold(title)}`);
}

function fields(output: Output, pairs: readonly (readonly [name: string, value: string])[]): void {
  const width = Math.max(...pairs.map(([name]) => name.length));
  for (const [name, value] of pairs) output.line(`  ${name.padEnd(width)}  ${value}`);
}

function whenOf(ms: number | null): string {
  return ms === null ? '-' : `${iso(ms)} (${ago(ms, systemClock.now())})`;
}
