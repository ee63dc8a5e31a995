import { describe, expect, it } from 'vitest';
import { type Settled, withClaims, withSettled } from '../../compactor/archive-entries.ts';
import { compactOrg } from '../../compactor/compact.ts';
import { limits as limitsOf } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { encodeStored } from '../../src/core/stored-json.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { LogWriter } from '../../src/log/append.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { archiveKey, traceWorkKey } from '../../src/store/keys.ts';
import { emptyWork, readWork } from '../../src/traces/work.ts';
import { intercept, recording, type StoreCall } from '../support/intercept.ts';
import { archiveOf, ORG, rowOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  archiveKeys,
  archiver,
  chunkKeys,
  DAY,
  ended,
  endedRun,
  entries,
  expectArchived,
  MINUTE,
  readAll,
  SETTLED,
  started,
  type TraceWorld,
  write,
} from './support.ts';

/** Runs that ended one second after the other and left a log each. */
async function endedRuns(world: TraceWorld, ids: readonly string[], log = 'a log\n'): Promise<void> {
  for (const id of ids) {
    await started(world, id);
    await write(world, id, log);
    await world.clock.advance(1_000);
    await ended(world, id);
  }
  await world.clock.advance(SETTLED);
}

/** So many ended runs whose logs were archived, as the index has them. */
async function fill(world: TraceWorld, count: number): Promise<void> {
  const { clock, limits } = world.compactor;
  const { random, serverClock } = world.session;
  const log = new LogWriter(world.memory, {
    clock,
    serverClock,
    random,
    limits: { ...limits, entryBytesMax: 1e9 },
  });
  const at = clock.now() - 30 * DAY;
  const trace = {
    status: 'archived',
    attempt: 1,
    bytes: 9,
    lines: 1,
    gaps: 0,
    sha256: 'a'.repeat(64),
    crc32c: 1,
  } as const;
  for (let first = 0; first < count; first += 50_000) {
    const records = Array.from({ length: Math.min(50_000, count - first) }, (_, i): LogRecord => {
      const times = { created_at: at, updated_at: at, started_at: at, finished_at: at };
      const uri = archiveKey(ORG, uuidv7(at, random));
      const row = rowOf({
        run_id: `old-${first + i}`,
        status: 'SUCCEEDED',
        ...times,
        trace: { ...trace, uri },
      });
      return { kind: 'put', row };
    });
    await Promise.all(
      Array.from({ length: 10 }, (_, i) => log.append(ORG, records.slice(i * 5_000, (i + 1) * 5_000))),
    );
    await world.clock.advance(20 * MINUTE);
    await world.compact();
  }
  await world.clock.advance(20 * MINUTE);
  await world.compact();
}

const numbered = (count: number) =>
  Array.from({ length: count }, (_, i) => `run-${String(i).padStart(3, '0')}`);

/** A store on which the chunks of these runs cannot be read. */
function poisoned(world: TraceWorld, ids: readonly string[]) {
  return intercept(world.memory, (call, go) => {
    const chunk = /\/chunks\/([^/]+)\//.exec(call.key)?.[1];
    if (call.operation === 'get' && chunk !== undefined && ids.includes(chunk)) throw new Error('poison');
    return go();
  });
}

describe('the work list', () => {
  it('poison never blocks the rest, and is tried less and less often', async () => {
    const world = await fakeWorld({ limits: { traceWindowRuns: 2 } });
    const ids = numbered(6);
    await endedRuns(world, ids);
    const poison = ['run-000', 'run-001', 'run-003'];
    const run = archiver(world, poisoned(world, poison));
    expect(await run()).toMatchObject({ archived: 3, waiting: 3, complete: true });
    for (const id of ['run-002', 'run-004', 'run-005']) await expectArchived(world, id, 'a log\n');
    expect(Object.keys(await entries(world)).sort()).toEqual(poison);
    const waits: number[] = [];
    let last = world.clock.now();
    for (let i = 0; i < 45; i++) {
      await world.clock.advance(2 * MINUTE);
      const { failed } = await run();
      if (!failed.some(({ run_id }) => run_id === 'run-000')) continue;
      waits.push(world.clock.now() - last);
      last = world.clock.now();
    }
    expect(waits.length).toBeGreaterThan(4);
    for (let i = 1; i < 5; i++) expect(waits[i]!).toBeGreaterThanOrEqual(waits[i - 1]!);
    expect(waits[4]!).toBeGreaterThanOrEqual(4 * waits[0]!);
    // Once it can be read, it is archived whole.
    await world.clock.advance(DAY);
    expect(await archive(world)).toMatchObject({ archived: 3, waiting: 0 });
    expect(await entries(world)).toEqual({});
  });

  it('a pass ends within its budget, and the next goes on behind it', async () => {
    const world = await fakeWorld({ limits: { traceWindowRuns: 3, traceParallel: 1 } });
    const ids = numbered(9);
    await endedRuns(world, ids);
    const done: string[] = [];
    // Every archive takes 20 s.
    const slow = intercept(world.memory, async (call, go) => {
      const answer = await go();
      if (call.operation === 'put' && call.key.includes('/archives/')) await world.clock.advance(20_000);
      if (call.operation === 'put' && /\/runs\/acme\/(run-\d+)/.test(call.key))
        done.push(call.key.slice(-12, -5));
      return answer;
    });
    const run = archiver(world, slow);
    const passes: number[] = [];
    for (let i = 0; i < 6 && done.length < ids.length; i++) {
      const began = world.clock.monotonic();
      const { archived } = await run({ budgetMs: 50_000 });
      passes.push(archived);
      expect(world.clock.monotonic() - began).toBeLessThanOrEqual(60_000);
    }
    expect(done).toEqual(ids);
    expect(Math.max(...passes)).toBeLessThanOrEqual(3);
    // Aborted ones may have left an archive that landed nevertheless: it is looked after until that cannot be.
    await world.clock.advance(20 * MINUTE);
    await archive(world);
    expect(await entries(world)).toEqual({});
    expect(await archiveKeys(world)).toHaveLength(ids.length);
  });

  it('a pass that was cut short counts no try; one trace that eats the whole budget waits', async () => {
    const world = await fakeWorld({ limits: { traceParallel: 1 } });
    await endedRuns(world, ['run-000', 'run-001']);
    const stuck = intercept(world.memory, async (call, go) => {
      if (call.operation === 'get' && call.key.includes('/chunks/run-000/'))
        await world.clock.advance(100_000);
      return go();
    });
    const { failed, complete } = await archiver(world, stuck)({ budgetMs: 60_000 });
    expect(complete).toBe(false);
    expect(failed).toMatchObject([{ run_id: 'run-000', attempts: 0, code: 'DEADLINE_EXCEEDED' }]);
    // The other comes first now.
    await archiver(world, stuck)({ budgetMs: 60_000 });
    await expectArchived(world, 'run-001', 'a log\n');
  });

  it('a list that is full stops no log without a problem', async () => {
    const world = await fakeWorld({ limits: { traceWorkMax: 2 } });
    await endedRuns(world, ['run-000', 'run-001', 'run-002']);
    const run = archiver(world, poisoned(world, ['run-000', 'run-001']));
    // Two fail at once and fill it: the third makes one of them go.
    await run();
    expect(Object.keys(await entries(world))).toHaveLength(2);
    await world.clock.advance(1_000);
    expect(await run()).toMatchObject({ archived: 1, work_full: true, dropped: ['run-000'] });
    await expectArchived(world, 'run-002', 'a log\n');
    await world.clock.advance(DAY);
    await archive(world);
    await world.clock.advance(DAY);
    expect(await archive(world)).toMatchObject({ waiting: 0, work_full: false, dropped: [] });
  });

  it('a list that cannot be read is begun anew', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    await world.memory.put(traceWorkKey(ORG), Buffer.from('{"format": 1, "entries": [rot'));
    expect(await archive(world, { dryRun: true })).toMatchObject({ archived: 1, work_renewed: true });
    expect(await archive(world)).toMatchObject({ archived: 1, work_renewed: true });
    expect(await archive(world)).toMatchObject({ waiting: 0, work_renewed: false });
    await world.memory.put(traceWorkKey(ORG), Buffer.from('{"format": 2}'));
    await expect(archive(world)).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
  });

  it('archives that only an unreadable list named are found by what they say of their run', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'kept', 'a log\n');
    expect(await archive(world)).toMatchObject({ archived: 1 });
    await endedRun(world, 'run-1', 'a log\n');
    await endedRun(world, 'gone', 'a log\n');
    // Its commit is refused: an archive is left that the list alone names.
    const failing = intercept(world.memory, (call, go) => {
      const isCommit = call.operation === 'put' && /\/runs\/acme\/(run-1|gone)/.test(call.key);
      if (isCommit || call.operation === 'delete') throw new Error('refused');
      return go();
    });
    await archiver(world, failing)();
    const { runs } = world.compactor;
    await runs.remove(ORG, 'gone', (await runs.read(ORG, 'gone'))!.token);
    expect(await archiveKeys(world)).toHaveLength(3);
    await world.memory.put(traceWorkKey(ORG), Buffer.from('rot'));
    await world.clock.advance(MINUTE);
    expect(await archive(world, { leftovers: true })).toMatchObject({ archived: 1, work_renewed: true });
    // Whoever wrote it might still commit it.
    expect(await archive(world, { leftovers: true })).toMatchObject({ orphans_deleted: 0 });
    expect(await archiveKeys(world)).toHaveLength(4);
    await world.clock.advance(20 * MINUTE);
    expect(await archive(world, { leftovers: true })).toMatchObject({ orphans_deleted: 1 });
    // Of a run that cannot be found nobody knows what it names.
    expect(await archiveKeys(world)).toHaveLength(3);
    for (const id of ['kept', 'run-1']) await expectArchived(world, id, 'a log\n');
    expect((await readWork(world.memory, ORG)).work.renewed).toBeNull();
  });

  it('an end that no clock here saw is waited for from when it was first met', async () => {
    const world = await fakeWorld();
    const { recorder, traces } = world.session;
    const at = world.clock.now();
    await recorder.observe(ORG, 'run-1', [{ at, phase: 'start', inputs: [], outputs: [] }]);
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 0, body: Buffer.from('log\n') });
    // Its end is told with a time of long ago.
    await recorder.observe(ORG, 'run-1', [{ at: at + 1, phase: 'success', inputs: [], outputs: [] }]);
    await world.clock.advance(DAY);
    expect(await archive(world)).toMatchObject({ archived: 0, waiting: 1 });
    await world.clock.advance(5 * MINUTE);
    expect(await archive(world)).toMatchObject({ archived: 0 });
    await world.clock.advance(6 * MINUTE);
    expect(await archive(world)).toMatchObject({ archived: 1, waiting: 0 });
    expect(await entries(world)).toEqual({});
  });

  it('a run whose row is behind is set right; one that is gone is reported', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    await endedRun(world, 'run-2', 'a log\n');
    const { runs } = world.compactor;
    const first = (await runs.read(ORG, 'run-1'))!;
    const trace = {
      ...first.run.traces!['1']!,
      status: 'archived' as const,
      archive: archiveOf({ uri: null }),
    };
    const revision = first.run.revision + 1;
    await runs.replace(
      { ...first.run, revision, indexed_revision: revision, traces: { 1: trace } },
      first.token,
    );
    await runs.remove(ORG, 'run-2', (await runs.read(ORG, 'run-2'))!.token);
    expect(await archive(world)).toMatchObject({ archived: 0, missing: ['run-2'] });
    expect(await archive(world)).toMatchObject({ waiting: 1, missing: ['run-2'] });
  });

  it('an ended run that the index has forgotten is found by its chunks', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    await compactOrg(world.compactor, ORG, { policy: { retain_ms: 1_000, time_travel_ms: 0 } });
    await world.compact();
    expect(await archive(world)).toMatchObject({ archived: 0, waiting: 0 });
    expect(await archive(world, { leftovers: true })).toMatchObject({ archived: 1 });
    await expectArchived(world, 'run-1', 'a log\n');
  });

  it('chunks of a run that nobody knows go after their lifetime, not before', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    const { runs } = world.compactor;
    await runs.remove(ORG, 'run-1', (await runs.read(ORG, 'run-1'))!.token);
    // The row is gone as well.
    await compactOrg(world.compactor, ORG, { policy: { retain_ms: 1_000, time_travel_ms: 0 } });
    await world.clock.advance(6 * DAY);
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 0 });
    await world.clock.advance(2 * DAY);
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 1 });
    expect(await chunkKeys(world)).toEqual([]);
  });
});

describe('retention and deletion', () => {
  it('archives go when the policy says so, and whoever asks is told', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'old', 'old log\n');
    await archive(world);
    await world.clock.advance(5 * DAY);
    await endedRun(world, 'new', 'new log\n');
    await archive(world);
    const policy = { retain_ms: null, time_travel_ms: 0, trace_retain_ms: 3 * DAY };
    await compactOrg(world.compactor, ORG, { policy });
    expect(await archive(world)).toMatchObject({ expired: 1 });
    await expect(readAll(world, 'old')).rejects.toMatchObject({ code: 'TRACE_EXPIRED' });
    expect(await readAll(world, 'new')).toBe('new log\n');
    const calls: StoreCall[] = [];
    await archiver(world, recording(world.memory, calls))();
    expect(calls.filter(({ key }) => key.includes('/archives/'))).toEqual([]);
  });

  it('a deleted run takes its chunks and archives with it', async () => {
    const world = await fakeWorld();
    const { recorder, traces } = world.session;
    await endedRun(world, 'archived', 'a log\n');
    await archive(world);
    await endedRun(world, 'live', 'a log\n');
    await endedRun(world, 'left', 'a log\n');
    for (const id of ['archived', 'live']) {
      const { run } = await recorder.apply(ORG, id, { type: 'delete' });
      expect(await traces.remove(run)).toBe(1);
      await expect(readAll(world, id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    }
    // Whoever deletes may die before it removes: the compactor does so with the stub.
    await recorder.apply(ORG, 'left', { type: 'delete' });
    await world.compact();
    expect(await chunkKeys(world)).toHaveLength(1);
    await world.clock.advance(8 * DAY);
    await world.compact();
    expect(await world.compactor.runs.read(ORG, 'left')).toBeNull();
    expect(await chunkKeys(world)).toEqual([]);
  });

  it('nobody forgets a deleted run while its log may be there', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    await archive(world);
    await world.session.recorder.apply(ORG, 'run-1', { type: 'delete' });
    const stuck = intercept(world.memory, async (call, go) => {
      if (call.operation === 'delete' && call.key.includes('/archives/'))
        return { outcome: 'unknown', cause: new Error('lost') };
      return go();
    });
    await world.compact();
    await world.clock.advance(8 * DAY);
    for (let i = 0; i < 2; i++) {
      await compactOrg({ ...world.compactor, store: stuck }, ORG);
      await world.clock.advance(DAY);
    }
    expect(await archiveKeys(world)).toHaveLength(1);
    expect(await world.compactor.runs.read(ORG, 'run-1')).not.toBeNull();
    await world.compact();
    expect(await archiveKeys(world)).toEqual([]);
    expect(await world.compactor.runs.read(ORG, 'run-1')).toBeNull();
  });

  it('of a run that is there nothing is removed', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', 'a log\n');
    const { run } = (await world.compactor.runs.read(ORG, 'run-1'))!;
    expect(await world.session.traces.remove(run)).toBe(0);
    expect(await readAll(world, 'run-1')).toBe('a log\n');
  });
});

describe('bookkeeping is bounded by unarchived traces, not by history', () => {
  it('100 000 runs, most of them archived long ago: the same list, the same requests', {
    timeout: 60_000,
  }, async () => {
    const costs: number[] = [];
    const sizes: number[] = [];
    for (const history of [10, 100_000]) {
      const world = await fakeWorld({ limits: { headRowsMax: 1_000 } });
      await fill(world, history);
      await endedRuns(world, ['waiting-1', 'waiting-2', 'poison']);
      const calls: StoreCall[] = [];
      const run = archiver(world, recording(poisoned(world, ['poison']), calls));
      expect(await run({ leftovers: true })).toMatchObject({ archived: 2, waiting: 1 });
      expect(Object.keys(await entries(world))).toEqual(['poison']);
      costs.push(calls.length);
      sizes.push((await world.memory.head(traceWorkKey(ORG)))!.sizeBytes);
    }
    // History parts are never read: only the poison has an entry, however long history is.
    expect(costs[1]).toBeLessThanOrEqual(costs[0]! + 2);
    expect(Math.abs(sizes[1]! - sizes[0]!)).toBeLessThan(50);
    expect(sizes[1]).toBeLessThan(1_024);
  });

  it('100 000 logs go through the list, and only those that fail are left in it', () => {
    const limits = limitsOf();
    const random = seededRandom(7);
    const failing = (i: number) => i % 2_500 === 0;
    let work = emptyWork(ORG);
    let largest = 0;
    for (let first = 0; first < 100_000; first += limits.traceWindowRuns) {
      const now = 1_000_000 + first * 1_000;
      const ids = Array.from(
        { length: Math.min(limits.traceWindowRuns, 100_000 - first) },
        (_, i) => first + i,
      );
      const claims = new Map(ids.map((i) => [`run-${i}`, { by: `by-${i}`, names: [uuidv7(now, random)] }]));
      work = withClaims(work, claims, now, limits);
      const sizeBytes = encodeStored(work).length;
      const settled = new Map<string, Settled>();
      for (const i of ids) {
        const { by, names } = claims.get(`run-${i}`)!;
        const outcome: Settled['outcome'] = failing(i)
          ? { kind: 'failed', code: 'CORRUPT', message: 'poison', next_at: now + DAY, stale: false }
          : { kind: 'done' };
        settled.set(`run-${i}`, { by, names, forget: new Set(names), outcome });
      }
      work = withSettled(work, settled, null, now, limits);
      largest = Math.max(largest, sizeBytes);
    }
    expect(Object.keys(work.entries)).toEqual(Array.from({ length: 40 }, (_, i) => `run-${i * 2_500}`));
    // A window's claims and what failed so far.
    expect(largest).toBeLessThan((limits.traceWindowRuns + 40) * 400);
  });
});
