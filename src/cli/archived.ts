import type { Archived } from '../../compactor/archive-report.ts';
import { traceWorkKey } from '../store/keys.ts';
import { ago, bytes, count, counted, plain } from './format.ts';
import type { Output } from './output.ts';

/** Why logs of how many runs wait, for each org of which some do. */
export function showWaiting(output: Output, all: readonly Archived[], now: number): void {
  const some = all.filter(({ waiting }) => waiting > 0);
  if (some.length === 0) return;
  output.table(
    [
      { head: 'ORG', cell: ({ org_id }) => org_id },
      { head: 'WAITING', cell: ({ waiting }) => count(waiting), align: 'right' },
      { head: 'DUE', cell: ({ due }) => count(due), align: 'right' },
      { head: 'CLAIMED', cell: ({ claimed }) => count(claimed), align: 'right' },
      { head: 'BACKING OFF', cell: ({ backing_off }) => count(backing_off), align: 'right' },
      { head: 'SETTLING', cell: ({ settling }) => count(settling), align: 'right' },
      {
        head: 'FIRST ENDED',
        cell: ({ oldest_ended_at }) => (oldest_ended_at === null ? '-' : ago(oldest_ended_at, now)),
        align: 'right',
      },
    ],
    some,
  );
}

function waitingInWords({ due, claimed, backing_off, settling }: Archived): string {
  const states = [
    [due, 'due'],
    [claimed, 'claimed by another'],
    [backing_off, 'backing off'],
    [settling, 'settling'],
  ] as const;
  return states
    .filter(([n]) => n > 0)
    .map(([n, state]) => `${count(n)} ${state}`)
    .join(', ');
}

/** What a pass over an org's logs did, where there is something to say. */
export function showArchived(
  output: Output,
  archived: Archived,
  { now, dryRun = false }: { now?: number; dryRun?: boolean } = {},
): void {
  const { org_id, waiting, oldest_ended_at, failed, given_up, missing, dropped } = archived;
  const done = archived.archived + archived.partial + archived.lost;
  const parts = [
    ...(done > 0
      ? [`${counted(done, 'log')} archived (${bytes(archived.bytes)} in ${bytes(archived.stored_bytes)})`]
      : []),
    ...(archived.partial > 0 ? [`${count(archived.partial)} of them with gaps`] : []),
    ...(archived.lost > 0 ? [`${count(archived.lost)} lost`] : []),
    ...(archived.expired > 0 ? [`${counted(archived.expired, 'archive')} expired`] : []),
    ...(archived.orphans_deleted + archived.leftovers_deleted > 0
      ? [`${counted(archived.orphans_deleted + archived.leftovers_deleted, 'leftover')} deleted`]
      : []),
    ...(waiting > 0 ? [`${counted(waiting, 'run')} waiting (${waitingInWords(archived)})`] : []),
  ];
  if (parts.length > 0) {
    const oldest =
      oldest_ended_at === null || now === undefined ? '' : `, the first ended ${ago(oldest_ended_at, now)}`;
    output.line(`logs: org ${org_id}: ${parts.join(', ')}${oldest}`);
  }
  for (const { run_id, attempts, code, message } of failed) {
    const tries = counted(attempts, 'try', 'tries');
    output.note(
      `not archived: org ${org_id}: run ${plain(run_id)} after ${tries}: ${plain(message)} (${code})`,
    );
  }
  for (const runId of given_up)
    output.note(`given up: org ${org_id}: run ${plain(runId)}: its log cannot be read`);
  for (const runId of dropped)
    output.note(`dropped: org ${org_id}: run ${plain(runId)}: the work list is full`);
  if (archived.work_full)
    output.note(`full: org ${org_id}: too many logs fail at once; mend what the notes above name`);
  if (archived.work_renewed)
    output.note(`corrupt: org ${org_id}: ${traceWorkKey(org_id)} could not be read: ${renewed(dryRun)}`);
  for (const runId of missing)
    output.note(`missing: org ${org_id}: run ${plain(runId)} has no canonical run`);
}

function renewed(dryRun: boolean): string {
  if (dryRun) return 'the next pass makes it anew from the index';
  return 'it was made anew from the index; tries are counted from the beginning, and a full pass (--leftovers) removes archives that only it named';
}
