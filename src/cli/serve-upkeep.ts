import type { Archived } from '../../compactor/archive-report.ts';
import type { FoldPolicy } from '../../compactor/due.ts';
import { type Expired, expireOrg } from '../../compactor/expire.ts';
import { openCompactor } from '../../compactor/open.ts';
import { listOrgs } from '../../compactor/orgs.ts';
import { compactPass, type Failure, isFailure, type PassResult, safely } from '../../compactor/pass.ts';
import type { Trigger } from '../../compactor/schedule.ts';
import { errorMessage } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { ResultStore } from '../runs/results.ts';
import type { Logger } from '../service/logger.ts';
import type { Session } from '../session.ts';
import { runPasses } from './compaction.ts';

/** A pass over all orgs every so many passes. */
const FULL_EVERY = 60;

/** As `runfold-compactor --schedule` does it; what goes wrong is in the log, and the next pass tries again. */
export async function foldOnSchedule(
  session: Session,
  trigger: Trigger,
  fold: FoldPolicy | undefined,
  results: ResultStore | null | undefined,
  limits: Limits,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const context = await openCompactor(session, undefined, limits);
  const expire = results === undefined ? undefined : { recorder: session.recorder, results };
  await runPasses(session, {
    trigger,
    fullEvery: FULL_EVERY,
    sweep: true,
    archive: true,
    orphans: true,
    stop: signal,
    pass: (_, which) =>
      compactPass(context, {
        ...which,
        fold,
        expire,
        drain: signal,
        onOrg: (result) => tellPass(logger, result),
      }),
    onError: (error) => logger.warn({ error: errorMessage(error) }, 'pass failed'),
  });
}

function tellPass(logger: Logger, result: PassResult): void {
  const org = result.org_id;
  if (result.outcome === 'failed') {
    logger.warn({ org, code: result.code, error: result.message }, 'fold failed');
    return;
  }
  if (result.quarantined > 0)
    logger.warn({ org, quarantined: result.quarantined }, 'entries were quarantined');
  if (result.expired !== undefined) tellExpired(logger, org, result.expired);
  if (result.archived !== undefined) tellArchived(logger, org, result.archived);
  for (const chore of [result.swept, result.orphans]) {
    if (chore !== undefined && isFailure(chore)) {
      logger.warn({ org, code: chore.code, error: chore.message }, 'a chore failed');
    }
  }
}

function tellArchived(logger: Logger, org: string, done: Archived | Failure): void {
  if (isFailure(done)) {
    logger.warn({ org, code: done.code, error: done.message }, 'logs were not archived');
    return;
  }
  for (const failure of done.failed) logger.warn({ org, ...failure }, 'a log was not archived');
  for (const run of done.given_up) logger.error({ org, run }, 'a log cannot be read and was given up');
  if (done.work_renewed) logger.error({ org }, 'the work list of logs could not be read and was made anew');
  if (done.work_full) logger.error({ org, dropped: done.dropped.length }, 'the work list of logs is full');
  const { archived, partial, lost, waiting } = done;
  if (archived + partial + lost > 0) logger.info({ org, archived, partial, lost, waiting }, 'archived logs');
}

function tellExpired(logger: Logger, org: string, done: Expired | Failure): void {
  if (isFailure(done)) {
    logger.error({ org, error: done.message }, 'expired artifacts were not removed');
    return;
  }
  for (const run of done.failed) logger.error({ org, ...run }, 'expired artifacts were not removed');
  if (done.artifacts.length > 0)
    logger.info({ org, artifacts: done.artifacts.length, waiting: done.waiting }, 'expired artifacts');
}

/** What expired while nobody looked. Later on a compactor does it, on its schedule. Requests do not wait for it. */
export async function sweepAtStart(
  session: Session,
  results: ResultStore | null,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (const org of await listOrgs(session.store, signal)) {
      const expire = () => expireOrg(session, org, session.recorder, { results, signal });
      tellExpired(logger, org, await safely(signal, expire));
    }
  } catch (error) {
    if (!signal.aborted)
      logger.error({ error: errorMessage(error) }, 'expired artifacts were not looked for');
  }
}
