import { describe, expect, it } from 'vitest';
import { type Backfilled, type BackfillOptions, backfill } from '../../compactor/backfill.ts';
import { compactOrg } from '../../compactor/compact.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { openRunStore } from '../../src/runs/open.ts';
import { encodeRun, type Run } from '../../src/runs/run.ts';
import type { RunStore } from '../../src/runs/run-store.ts';
import { openSession } from '../../src/session.ts';
import { manifestKey, RUNS_PREFIX, runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { wholeRun as runOf } from '../runs/run-store-objects.ts';
import { FakeClock, START } from '../support/fake-clock.ts';
import { intercept } from '../support/intercept.ts';
import { worldOn } from '../support/world.ts';

const DAY = 86_400_000;
/** More of them: FORETOLD_SEEDS=1,2,3. */
const SEEDS = (process.env.FORETOLD_SEEDS ?? '1').split(',').map(Number);
/** In folders' names the slash comes behind the hyphen, in a database the shorter id comes first. */
const ORGS = ['acme', 'acme-x', 'beta', 'broken', 'future'];
const raw = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Some of everything that a backfill can meet, by a seed. */
async function deployment(seed: number, runStore: 'objects' | 'sqlite') {
  const clock = new FakeClock(START + 90 * DAY);
  const memory = new MemoryStore({ clock });
  const limits = { headRowsMax: 30, mergeFanIn: 4, historyGroupRows: 20 };
  const world = await worldOn(memory, { clock, limits });
  const runs: RunStore =
    runStore === 'objects'
      ? world.compactor.runs
      : await openRunStore('sqlite::memory:', { store: memory, missing: 'create' });
  const context: CompactorContext = { ...world.compactor, runs };
  const session = openSession(memory, { clock, limits, random: seededRandom(seed), runs });
  const random = seededRandom(seed);
  const float = () => uniform(random);
  const flat = (run: Run) => memory.put(`${RUNS_PREFIX}${run.run_id}.json`, encodeRun(run));
  const records = async (run: Run) => session.recorder.repeatRecord(run);
  for (const org_id of ORGS) {
    for (let i = 0; i < 30; i++) {
      const run = someRun(org_id, i, float);
      const kind = Math.floor(float() * 6);
      // Canonical alone; both alike; the flat one newer; flat alone; canonical with its record; the record of an older one.
      if (kind !== 3) await runs.create(run);
      if (kind === 1) await flat(run);
      if (kind === 2) await flat({ ...run, revision: 4, indexed_revision: 4 });
      if (kind === 3) await flat(run);
      if (kind === 4) await records(run);
      if (kind === 5) await records({ ...run, revision: 2, indexed_revision: 2 });
    }
  }
  await flat(someRun('only-flat', 1, float));
  for (const orgId of ['acme', 'broken', 'future']) await compactOrg(context, orgId);
  // Forgets some of what the log has not brought yet, and what comes from flat keys.
  await compactOrg(context, 'acme', { policy: { retain_ms: 85 * DAY, time_travel_ms: 0 } });
  await memory.put(manifestKey('broken'), raw('{'));
  const got = await memory.get(manifestKey('future'));
  if (got.outcome !== 'found') throw new Error('no manifest');
  const manifest = JSON.parse(new TextDecoder().decode(got.body));
  await memory.put(manifestKey('future'), raw({ ...manifest, writer_features: ['unheard-of'] }));
  await memory.put(`${RUNS_PREFIX}no-org.json`, raw({ format: 1, run_id: 'no-org' }));
  await memory.put(runKey('acme', 'torn'), raw('{'));
  return { clock, memory, context, session };
}

function someRun(org_id: string, i: number, float: () => number): Run {
  const at = START + Math.floor(float() * 20) * DAY;
  const deleted = float() < 0.1;
  const active = !deleted && float() < 0.2;
  return runOf({
    org_id,
    run_id: `${org_id}-${String(i).padStart(3, '0')}`,
    status: active ? 'RUNNING' : 'SUCCEEDED',
    revision: 3,
    indexed_revision: 3,
    created_at: at,
    updated_at: at + 500,
    indexed_at: at + 500,
    finished_at: active ? null : at + 500,
    deleted_at: deleted ? at + 600 : null,
  });
}

type Deployment = Awaited<ReturnType<typeof deployment>>;

const fill = ({ context, session }: Deployment, options: BackfillOptions) =>
  backfill(context, session.recorder, { unitRuns: 17, ...options });

const CASES: { name: string; before?: (at: Deployment) => Promise<unknown>; options: BackfillOptions[] }[] = [
  { name: 'all at once, and again', options: [{}, {}] },
  { name: 'moved', options: [{ legacy: 'move' }] },
  { name: 'flat keys passed over, then not', options: [{ legacy: 'skip' }, {}] },
  { name: 'shares, one after the other', options: shares(3) },
  { name: 'shares of other counts', options: [...shares(2).slice(1), ...shares(3), {}] },
  { name: 'named orgs', options: [{ orgs: ['acme-x', 'only-flat', 'future'] }, { orgs: ['acme'] }, {}] },
  { name: 'named orgs in shares', options: shares(2).map((one) => ({ ...one, orgs: ['acme', 'acme-x'] })) },
  { name: 'after a kill early on', before: (at) => killed(at, 400, {}), options: [{}, {}] },
  { name: 'after a kill later', before: (at) => killed(at, 1_500, {}), options: [{ parallel: 3 }] },
  {
    name: 'a share after a kill',
    before: (at) => killed(at, 900, { shard: share(1, 2) }),
    options: shares(2),
  },
  {
    name: 'flat runs that came later',
    before: (at) => fill(at, { legacy: 'skip', shard: share(0, 2) }),
    options: [{}],
  },
  {
    name: 'after a finished one, with other units',
    before: (at) => fill(at, {}),
    options: [{ unitRuns: 7 }],
  },
  { name: 'at a rate', options: [{ ratePerSecond: 500 }] },
];

function share(index: number, count: number) {
  return { index, count };
}

function shares(count: number): BackfillOptions[] {
  return Array.from({ length: count }, (_, index) => ({ shard: share(index, count) }));
}

/** Stops at some request for ever. */
async function killed(at: Deployment, requests: number, options: BackfillOptions) {
  let left = requests;
  const store = intercept(at.memory, async (_, go) => {
    if (left-- <= 0) throw new Error('killed');
    return go();
  });
  await fill({ ...at, context: { ...at.context, store } }, options).catch(() => undefined);
}

/** Lets time pass for as long as somebody waits: a rate does. */
async function driven<T>({ clock }: Deployment, rate: number | undefined, work: Promise<T>): Promise<T> {
  if (rate === undefined) return work;
  let ended = false;
  const end = () => {
    ended = true;
  };
  work.then(end, end);
  while (!ended) await clock.advance(100);
  return work;
}

/** What was told over all cases: a test that never meets something proves nothing of it. */
const met = {
  indexed: 0,
  unchanged: 0,
  skipped: 0,
  failed: 0,
  orgs: 0,
  copied: 0,
  recorded: 0,
  before: 0,
  left: 0,
};

describe.each(['objects', 'sqlite'] as const)('a dry run of backfill, runs in %s', (runStore) => {
  it.each(CASES)('tells what the real one then does: $name', async ({ name, before, options }) => {
    for (const seed of SEEDS) {
      const at = await deployment(seed + name.length, runStore);
      await before?.(at);
      for (const one of options) {
        const writes: string[] = [];
        const store = intercept(at.memory, (call, go) => {
          if (call.operation === 'put' || call.operation === 'delete') writes.push(call.key);
          return go();
        });
        const dryAt = { ...at, context: { ...at.context, store } };
        const dry = await driven(at, one.ratePerSecond, fill(dryAt, { ...one, dryRun: true }));
        expect(writes).toEqual([]);
        const real = await driven(at, one.ratePerSecond, fill(at, one));
        expect(dry).toEqual(real);
        note(real);
      }
    }
  });
});

it('has met all that there is to tell', () => {
  expect(Object.entries(met).filter(([, times]) => times === 0)).toEqual([]);
});

function note({ legacy, ...real }: Backfilled): void {
  met.indexed += real.indexed;
  met.unchanged += real.unchanged;
  met.skipped += real.skipped;
  met.failed += real.failed.length;
  met.orgs += real.orgs_failed.length;
  met.copied += legacy.copied;
  met.recorded += legacy.recorded;
  met.before += real.units_done_before;
  met.left += real.complete ? 0 : 1;
}
