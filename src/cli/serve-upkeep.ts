import { expireOrg } from '../../compactor/expire.ts';
import { openCompactor } from '../../compactor/open.ts';
import { listOrgs } from '../../compactor/orgs.ts';
import { compactPass, type PassResult } from '../../compactor/pass.ts';
import type { Trigger } from '../../compactor/schedule.ts';
import { errorMessage } from '../core/errors.ts';
import type { ResultStore } from '../runs/results.ts';
import type { Logger } from '../service/service.ts';
import type { Session } from '../session.ts';
import { runPasses } from './compaction.ts';

/** A pass over all orgs every so many passes. */
const FULL_EVERY = 60;

/** As `runfold-compactor --schedule` does it; what goes wrong is in the log, and the next pass tries again. */
export async function foldOnSchedule(
  session: Session,
  trigger: Trigger,
  results: ResultStore | null | undefined,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const context = await openCompactor(session);
  const expire = results === undefined ? undefined : { recorder: session.recorder, results };
  const tell = (result: PassResult) => {
    if (result.outcome === 'failed') {
      logger.warn({ org: result.org_id, code: result.code, error: result.message }, 'fold failed');
    } else if (result.quarantined > 0) {
      logger.warn({ org: result.org_id, quarantined: result.quarantined }, 'entries were quarantined');
    }
  };
  await runPasses(session, {
    trigger,
    fullEvery: FULL_EVERY,
    sweep: true,
    orphans: true,
    stop: signal,
    pass: (_, which) => compactPass(context, { ...which, expire, drain: signal, onOrg: tell }),
    onError: (error) => logger.warn({ error: errorMessage(error) }, 'pass failed'),
  });
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
      const done = await expireOrg(session, org, session.recorder, { results, signal }).catch(
        (error: unknown) => {
          if (signal.aborted) throw error;
          logger.error({ org, error: errorMessage(error) }, 'expired artifacts were not removed');
        },
      );
      if (done && done.artifacts.length > 0)
        logger.info({ org, artifacts: done.artifacts.length, waiting: done.waiting }, 'expired artifacts');
    }
  } catch (error) {
    if (!signal.aborted)
      logger.error({ error: errorMessage(error) }, 'expired artifacts were not looked for');
  }
}
