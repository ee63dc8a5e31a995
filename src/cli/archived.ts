import type { Archived } from '../../compactor/archive-report.ts';
import { ago, bytes, count, counted, plain } from './format.ts';
import type { Output } from './output.ts';

/** What a pass over an org's logs did, where there is something to say. */
export function showArchived(output: Output, archived: Archived, now?: number): void {
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
    ...(waiting > 0 ? [`${counted(waiting, 'run')} waiting`] : []),
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
    output.note(`renewed: org ${org_id}: the work list could not be read and was begun anew`);
  for (const runId of missing)
    output.note(`missing: org ${org_id}: run ${plain(runId)} has no canonical run`);
}
