import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, it } from 'vitest';
import type { OrgCatalog } from '../../src/catalog/catalog.ts';
import type { RunEvent } from '../../src/runs/events.ts';
import { openFileStore } from '../../src/store/file.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { gcsForTest } from '../support/gcs.ts';
import { dataset, ORG } from '../support/runs.ts';
import { expectLaw2, type World, worldOn } from '../support/world.ts';

const error = { code: 'E1', message: 'it broke' };
const started: RunEvent = { type: 'started', attempt: 1 };
const failed: RunEvent = { type: 'failed', attempt: 1, error };
const succeeded: RunEvent = { type: 'succeeded', attempt: 1, outputs: [dataset('out')], result: { rows: 7 } };
const cancel: RunEvent = { type: 'cancel' };
const heartbeat: RunEvent = { type: 'heartbeat', attempt: 1, indexIntervalMs: 60_000 };
const task = (event: Extract<RunEvent, { type: 'task' }>['task']): RunEvent => ({
  type: 'task',
  attempt: 1,
  task: event,
});
const taskStarted = task({ type: 'started', key: 'extract', attempt: 1 });

/** What leads there, and the transition itself. Repeats are transitions too: they repair the log. */
const TRANSITIONS: [name: string, before: RunEvent[], event: RunEvent][] = [
  ['QUEUED → RUNNING', [], started],
  ['QUEUED → SUCCEEDED', [], succeeded],
  ['QUEUED → FAILED', [], failed],
  ['QUEUED → CANCELLED', [], cancel],
  ['QUEUED → TIMED_OUT', [], { type: 'time_out' }],
  ['RUNNING: first heartbeat, not indexed', [started], heartbeat],
  ['RUNNING: heartbeat, indexed', [started], { ...heartbeat, indexIntervalMs: 0 } as RunEvent],
  ['RUNNING: repeated start', [started], started],
  ['RUNNING → SUCCEEDED', [started, heartbeat], succeeded],
  ['RUNNING → FAILED', [started], failed],
  ['RUNNING → CANCELLING', [started], cancel],
  ['RUNNING → CANCELLED, by force', [started], { type: 'force_cancel' }],
  ['RUNNING → FAILED, by force', [started], { type: 'force_fail', error }],
  ['RUNNING → TIMED_OUT', [started], { type: 'time_out' }],
  ['RUNNING: task queued', [started], task({ type: 'queued', key: 'extract' })],
  ['RUNNING: task started', [started], taskStarted],
  [
    'RUNNING: task succeeded',
    [started, taskStarted],
    task({ type: 'succeeded', key: 'extract', attempt: 1, outputs: [dataset('out')] }),
  ],
  [
    'RUNNING: task failed',
    [started, taskStarted],
    task({ type: 'failed', key: 'extract', attempt: 1, error }),
  ],
  ['CANCELLING → CANCELLED', [started, cancel], { type: 'cancelled', attempt: 1 }],
  ['CANCELLING → SUCCEEDED', [started, cancel], succeeded],
  ['CANCELLING → FAILED', [started, cancel], failed],
  ['CANCELLING → TIMED_OUT', [started, cancel], { type: 'time_out' }],
  ['FAILED → QUEUED', [started, failed], { type: 'retry', attempt: 1 }],
  ['CANCELLED → QUEUED', [cancel], { type: 'retry', attempt: 1 }],
  ['TIMED_OUT → QUEUED', [{ type: 'time_out' }], { type: 'retry', attempt: 1 }],
  [
    'QUEUED → RUNNING, second attempt',
    [failed, { type: 'retry', attempt: 1 }],
    { type: 'started', attempt: 2 },
  ],
  ['SUCCEEDED: repeated end', [started, succeeded], succeeded],
  ['SUCCEEDED: deleted', [started, succeeded], { type: 'delete' }],
];

interface Place {
  store: ObjectStore;
  /** Lets some time pass. */
  tick(): Promise<void>;
  clock?: FakeClock;
  close(): Promise<void>;
}

function describeTransitions(name: string, open: () => Promise<Place>): void {
  describe(`law 2 after every transition, before and after a fold: ${name}`, () => {
    let place: Place;
    let world: World;

    beforeAll(async () => {
      place = await open();
      world = await worldOn(place.store, place.clock ? { clock: place.clock } : {});
    });
    afterAll(async () => {
      await world.session.close();
      await place.close();
    });

    /** By a reader that starts from nothing, and by one that has followed all along. */
    async function check(follower: OrgCatalog): Promise<void> {
      await expectLaw2(world, await world.read(follower.orgId));
      await expectLaw2(world, await follower.refresh());
    }

    for (const [i, [title, before, event]] of TRANSITIONS.entries()) {
      it(title, async () => {
        const { recorder } = world.session;
        const org = `${ORG}-${i}`;
        const follower = world.reader(org);
        for (const run_id of ['in-the-tail', 'in-the-snapshot']) {
          await recorder.create(org, {
            run_id,
            heartbeat_timeout_ms: 1,
            run_timeout_ms: 1,
            outputs: [dataset('t')],
          });
          for (const one of before) {
            await place.tick();
            await recorder.apply(org, run_id, one);
          }
          if (run_id === 'in-the-snapshot') await world.compact(org);
          await place.tick();
          await recorder.apply(org, run_id, event);
          await check(follower);
        }
        for (let folds = 0; folds < 2; folds++) {
          await world.compact(org);
          await check(follower);
        }
      });
    }
  });
}

async function withFakeClock(
  open: (clock: FakeClock) => Promise<{ store: ObjectStore; close(): Promise<void> }>,
): Promise<Place> {
  const clock = new FakeClock();
  return { ...(await open(clock)), clock, tick: () => clock.advance(10) };
}

describeTransitions('memory', () =>
  withFakeClock(async (clock) => {
    const store = new MemoryStore({ clock });
    return { store, close: () => store.close() };
  }),
);

describeTransitions('memory that lists no metadata', () =>
  withFakeClock(async (clock) => {
    const store = new MemoryStore({ clock, capabilities: { listMetadata: false, conditionalGet: false } });
    return { store, close: () => store.close() };
  }),
);

describeTransitions('file', () =>
  withFakeClock(async (clock) => {
    const dir = await mkdtemp(join(tmpdir(), 'runfold-transitions-'));
    const store = await openFileStore(dir, { clock, fsync: false });
    const close = async () => {
      await store.close();
      await rm(dir, { recursive: true });
    };
    return { store, close };
  }),
);

const gcs = await gcsForTest();
if ('skipped' in gcs)
  describe('law 2 after every transition: gcs', () => it.skip(`[skipped: ${gcs.skipped}]`));
else {
  describeTransitions('gcs', async () => {
    const store = await gcs.open('transitions');
    return { store, tick: () => sleep(5), close: () => store.close() };
  });
}
