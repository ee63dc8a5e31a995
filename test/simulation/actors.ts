import { compactOrg } from '../../compactor/compact.ts';
import { sweepOrphans } from '../../compactor/orphans.ts';
import { compactPass } from '../../compactor/pass.ts';
import { repairOrg } from '../../compactor/repair.ts';
import { sweepOrg } from '../../compactor/sweep.ts';
import type { OrgCatalog } from '../../src/catalog/catalog.ts';
import { LifecycleError, RunfoldError } from '../../src/core/errors.ts';
import { uniform } from '../../src/core/random.ts';
import type { Recorded } from '../../src/runs/recorder.ts';
import type { Desk } from './desk.ts';
import type { World } from './simulate.ts';
import { below, type Call, type Job, observedJob, pick, strayCall, workerJob } from './workload.ts';

/** What one process does until it ends; a crash starts it again with nothing but what the closure keeps. */
export type Life = (desk: Desk) => Promise<void>;

const RUNS_AT_ONCE = 4;

/** A worker of several runs at once, over one log writer. Its callers' queue (`slots`) survives its crashes. */
export function writerLife(world: World, index: number): Life {
  const { random, orgs, setup } = world;
  const slots = Array.from({ length: RUNS_AT_ONCE }, () => ({ job: null as Job | null, at: 0 }));
  let begun = 0;
  const nextJob = (): Job | null => {
    if (world.draining || begun >= setup.runsPerWriter) return null;
    const orgId = pick(random, orgs);
    const runId = `w${index}-${begun++}`;
    return uniform(random) < 0.8
      ? workerJob(random, orgId, runId)
      : observedJob(random, orgId, runId, world.scheduler.now);
  };
  const work = async (desk: Desk, slot: (typeof slots)[number]) => {
    for (;;) {
      slot.job ??= nextJob();
      if (slot.job === null) return;
      while (slot.at < slot.job.calls.length) {
        await desk.sleep(slot.job.gapMs * uniform(random));
        await perform(world, desk, slot.job, slot.job.calls[slot.at]!);
        slot.at++;
      }
      slot.job = null;
      slot.at = 0;
    }
  };
  return async (desk) => {
    await Promise.all(slots.map((slot) => work(desk, slot)));
  };
}

/** People and schedulers: any call on any run, sometimes never repeated. */
export function operatorLife(world: World): Life {
  const { random, orgs, witness, setup } = world;
  // What must not be given up: no sweep looks at runs that have ended, so the record would be lost. (Of a trace the
  // worker repeats the mark, and the archiver looks at the run again.)
  let owing: { orgId: string; runId: string; call: Call } | null = null;
  return async (desk) => {
    while (!world.draining || owing !== null) {
      if (owing !== null) {
        await perform(world, desk, owing, owing.call);
        owing = null;
      }
      await desk.sleep(8_000 * uniform(random));
      const orgId = pick(random, orgs);
      const known = [...witness.runsOf(orgId).values()];
      if (known.length === 0) continue;
      const run = uniform(random) < 0.03 ? NOBODY : pick(random, known).run;
      const { run_id: runId } = run;
      const call = strayCall(random, run, setup.removals);
      if (run === NOBODY && call.kind === 'create') continue;
      if (isOwed(call)) owing = { orgId, runId, call };
      else await perform(world, desk, { orgId, runId }, call, uniform(random) < 0.3 ? 1 : undefined);
    }
  };
}

const OWED: readonly string[] = ['delete', 'trace', 'trace_archived', 'artifact'];

/** What may change a run that has ended. A create does, where lineage events alone have made the run. */
function isOwed(call: Call): boolean {
  return call.kind === 'create' || (call.kind === 'event' && OWED.includes(call.event.type));
}

const NOBODY = { run_id: 'nobody', attempt: 1 };

/** Until it is answered, or `tries` are over. */
async function perform(
  world: World,
  desk: Desk,
  { orgId, runId }: Pick<Job, 'orgId' | 'runId'>,
  call: Call,
  tries = Number.POSITIVE_INFINITY,
): Promise<void> {
  for (let i = 0; i < tries; i++) {
    try {
      const { run, changed } = await send(desk, orgId, runId, call);
      // A heartbeat that asked for no record promises nothing.
      if (run.deleted_at !== null) world.laws.acknowledgeRemoval(orgId, runId);
      else if (!changed || run.indexed_revision === run.revision)
        world.laws.acknowledge(orgId, runId, run.revision);
      return desk.process.say(
        `ACK ${call.kind === 'event' ? call.event.type : call.kind} ${runId}@${run.revision}`,
      );
    } catch (error) {
      if (error instanceof LifecycleError) return desk.process.say(`REFUSED ${runId} ${error.code}`);
      world.met(desk.process.name, error);
      await desk.sleep(500 + 10_000 * uniform(world.random));
    }
  }
}

function send(desk: Desk, orgId: string, runId: string, call: Call): Promise<Recorded> {
  if (call.kind === 'event') return desk.recorder(call.event).apply(orgId, runId, call.event);
  if (call.kind === 'observe') return desk.recorder('observe').observe(orgId, runId, call.observations);
  const event = { type: 'create', orgId, input: call.input, fingerprint: '' } as const;
  return desk.recorder(event).create(orgId, call.input);
}

/** Folds, collects and sweeps, and races its like. */
export function compactorLife(world: World): Life {
  const { random, setup, orgs } = world;
  return async (desk) => {
    while (!world.stopping) {
      // Often close upon each other: races are what this is for.
      await desk.sleep(setup.passGapMs * uniform(random) ** 3);
      try {
        const which = uniform(random) < 0.7 ? 'dirty' : 'all';
        await compactPass(desk.compactor(), {
          orgs: which,
          // Compactors that know no policy fold beside those that do.
          fold: setup.fold !== null && uniform(random) < 0.8 ? setup.fold : undefined,
          onOrg: (result) => {
            if (result.outcome === 'deferred') world.counts.deferrals++;
            if (result.outcome !== 'failed') return;
            if (result.code === 'INTERNAL') world.met(desk.process.name, new Error(result.message));
            else world.met(desk.process.name, new RunfoldError(result.code as 'CORRUPT', result.message));
          },
        });
        if (uniform(random) < 0.1)
          await sweepOrg(desk.compactor(), pick(random, orgs), desk.recorder({ type: 'time_out' }));
        if (uniform(random) < setup.upkeep) await upkeep(world, desk);
      } catch (error) {
        world.met(desk.process.name, error);
      }
    }
  };
}

/** What people run by hand or by night. */
async function upkeep({ random, orgs, setup }: World, desk: Desk): Promise<void> {
  const orgId = pick(random, orgs);
  const which = below(random, 3);
  if (which === 0) await sweepOrphans(desk.compactor(), orgId);
  else if (which === 1) await repairOrg(desk.compactor(), orgId);
  else if (setup.retainMs !== null) {
    const policy = { retain_ms: setup.retainMs, time_travel_ms: 0 };
    await compactOrg(desk.compactor(), orgId, { policy });
  }
}

/** Looks again and again, now at once, now after minutes, now with nothing in memory. */
export function readerLife(world: World): Life {
  const { random, orgs } = world;
  return async (desk) => {
    let catalog = desk.catalog(pick(random, orgs));
    while (!world.stopping) {
      if (uniform(random) < 0.2) catalog = desk.catalog(pick(random, orgs));
      await Promise.all([
        look(world, desk, catalog),
        ...(below(random, 8) === 0 ? [desk.sleep(40).then(() => look(world, desk, catalog))] : []),
      ]);
      const ms = pick(random, [50, 1_000, 5_000, 25_000, 90_000, 250_000]) * uniform(random);
      await (uniform(random) < 0.3 ? desk.sleep(ms) : world.nap(desk, catalog.orgId, 2 * ms));
    }
  };
}

export async function look(world: World, desk: Desk, catalog: OrgCatalog): Promise<void> {
  const owed = world.laws.begin(catalog.orgId);
  try {
    await catalog.refresh();
  } catch (error) {
    world.laws.abandon(owed);
    return world.met(desk.process.name, error);
  }
  const who = `${desk.process.name} (${catalog.stats.cold ? 'cold' : 'warm'})`;
  const { state } = catalog;
  const missing = world.laws.end(owed, catalog, who);
  if (missing.size === 0) return;
  // What is sealed has to be in the history that this very state names.
  try {
    for await (const row of catalog.runs()) world.laws.found(missing, row, catalog.orgId, who);
  } catch (error) {
    return world.met(desk.process.name, error);
  }
  if (catalog.state === state) world.laws.endHistory(missing, catalog, who);
}
