import { describe, expect, it } from 'vitest';
import { archiveOrg } from '../../compactor/archive.ts';
import { compactOrg } from '../../compactor/compact.ts';
import { StoreError } from '../../src/core/errors.ts';
import { limits as limitsOf } from '../../src/core/limits.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { ObjectRunStore } from '../../src/runs/object-run-store.ts';
import { openSession, type Session } from '../../src/session.ts';
import { partCodec } from '../../src/snapshot/codec.ts';
import { FaultPlan, faulty, skewed } from '../../src/store/faults.ts';
import { archivesPrefix, chunksPrefix } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { resilient } from '../../src/store/resilient.ts';
import { verified } from '../../src/store/verified.ts';
import { readWork } from '../../src/traces/work.ts';
import { Scheduler } from '../simulation/scheduler.ts';
import { intercept } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { DAY, MINUTE } from './support.ts';

const limits = limitsOf({ traceFrameBytes: 64, traceWindowRuns: 3, orphanAgeMs: 20 * MINUTE });
const SEEDS = (process.env.TRACE_SEEDS ?? '1,2,3,4').split(',').map(Number);
const RUNS = 5;
// Loaded before time begins: nothing in a storm may wait for the real world.
const codec = await partCodec('hyparquet');
const pick = <T>(random: Random, values: readonly T[]): T =>
  values[Math.floor(uniform(random) * values.length)]!;

/** The byte that every honest writer of the run says at that offset. */
const byteAt = (run: string, i: number) =>
  i % 17 === 16 ? 10 : 97 + ((i * 7 + run.length + run.charCodeAt(4)) % 26);
const textOf = (run: string, from: number, to: number) =>
  Uint8Array.from({ length: to - from }, (_, i) => byteAt(run, from + i));

/** Everything of one history: a store that fails, and who uses it. */
class Storm {
  readonly scheduler = new Scheduler();
  readonly random: Random;
  readonly memory: MemoryStore;
  readonly plan: FaultPlan;
  /** Bytes of each run's log that were acknowledged. */
  readonly acknowledged = new Map<string, Set<number>>();
  readonly problems: string[] = [];

  constructor(seed: number) {
    const { clock } = this.scheduler;
    this.random = seededRandom(seed);
    this.memory = new MemoryStore({ clock });
    this.plan = new FaultPlan({
      random: seededRandom(seed + 1),
      clock,
      rates: {
        refused: 0.03,
        answer_lost: 0.03,
        late_write: 0.02,
        stall_before: 0.003,
        stall_after: 0.003,
        burst: 0.001,
        truncated: 0.01,
        flipped_body: 0.01,
      },
      pageMax: pick(this.random, [2, 1_000]),
      nameIntervalMs: 0,
    });
  }

  /** A process with a clock of its own, which dies after `calls` requests. */
  process(calls = Number.POSITIVE_INFINITY): { session: Session; store: ObjectStore } {
    const clock = skewed(this.scheduler.clock, { offsetMs: (uniform(this.random) - 0.5) * 4 * MINUTE });
    const random = seededRandom(this.random.u32());
    let left = calls;
    const mortal = intercept(faulty(this.memory, this.plan), async (_, go) => {
      await this.scheduler.sleep(uniform(random) * 40);
      if (left-- <= 0) throw new StoreError('STORE_FAILED', 'The process is dead.', { retryable: false });
      return go();
    });
    const store = resilient(verified(mortal), { clock, random, limits });
    return { store, session: openSession(store, { clock, random, limits }) };
  }

  /** Until it is acknowledged, or refused for good. */
  async insist<T>(work: () => Promise<T>): Promise<T | null> {
    for (let i = 0; i < 60; i++) {
      try {
        return await work();
      } catch (error) {
        const { code } = error as { code?: string };
        if (['TRACE_CLOSED', 'TRACE_ARCHIVED', 'ATTEMPT_STALE', 'RUN_TERMINAL'].includes(code ?? ''))
          return null;
        await this.scheduler.sleep(500);
      }
    }
    throw new Error('never acknowledged');
  }

  async worker(run: string): Promise<void> {
    const { session } = this.process();
    const event = (one: RunEvent) => this.insist(() => session.recorder.apply(ORG, run, one));
    await this.insist(() => session.recorder.create(ORG, { run_id: run }));
    await event({ type: 'started', attempt: 1 });
    const bytes = 60 + Math.floor(uniform(this.random) * 300);
    const offsets: number[] = [];
    for (let at = 0; at < bytes; at += 20) offsets.push(at);
    const late = uniform(this.random) < 0.3 ? offsets.splice(-2) : [];
    const send = (at: number) =>
      this.append(session, run, at, Math.min(bytes, at + pick(this.random, [20, 20, 35])));
    for (const at of offsets) {
      // Out of order, twice, and overlapping.
      const other = pick(this.random, offsets);
      await Promise.all([send(at), ...(uniform(this.random) < 0.3 ? [send(other)] : [])]);
      await this.scheduler.sleep(uniform(this.random) * 5_000);
    }
    await event({ type: 'succeeded', attempt: 1 });
    await this.scheduler.sleep(uniform(this.random) * pick(this.random, [MINUTE, 4 * MINUTE]));
    for (const at of late) await send(at);
  }

  async append(session: Session, run: string, from: number, to: number): Promise<void> {
    const chunk = { attempt: 1, offset: from, body: textOf(run, from, to) };
    const done = await this.insist(() => session.traces.append(ORG, run, chunk));
    if (done === null) return;
    const known = this.acknowledged.get(run) ?? new Set();
    for (let i = from; i < to; i++) known.add(i);
    this.acknowledged.set(run, known);
  }

  /** Passes that die now and then, each time followed by another process. */
  async archiver(passes: number, calls: () => number): Promise<void> {
    for (let i = 0; i < passes; i++) {
      const { session, store } = this.process(calls());
      const context = {
        store,
        runs: new ObjectRunStore(store, limits),
        codec,
        clock: session.clock,
        random: session.random,
        limits,
      };
      await archiveOrg(context, ORG, session.recorder, { leftovers: i % 2 === 0 }).catch(() => undefined);
      if (i % 3 === 0) await compactOrg(context, ORG).catch(() => undefined);
      await this.scheduler.sleep(uniform(this.random) * 80_000);
    }
  }

  /** Whatever is read at any time is what was written there. */
  async reader(times: number): Promise<void> {
    const { session } = this.process();
    for (let i = 0; i < times; i++) {
      const run = `run-${Math.floor(uniform(this.random) * RUNS)}`;
      const from = Math.floor(uniform(this.random) * 200);
      const slice = await session.traces.read(ORG, run, { from, to: from + 50 }).catch(() => null);
      if (slice !== null && Buffer.compare(slice.body, textOf(run, from, from + slice.body.length)) !== 0) {
        this.problems.push(`${run} at ${from}: read other bytes, ${slice.state.status}`);
      }
      await this.scheduler.sleep(uniform(this.random) * 30_000);
    }
  }

  async until(work: Promise<unknown>): Promise<void> {
    let done = false;
    const watched = work.then(
      () => {
        done = true;
      },
      (error: unknown) => {
        this.problems.push(String(error));
        done = true;
      },
    );
    expect(await this.scheduler.run(() => done, this.scheduler.now + 30 * DAY)).toBe(true);
    await watched;
  }
}

describe('whatever fails, and whoever dies', () => {
  it.each(SEEDS)('no acknowledged byte is lost, and nothing is left behind (seed %i)', async (seed) => {
    const storm = new Storm(seed);
    const runs = Array.from({ length: RUNS }, (_, i) => `run-${i}`);
    const mortal = () => pick(storm.random, [5, 15, 40, 400]);
    await storm.until(
      Promise.all([
        ...runs.map((run) => storm.worker(run)),
        storm.archiver(25, mortal),
        storm.archiver(25, mortal),
        storm.reader(60),
      ]),
    );
    storm.plan.calm();
    await storm.until(storm.archiver(30, () => 10_000));
    // What landed late and no archive contains may go after its lifetime only.
    await storm.until(storm.scheduler.sleep(8 * DAY));
    await storm.until(storm.archiver(3, () => 10_000));
    expect(storm.problems).toEqual([]);
    const { session } = storm.process();
    for (const run of runs) {
      const { body, state } = await readNow(storm, session, run);
      expect(state.status, run).toBe('archived');
      expect(Buffer.from(body)).toEqual(Buffer.from(textOf(run, 0, body.length)));
      expect(Math.max(...storm.acknowledged.get(run)!), run).toBeLessThan(body.length);
    }
    expect((await storm.memory.list({ prefix: chunksPrefix(ORG) })).items).toEqual([]);
    expect((await storm.memory.list({ prefix: archivesPrefix(ORG) })).items).toHaveLength(RUNS);
    expect((await readWork(storm.memory, ORG)).work.entries).toEqual({});
    // The weather was bad enough to prove something.
    expect(Object.values(storm.plan.counts).filter((count) => count > 0).length).toBeGreaterThan(3);
  });
});

async function readNow(storm: Storm, session: Session, run: string) {
  let slice: Awaited<ReturnType<Session['traces']['read']>> | null = null;
  await storm.until(
    session.traces.read(ORG, run).then((read) => {
      slice = read;
    }),
  );
  expect(storm.problems).toEqual([]);
  return slice!;
}
