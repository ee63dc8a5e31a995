import { describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { openCompactor } from '../../compactor/open.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { type Catalog, type OrgCatalog, openCatalog } from '../../src/catalog/catalog.ts';
import type { RunFilter } from '../../src/catalog/views.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { type Projection, project, tablesOf } from '../../src/runs/projection.ts';
import { openSession, type Session } from '../../src/session.ts';
import { counting, noRequests } from '../../src/store/counting.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import { FakeClock } from '../support/fake-clock.ts';

const ORG = 'acme';
const LIMITS = {
  headRowsMax: 40,
  sealAgeMs: 0,
  historyGroupRows: 16,
  mergeFanIn: 3,
  inlineHeadBytesMax: 1024,
};

/** Small limits, so that a few hundred runs make several levels of history. */
async function build(seed: number, folds: number, runsPerFold = 45) {
  const clock = new FakeClock();
  const random = seededRandom(seed);
  const store = new MemoryStore({ clock });
  const session = openSession(store, { clock, random, limits: LIMITS });
  const compactor = await openCompactor(session);
  const pick = (n: number) => Math.floor(uniform(random) * n);
  const table = (i: number) => ({ namespace: `db${i % 3}`, name: `table-${i}` });
  const ids: string[] = [];
  for (let fold = 0; fold < folds; fold++) {
    for (let n = 0; n < runsPerFold; n++) {
      await clock.advance(1 + pick(1000));
      const id = `run-${String(ids.length).padStart(5, '0')}`;
      ids.push(id);
      const outputs = [table(pick(7)), ...(pick(4) === 0 ? [table(pick(7))] : [])];
      await session.recorder.create(ORG, {
        run_id: id,
        kind: pick(2) ? 'sql' : 'etl',
        queue: `q${pick(3)}`,
        inputs: [table(pick(7))],
      });
      await session.recorder.apply(ORG, id, { type: 'started', attempt: 1 });
      if (pick(20) === 0) continue;
      if (pick(5) === 0)
        await session.recorder.apply(ORG, id, {
          type: 'failed',
          attempt: 1,
          error: { code: null, message: 'x' },
        });
      else await session.recorder.apply(ORG, id, { type: 'succeeded', attempt: 1, outputs });
    }
    // Runs that come back after they were sealed, and end again elsewhere.
    for (let n = 0; n < 3; n++) {
      const id = ids[pick(ids.length)]!;
      const stored = await session.runs.read(ORG, id);
      if (stored?.run.status !== 'FAILED') continue;
      const { attempt } = stored.run;
      await clock.advance(10);
      await session.recorder.apply(ORG, id, { type: 'retry', attempt });
      await session.recorder.apply(ORG, id, { type: 'started', attempt: attempt + 1 });
      await session.recorder.apply(ORG, id, {
        type: 'succeeded',
        attempt: attempt + 1,
        outputs: [table(pick(7))],
      });
    }
    if (fold < folds - 1) await compactOrg(compactor, ORG);
  }
  return { clock, store, session, compactor };
}

async function canonical(session: Session): Promise<Projection[]> {
  const rows: Projection[] = [];
  for await (const scanned of session.runs.scan({ orgId: ORG }))
    if ('run' in scanned) rows.push(project(scanned.run));
  return rows;
}

/** What a flat scan would answer. */
function expected(rows: readonly Projection[], filter: RunFilter): string[] {
  const { table, status, kind, queue, since, until, limit } = filter;
  return rows
    .filter(
      (row) =>
        (table === undefined ||
          tablesOf(row).some(
            (t) => (table.namespace ?? t.namespace) === t.namespace && (table.name ?? t.name) === t.name,
          )) &&
        (status === undefined || [status].flat().includes(row.status)) &&
        (kind === undefined || row.kind === kind) &&
        (queue === undefined || row.queue === queue) &&
        (since === undefined || row.created_at >= since) &&
        (until === undefined || row.created_at < until),
    )
    .sort(
      (a, b) => b.updated_at - a.updated_at || b.created_at - a.created_at || (a.run_id < b.run_id ? 1 : -1),
    )
    .slice(0, limit)
    .map(({ run_id, revision }) => `${run_id}@${revision}`);
}

async function actual(org: Pick<OrgCatalog, 'runs'>, filter: RunFilter): Promise<string[]> {
  const found: string[] = [];
  for await (const { run_id, revision } of org.runs(filter)) found.push(`${run_id}@${revision}`);
  return found;
}

/** Verify looks again after a pause; nobody moves the fake clock meanwhile. */
const awake = (context: CompactorContext): CompactorContext => ({
  ...context,
  clock: {
    now: () => context.clock.now(),
    monotonic: () => context.clock.monotonic(),
    sleep: async () => undefined,
  },
});

const fresh = (store: MemoryStore, clock: FakeClock): Catalog =>
  openCatalog(store, { clock, limits: LIMITS });

describe('history', () => {
  it.each([1, 2, 3])('answers as a flat scan of canonical runs would, seed %i (law 2)', async (seed) => {
    const { clock, store, session, compactor } = await build(seed, 14);
    const org = await fresh(store, clock).org(ORG).refresh();
    const levels = org.state.manifest!.parts.map(({ level }) => level);
    expect(Math.max(...levels)).toBeGreaterThanOrEqual(2);
    const rows = await canonical(session);
    const middle = rows[Math.floor(rows.length / 2)]!.created_at;
    const filters: RunFilter[] = [
      {},
      { limit: 7 },
      { table: { namespace: 'db0', name: 'table-3' } },
      { table: { name: 'table-5' }, status: 'SUCCEEDED' },
      { table: { namespace: 'db1' }, limit: 30 },
      { status: ['FAILED', 'RUNNING'] },
      { kind: 'sql', queue: 'q1' },
      { since: middle },
      { until: middle, limit: 50 },
      { since: middle - 20_000, until: middle + 20_000, table: { namespace: 'db2', name: 'table-2' } },
      { table: { namespace: 'nowhere', name: 'nothing' } },
    ];
    for (const filter of filters)
      expect(await actual(org, filter), JSON.stringify(filter)).toEqual(expected(rows, filter));
    expect((await verifyOrg(awake(compactor), ORG)).problems).toEqual([]);
  });

  it('the head alone answers tables, active and lineage', async () => {
    const { clock, store, session } = await build(4, 12);
    const org = await fresh(store, clock).org(ORG).refresh();
    const rows = await canonical(session);
    const counts = noRequests();
    const replay = openCatalog(counting(store, counts), { clock, limits: LIMITS }).org(ORG);
    await replay.refresh();
    const before = { ...counts };
    const tables = replay.tables();
    expect(
      replay
        .active()
        .map(({ run_id }) => run_id)
        .sort(),
    ).toEqual(
      rows
        .filter(({ finished_at }) => finished_at === null)
        .map(({ run_id }) => run_id)
        .sort(),
    );
    replay.lineage({ table: tables[0]! });
    expect(counts).toEqual(before);
    for (const view of tables) {
      const table = { namespace: view.namespace, name: view.name };
      expect(view.latest_run.run_id).toBe(expected(rows, { table, limit: 1 })[0]!.split('@')[0]);
      expect(view.latest_success?.run_id).toBe(
        expected(rows, { table, status: 'SUCCEEDED', limit: 1 })[0]?.split('@')[0],
      );
      const upstream = new Set(
        rows
          .filter((row) => tablesOf(row).some((t) => t.name === view.name))
          .flatMap((row) => row.inputs.map(({ name }) => name)),
      );
      expect(view.upstream).toBe(upstream.size);
    }
    expect(tables.length).toBe(new Set(rows.flatMap((row) => tablesOf(row).map(({ name }) => name))).size);
    expect(org.tables()).toEqual(tables);
  });

  it('a fold that only touches the head reads and writes no history', async () => {
    const { clock, store, session } = await build(5, 10);
    const compactor = await openCompactor(session);
    await compactOrg(compactor, ORG);
    const history = new Set(
      (await fresh(store, clock).org(ORG).refresh()).state
        .manifest!.parts.filter((p) => p.level > 0)
        .map((p) => p.name),
    );
    await session.recorder.create(ORG, { run_id: 'one-more' });
    const touched: string[] = [];
    const watched: ObjectStore = {
      ...passThrough(store),
      get: (key, options) => {
        touched.push(key);
        return store.get(key, options);
      },
      put: (key, body, options) => {
        touched.push(key);
        return store.put(key, body, options);
      },
    };
    const result = await compactOrg({ ...compactor, store: watched }, ORG);
    expect(result.outcome).toBe('committed');
    expect(touched.filter((key) => [...history].some((name) => key.includes(name)))).toEqual([]);
  });

  it('an early stop reads only what it saw', async () => {
    const { clock, store } = await build(6, 14);
    const counts = noRequests();
    const org = await openCatalog(counting(store, counts), { clock, limits: LIMITS }).org(ORG).refresh();
    const before = counts.get;
    for await (const row of org.runs()) if (row) break;
    expect(counts.get).toBe(before);
    await actual(org, {});
    expect(counts.get).toBeGreaterThan(before);
  });

  it('a view that outlived its parts says so', async () => {
    const { clock, store, compactor, session } = await build(7, 10);
    const org = await fresh(store, clock).org(ORG).refresh();
    // Make every part of that version garbage, and collect it.
    for (let i = 0; i < 6; i++) {
      for (let n = 0; n < 45; n++) {
        const id = `later-${i}-${n}`;
        await session.recorder.create(ORG, { run_id: id });
        await session.recorder.apply(ORG, id, { type: 'succeeded', attempt: 1 });
      }
      await compactOrg(compactor, ORG);
    }
    await clock.advance(2 * 3_600_000);
    await compactOrg(compactor, ORG);
    await compactOrg(compactor, ORG);
    await expect(actual(org, {})).rejects.toMatchObject({ code: 'SNAPSHOT_EXPIRED' });
    await org.refresh();
    expect((await actual(org, {})).length).toBeGreaterThan(500);
  });
});

describe('retention', () => {
  it('forgets what ended before the horizon, but the latest success of each table', async () => {
    const { clock, store, session, compactor } = await build(8, 10);
    const rows = await canonical(session);
    await clock.advance(86_400_000);
    await compactOrg(compactor, ORG, { policy: { retain_ms: 3_600_000, time_travel_ms: 0 } });
    const org = await fresh(store, clock).org(ORG).refresh();
    const left = await actual(org, {});
    const successes = new Set(
      org.tables().flatMap((t) => (t.latest_success ? [t.latest_success.run_id] : [])),
    );
    const active = rows.filter(({ finished_at }) => finished_at === null).map(({ run_id }) => run_id);
    expect(left.map((r) => r.split('@')[0]).sort()).toEqual([...new Set([...active, ...successes])].sort());
    for (const view of org.tables()) {
      const table = { namespace: view.namespace, name: view.name };
      expect(view.latest_success?.run_id).toBe(
        expected(rows, { table, status: 'SUCCEEDED', limit: 1 })[0]?.split('@')[0],
      );
    }
    // A redelivered record of a forgotten run stays forgotten.
    const old = rows.find(({ run_id, status }) => status === 'SUCCEEDED' && !successes.has(run_id))!;
    await session.recorder.apply(ORG, old.run_id, { type: 'succeeded', attempt: old.attempt });
    expect(await actual(await org.refresh(), {})).toEqual(left);
    await compactOrg(compactor, ORG);
    expect(await actual(await fresh(store, clock).org(ORG).refresh(), {})).toEqual(left);
  });
});

describe('the latest success of a table outlives the horizon', () => {
  it.each(['policy first', 'success first'])('%s: the same runs give the same catalog', async (order) => {
    const clock = new FakeClock();
    const store = new MemoryStore({ clock });
    const session = openSession(store, { clock, limits: LIMITS });
    const compactor = await openCompactor(session);
    const policy = { retain_ms: 86_400_000, time_travel_ms: 0 };
    const old = async () => {
      for (const [id, at] of [
        ['older', clock.now() - 60 * 86_400_000],
        ['old', clock.now() - 50 * 86_400_000],
      ] as const) {
        const observation = {
          at,
          phase: 'success' as const,
          inputs: [],
          outputs: [{ namespace: 'db', name: 't' }],
        };
        await session.recorder.observe(ORG, id, [observation]);
      }
    };
    await session.recorder.create(ORG, { run_id: 'other' });
    if (order === 'success first') await old();
    await compactOrg(compactor, ORG, { policy });
    if (order === 'policy first') await old();
    const shown = async () =>
      (await fresh(store, clock).org(ORG).refresh()).tables().map((t) => t.latest_success?.run_id);
    expect(await shown()).toEqual(['old']);
    await compactOrg(compactor, ORG);
    expect(await shown()).toEqual(['old']);
    expect(await actual(await fresh(store, clock).org(ORG).refresh(), {})).toEqual(['other@1', 'old@1']);
  });
});

describe('deleting a run', () => {
  it('hides it everywhere at once, keeps the id reserved, and forgets it in the end', async () => {
    const { clock, store, session, compactor } = await build(9, 10);
    const rows = await canonical(session);
    const sealed = rows.find(({ status }) => status === 'SUCCEEDED')!;
    await session.recorder.apply(ORG, sealed.run_id, { type: 'delete' });
    await session.recorder.apply(ORG, sealed.run_id, { type: 'delete' });
    const shows = async () =>
      (await actual(await fresh(store, clock).org(ORG).refresh(), {})).some((r) =>
        r.startsWith(sealed.run_id),
      );
    expect(await shows()).toBe(false);
    await compactOrg(compactor, ORG);
    expect(await shows()).toBe(false);
    await expect(session.recorder.create(ORG, { run_id: sealed.run_id })).rejects.toMatchObject({
      code: 'RUN_ALREADY_EXISTS',
    });
    await clock.advance(8 * 86_400_000);
    for (let i = 0; i < 12; i++) await compactOrg(compactor, ORG);
    expect(await shows()).toBe(false);
    const { state } = await fresh(store, clock).org(ORG).refresh();
    expect(state.manifest!.tombstones).toEqual([]);
    expect(await session.runs.read(ORG, sealed.run_id)).toBeNull();
    expect((await verifyOrg(awake(compactor), ORG)).problems).toEqual([]);
    // Nothing remembers the id: it may be used again.
    await session.recorder.create(ORG, { run_id: sealed.run_id });
    expect(await shows()).toBe(true);
  });
});

describe('time travel', () => {
  it('by version and by time gives exactly what that version held', async () => {
    const { clock, store, session, compactor } = await build(10, 6);
    await compactOrg(compactor, ORG, { policy: { retain_ms: null, time_travel_ms: 86_400_000 } });
    const before = await fresh(store, clock).org(ORG).refresh();
    const version = before.state.manifest!.version;
    const [tables, runs] = [before.tables(), await actual(before, {})];
    const at = clock.now();
    for (let i = 0; i < 5; i++) {
      await clock.advance(3_600_000);
      await session.recorder.create(ORG, {
        run_id: `later-${i}`,
        outputs: [{ namespace: 'new', name: `t${i}` }],
      });
      await compactOrg(compactor, ORG);
    }
    for (const query of [{ version }, { asOf: at }, { asOf: at + 3_599_999 }]) {
      const snapshot = await fresh(store, clock).open(ORG, query);
      expect(snapshot.version).toBe(version);
      expect(snapshot.tables()).toEqual(tables);
      expect(await actual(snapshot, {})).toEqual(runs);
    }
    await expect(fresh(store, clock).open(ORG, { version: 999 })).rejects.toMatchObject({
      code: 'VERSION_NOT_FOUND',
    });
    await expect(fresh(store, clock).open(ORG, { asOf: 0 })).rejects.toMatchObject({
      code: 'VERSION_NOT_FOUND',
    });
  });
});
