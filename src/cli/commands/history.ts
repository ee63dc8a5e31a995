import type { Command } from 'commander';
import { mustExist } from '../../../compactor/backfill-source.ts';
import { presentParts, type Readability, readabilityOf } from '../../catalog/readable.ts';
import { keptVersions } from '../../catalog/versions.ts';
import { mapParallel } from '../../core/concurrency.ts';
import { CorruptError, errorMessage } from '../../core/errors.ts';
import type { Manifest } from '../../manifest/manifest.ts';
import { type CurrentManifest, readManifest, readManifestCopy } from '../../manifest/manifest-store.ts';
import type { Session } from '../../session.ts';
import { withSession } from '../context.ts';
import { bytes, count, counted, plain } from '../format.ts';
import { orgOption, positiveInteger } from '../options.ts';
import type { Output } from '../output.ts';
import { EXIT, Exit } from '../run.ts';
import { iso } from '../times.ts';

interface KeptVersion extends Readability {
  version: number;
  current: boolean;
  /** Server time; null: not known. */
  committed_at: number | null;
  created_at: number;
  rows: number;
  active: number;
  entries: number;
  records: number;
  parts: number;
  bytes: number;
}

interface History {
  org_id: string;
  versions: (KeptVersion | { version: number; current: false; problem: string })[];
  /** Kept versions, those that --limit left out included. */
  kept: number;
}

export function historyCommand(program: Command, signal: AbortSignal): void {
  program
    .command('history')
    .description('the versions of an org that are kept, the current one first, and whether they can be read')
    .addOption(orgOption())
    .option('--limit <n>', 'at most so many', positiveInteger)
    .action(async ({ org, limit }: { org: string; limit?: number }, command: Command) => {
      const history = await withSession(command, signal, async ({ session, output }) => {
        const found = await historyOf(session, org, limit ?? Number.POSITIVE_INFINITY, signal);
        if (found.kept === 0) await mustExist(session, org, signal);
        output.value(found);
        show(output, found);
        return found;
      });
      // That a repair took parts of superseded versions is told; only what a repair would still mend is a problem.
      if (history.versions.some((one) => 'problem' in one || (one.current && one.readable !== 'all')))
        throw new Exit(EXIT.problem);
    });
}

/** Requests: GET manifest, LIST copies, LIST parts, and a GET per version shown. */
async function historyOf(
  { store, limits }: Session,
  orgId: string,
  limit: number,
  signal: AbortSignal,
): Promise<History> {
  const [read, copies] = await Promise.all([
    readManifest(store, orgId, { signal }),
    keptVersions(store, orgId, { signal }),
  ]);
  const { manifest, committedAt } = read as CurrentManifest;
  if (manifest === null) return { org_id: orgId, versions: [], kept: 0 };
  const older = copies.filter((version) => version < manifest.version).reverse();
  const shown = older.slice(0, Math.max(0, limit - 1));
  const manifests = await mapParallel(
    shown,
    limits.parallelMax,
    (version, stop) => readManifestCopy(store, orgId, version, { signal: stop }).catch(problemIfCorrupt),
    signal,
  );
  const present = await presentParts(store, orgId, { signal });
  const quarantined = new Set(manifest.quarantine.map(({ key }) => key));
  const readability = (one: Manifest) => readabilityOf(one, present, quarantined);
  const versions: History['versions'] = [
    { ...summary(manifest), current: true, committed_at: committedAt, ...readability(manifest) },
  ];
  let after: Manifest | null = manifest;
  for (const [i, copy] of manifests.entries()) {
    const version = shown[i]!;
    // Collected since it was listed.
    if (copy === null) continue;
    if (typeof copy === 'string') versions.push({ version, current: false, problem: copy });
    else {
      const committed_at: number | null = after?.version === version + 1 ? after.previous_committed_at : null;
      versions.push({ ...summary(copy), current: false, committed_at, ...readability(copy) });
    }
    after = typeof copy === 'string' ? null : copy;
  }
  return { org_id: orgId, versions, kept: older.length + 1 };
}

function problemIfCorrupt(error: unknown): string {
  if (error instanceof CorruptError) return errorMessage(error);
  throw error;
}

function summary({ version, created_at, rows, active, fold, parts }: Manifest) {
  const size = parts.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  const { entries, records } = fold;
  return { version, created_at, rows, active, entries, records, parts: parts.length, bytes: size };
}

const READABLE = { all: 'yes', head: 'all but sealed runs', none: 'no' } as const;

function show(output: Output, { org_id, versions, kept }: History): void {
  if (versions.length === 0) {
    output.line(`Org ${org_id} has no manifest: nothing of it was folded yet.`);
    return;
  }
  const shown = versions.filter((version): version is KeptVersion => !('problem' in version));
  for (const version of versions)
    if ('problem' in version)
      output.note(`unreadable: version ${version.version}: ${plain(version.problem)}`);
  output.table(
    [
      { head: 'VERSION', cell: ({ version }) => count(version), align: 'right' },
      { head: 'COMMITTED', cell: ({ committed_at }) => (committed_at === null ? '-' : iso(committed_at)) },
      { head: 'ROWS', cell: ({ rows }) => count(rows), align: 'right' },
      { head: 'ACTIVE', cell: ({ active }) => count(active), align: 'right' },
      { head: 'ENTRIES', cell: ({ entries }) => count(entries), align: 'right' },
      { head: 'RECORDS', cell: ({ records }) => count(records), align: 'right' },
      { head: 'PARTS', cell: ({ parts }) => count(parts), align: 'right' },
      { head: 'SIZE', cell: (version) => bytes(version.bytes), align: 'right' },
      { head: 'READABLE', cell: ({ readable }) => READABLE[readable] },
    ],
    shown,
  );
  for (const { version, why } of shown) if (why !== null) output.line(`version ${count(version)}: ${why}`);
  const more = versions.length < kept ? ` of ${count(kept)} (--limit shows more)` : '';
  output.line(`\n${counted(versions.length, 'version')}${more} of org ${org_id}`);
  output.line(
    `Readable: what it names is there, and not in quarantine. Whether it is whole tells runfold verify --org ${org_id}.`,
  );
}
