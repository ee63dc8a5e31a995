import { compactOrg } from '../../compactor/compact.ts';
import { sweepOrg } from '../../compactor/sweep.ts';
import { seededRandom } from '../../src/core/random.ts';
import { logPrefix } from '../../src/store/keys.ts';
import { look } from './actors.ts';
import type { Desk } from './desk.ts';
import { Process } from './process.ts';
import type { World } from './simulate.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** When all is quiet: sweep, fold, and hold every org against its canonical runs; then again a day later. */
export async function audit(world: World): Promise<void> {
  const { scheduler, witness, laws } = world;
  const desk = world.desk(new Process(world, 'auditor', 'auditor', { offsetMs: 0, driftPpm: 0 }));
  let done = false;
  const work = auditAll(world, desk).then(
    () => (done = true),
    (error: unknown) => {
      done = true;
      world.met('auditor', error);
      witness.fail('progress', `the audit failed: ${(error as Error).stack}`);
    },
  );
  if (!(await scheduler.run(() => done, scheduler.now + 3 * DAY)))
    witness.fail('progress', 'the audit hangs');
  else await work;
  laws.checkFold(seededRandom(world.setup.seed));
}

async function auditAll(world: World, desk: Desk): Promise<void> {
  const { laws, witness, orgs, setup } = world;
  for (const orgId of orgs) {
    await sweepOrg(desk.compactor(), orgId, desk.recorder({ type: 'time_out' }), { ageMs: 0 }).catch(
      (error) => world.met('auditor', error),
    );
    for (let i = 0; i < 3; i++) {
      const catalog = desk.catalog(orgId);
      await look(world, desk, catalog);
      if (!setup.rot) await laws.checkReplay(catalog, `audit ${i}`);
      await fold(world, desk, orgId);
    }
  }
  // Every grace and every intent's time to live are over: fold and collect what is left.
  await desk.sleep(DAY + 10 * MINUTE);
  for (const orgId of orgs) {
    await fold(world, desk, orgId);
    await desk.sleep(70 * MINUTE);
    await fold(world, desk, orgId);
    const catalog = desk.catalog(orgId);
    await look(world, desk, catalog);
    if (setup.rot) continue;
    await laws.checkReplay(catalog, 'audit, a day later');
    const log = await desk.store.list({ prefix: logPrefix(orgId) });
    if (log.items.length > 0)
      witness.fail(
        'progress',
        `${orgId}: ${log.items.length} entries are left, such as ${log.items[0]?.key}`,
      );
  }
}

async function fold(world: World, desk: Desk, orgId: string): Promise<void> {
  try {
    await compactOrg(desk.compactor(), orgId);
  } catch (error) {
    world.met('auditor', error);
    if (!world.setup.rot) throw error;
  }
}
