import { expect } from 'vitest';
import { type Compacted, compactOrg } from '../../compactor/compact.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { type OrgCatalog, openCatalog } from '../../src/catalog/catalog.ts';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { type Limits, limits as limitsOf } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { Telemetry } from '../../src/core/telemetry.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import { project } from '../../src/runs/projection.ts';
import type { Run } from '../../src/runs/run.ts';
import { openSession, type Session } from '../../src/session.ts';
import { partCodec } from '../../src/snapshot/codec.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { projectionsOf } from '../snapshot/tables.ts';
import { FakeClock } from './fake-clock.ts';
import { ORG } from './runs.ts';

/** Writers, a compactor and readers on one store. */
export interface World {
  store: ObjectStore;
  session: Session;
  compactor: CompactorContext;
  compact(orgId?: string): Promise<Compacted>;
  /** A reader that knows nothing yet. */
  reader(orgId?: string): OrgCatalog;
  /** A fresh reader, refreshed. */
  read(orgId?: string): Promise<OrgCatalog>;
}

export interface WorldOptions {
  clock?: Clock;
  limits?: Partial<Limits>;
  seed?: number;
  telemetry?: Telemetry;
}

export async function worldOn(store: ObjectStore, options: WorldOptions = {}): Promise<World> {
  const { clock = systemClock, limits = {}, seed = 1, telemetry = new Telemetry(clock) } = options;
  const session = openSession(store, { clock, random: seededRandom(seed), limits, telemetry });
  const compactor: CompactorContext = {
    store,
    runs: new ObjectRunStore(store, limitsOf(limits)),
    codec: await partCodec('hyparquet'),
    clock,
    random: seededRandom(seed + 1000),
    limits: limitsOf(limits),
    telemetry,
  };
  const reader = (orgId = ORG) => openCatalog(store, { clock, limits }).org(orgId);
  return {
    store,
    session,
    compactor,
    compact: (orgId = ORG) => compactOrg(compactor, orgId),
    reader,
    read: (orgId = ORG) => reader(orgId).refresh(),
  };
}

/** A world in memory whose time the test moves. */
export async function fakeWorld(options: Omit<WorldOptions, 'clock'> = {}) {
  const clock = new FakeClock();
  const memory = new MemoryStore({ clock });
  return { clock, memory, ...(await worldOn(memory, { ...options, clock })) };
}

export async function canonicalRuns(world: World, orgId = ORG): Promise<Run[]> {
  const runs: Run[] = [];
  for await (const scanned of world.compactor.runs.scan({ orgId })) {
    if ('problem' in scanned) throw scanned.problem;
    runs.push(scanned.run);
  }
  return runs;
}

/** Law 2: the rows of a catalog are the projections of the canonical runs; only heartbeats and the clean-up of artifacts may be missing. */
export async function expectLaw2(world: World, catalog: OrgCatalog): Promise<void> {
  const runs = (await canonicalRuns(world, catalog.orgId)).filter(({ deleted_at }) => deleted_at === null);
  const rows = new Map(projectionsOf(catalog.state.rows()).map((row) => [row.run_id, row]));
  const expected = runs.map((run) => {
    const row = rows.get(run.run_id);
    if (row === undefined || row.revision === run.revision) return project(run);
    expect(row.revision).toBeGreaterThanOrEqual(run.indexed_revision);
    const { revision, updated_at, heartbeat_at, changed_at, artifacts } = row;
    return { ...project(run), revision, updated_at, heartbeat_at, changed_at, artifacts };
  });
  const byId = (a: { run_id: string }, b: { run_id: string }) => (a.run_id < b.run_id ? -1 : 1);
  expect([...rows.values()].sort(byId)).toEqual(expected.sort(byId));
}
