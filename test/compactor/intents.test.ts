import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/core/random.ts';
import { intentOf, recordOf } from '../../src/runs/record.ts';
import { openSession } from '../../src/session.ts';
import { runKey } from '../../src/store/keys.ts';
import { intercept } from '../support/intercept.ts';
import { ORG, runOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  create,
  currentManifest,
  entryKeys,
  expectSettles,
  expectWhole,
  type FakeWorld,
} from './support.ts';

let world: FakeWorld;
beforeEach(async () => {
  world = await fakeWorld();
});

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** The writer dies after its intent: the canonical run never comes, or comes late from somewhere on the way. */
async function failedCreate(run_id: string): Promise<void> {
  const dying = intercept(world.memory, (call, go) =>
    call.operation === 'put' && call.key === runKey(ORG, run_id) ? Promise.reject(new Error('killed')) : go(),
  );
  const session = openSession(dying, { clock: world.clock, random: seededRandom(4) });
  await expect(session.recorder.create(ORG, { run_id })).rejects.toThrow('killed');
  await session.close();
}
const idsOf = async () => {
  const rows = (await world.read()).state.rows();
  return Array.from({ length: rows.length }, (_, i) => rows.runId(i)).sort();
};

describe('an intent that nothing confirms', () => {
  it('stays in the log unfolded, and readers ask for its run until a compactor has looked late enough', async () => {
    await failedCreate('never');
    expect(await world.compact()).toMatchObject({ waiting: 1, settled: false });
    expect((await world.read()).stats.intentsAsked).toBe(1);
    await world.clock.advance(5 * MINUTE + 1);
    await world.compact();
    expect((await currentManifest(world)).intents).toEqual([
      { run_id: 'never', revision: 1, looked_at: world.clock.now() },
    ]);
    expect((await world.read()).stats).toMatchObject({ intentsAsked: 0, rounds: 1 });
    expect(await entryKeys(world)).toHaveLength(1);
  });

  it('the looks in between commit nothing new', async () => {
    await failedCreate('never');
    await world.clock.advance(6 * MINUTE);
    await world.compact();
    const { version } = await currentManifest(world);
    for (let i = 0; i < 3; i++) {
      await world.clock.advance(HOUR);
      expect(await world.compact()).toMatchObject({ outcome: 'clean', version, waiting: 1, settled: false });
    }
  });

  it('is dropped after its time to live, and only then', async () => {
    await failedCreate('never');
    await world.clock.advance(24 * HOUR);
    await world.compact();
    expect(await world.compact()).toMatchObject({ waiting: 1 });
    await world.clock.advance(1);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', waiting: 0, entries: 1 });
    expect((await currentManifest(world)).intents).toEqual([]);
    await world.clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await entryKeys(world)).toEqual([]);
    expect(await idsOf()).toEqual([]);
    await expectSettles(world);
  });

  it('coversUntil does not pass it', async () => {
    await failedCreate('never');
    const named = world.clock.now();
    await create(world, 'a');
    await world.clock.advance(HOUR);
    await world.compact();
    expect((await currentManifest(world)).covers_until).toBeLessThanOrEqual(named);
  });

  it('does not keep other entries from being folded, nor the records beside it from being seen', async () => {
    const lone = runOf({ run_id: 'never' });
    const done = runOf({ run_id: 'done' });
    await world.session.runs.create(done);
    const { recorder } = world.session;
    await create(world, 'a');
    // One entry with both, as group commit makes it.
    const { LogWriter } = await import('../../src/log/append.ts');
    const { serverClock, limits, clock } = world.session;
    const log = new LogWriter(world.memory, { clock, serverClock, random: seededRandom(8), limits });
    await log.append(ORG, [intentOf(lone), recordOf(done)]);
    await recorder.apply(ORG, 'a', { type: 'cancel' });
    expect(await world.compact()).toMatchObject({ outcome: 'committed', waiting: 1, entries: 3 });
    expect(await idsOf()).toEqual(['a', 'done']);
    await world.clock.advance(25 * HOUR);
    await world.compact();
    await expectSettles(world);
    expect(await idsOf()).toEqual(['a', 'done']);
  });
});

describe('an intent whose run is there after all', () => {
  it('was written at once, its record lost: the fold believes the canonical run', async () => {
    await failedCreate('late');
    await world.session.runs.create(runOf({ run_id: 'late' }));
    expect(await idsOf()).toEqual(['late']);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', waiting: 0, entries: 1 });
    expect((await world.read()).stats).toMatchObject({ intentsAsked: 0 });
    expect(await idsOf()).toEqual(['late']);
    await expectSettles(world);
  });

  it('landed after a compactor had looked and readers had stopped asking: the next fold sees it', async () => {
    await failedCreate('late');
    await world.clock.advance(6 * MINUTE);
    await world.compact();
    await world.clock.advance(10 * HOUR);
    await world.session.runs.create(runOf({ run_id: 'late' }));
    expect(await world.compact()).toMatchObject({ outcome: 'committed', waiting: 0 });
    expect((await currentManifest(world)).intents).toEqual([]);
    expect(await idsOf()).toEqual(['late']);
    await expectSettles(world);
  });

  it('landed late with its record: seen at once', async () => {
    await failedCreate('late');
    await world.clock.advance(6 * MINUTE);
    await world.compact();
    await create(world, 'late');
    expect(await idsOf()).toEqual(['late']);
    await world.compact();
    await expectSettles(world);
  });

  it('moved on meanwhile: what it is now is folded', async () => {
    await failedCreate('late');
    const run = runOf({ run_id: 'late' });
    await world.session.runs.create(run);
    const stored = await world.session.runs.read(ORG, 'late');
    await world.session.runs.replace(
      { ...run, status: 'RUNNING', revision: 2, indexed_revision: 2, started_at: run.created_at },
      stored!.token,
    );
    await world.compact();
    expect((await world.read()).active()).toMatchObject([{ run_id: 'late', status: 'RUNNING', revision: 2 }]);
    await expectWhole(world);
  });
});

describe('an intent to retry', () => {
  it('that failed leaves the run as it was, and shows again at once when the retry is repeated', async () => {
    const { recorder } = world.session;
    await create(world, 'a');
    await recorder.apply(ORG, 'a', { type: 'cancel' });
    await world.compact();
    const dying = intercept(world.memory, (call, go) =>
      call.operation === 'put' && call.key === runKey(ORG, 'a') ? Promise.reject(new Error('killed')) : go(),
    );
    const other = openSession(dying, { clock: world.clock, random: seededRandom(4) });
    await expect(other.recorder.apply(ORG, 'a', { type: 'retry', attempt: 1 })).rejects.toThrow('killed');
    expect((await world.read()).active()).toEqual([]);
    await world.clock.advance(6 * MINUTE);
    expect(await world.compact()).toMatchObject({ waiting: 1 });
    expect((await currentManifest(world)).intents).toMatchObject([{ run_id: 'a', revision: 3 }]);
    // The same intent, young again: readers ask again, because its write may be on the way.
    await expect(other.recorder.apply(ORG, 'a', { type: 'retry', attempt: 1 })).rejects.toThrow('killed');
    await world.compact();
    expect((await currentManifest(world)).intents).toEqual([]);
    expect((await world.read()).stats.intentsAsked).toBe(1);
    await recorder.apply(ORG, 'a', { type: 'retry', attempt: 1 });
    expect((await world.read()).active()).toMatchObject([{ run_id: 'a', attempt: 2 }]);
    await world.compact();
    await expectSettles(world);
  });
});
