import { openCompactor } from '../../compactor/open.ts';
import { compactPass } from '../../compactor/pass.ts';
import { isRunfoldError } from '../../src/core/errors.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { openSession, type Session } from '../../src/session.ts';
import { openStore } from '../../src/store/open.ts';
import { KILL_LIMITS, ORGS } from './limits.ts';

/** A process that writes or compacts until it is killed. Each acknowledgement is a line on standard output. */
const [role, url, seed] = process.argv.slice(2) as ['writer' | 'compactor', string, string];
const random = seededRandom(Number(seed));
const pick = (n: number) => Math.floor(uniform(random) * n);

const session = openSession(await openStore(url), { limits: KILL_LIMITS });
const context = await openCompactor(session);
process.stdout.write('"ready"\n');
if (role === 'compactor') {
  for (;;) await compactPass(context, { orgs: 'all' });
} else {
  await Promise.all(Array.from({ length: 4 }, (_, lane) => write(session, lane)));
}

async function write(to: Session, lane: number): Promise<never> {
  for (let n = 0; ; n++) {
    const orgId = ORGS[pick(ORGS.length)]!;
    const runId = `run-${seed}-${lane}-${n}`;
    const outputs = [{ namespace: 'db', name: `table-${pick(9)}` }];
    await acknowledge(orgId, to.recorder.create(orgId, { run_id: runId, queue: `q${pick(3)}` }));
    const life: RunEvent[] = [
      { type: 'started', attempt: 1 },
      { type: 'task', attempt: 1, task: { type: 'started', key: 'load', attempt: 1 } },
      pick(4) === 0
        ? { type: 'failed', attempt: 1, error: { code: null, message: 'no' } }
        : { type: 'succeeded', attempt: 1, outputs },
    ];
    for (const event of life.slice(0, 1 + pick(4)))
      await acknowledge(orgId, to.recorder.apply(orgId, runId, event));
  }
}

async function acknowledge(orgId: string, call: ReturnType<Session['recorder']['apply']>): Promise<void> {
  try {
    const { run } = await call;
    // A pipe is written at once on POSIX: what stands there was acknowledged before the kill.
    process.stdout.write(`${JSON.stringify([orgId, run.run_id, run.revision])}\n`);
  } catch (error) {
    if (!isRunfoldError(error)) throw error;
  }
}
