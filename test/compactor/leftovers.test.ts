import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { LogWriter } from '../../src/log/append.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import { intentOf, type LogRecord, recordOf } from '../../src/runs/record.ts';
import { entryKey, garbagePrefix, logPrefix, manifestKey, runKey } from '../../src/store/keys.ts';
import { gate, intercept, type StoreCall } from '../support/intercept.ts';
import { must, ORG, runOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  AFTER_GRACE,
  compactOn,
  create,
  currentManifest,
  entryKeys,
  expectSettles,
  type FakeWorld,
  keysUnder,
} from './support.ts';

const MINUTE = 60_000;
const LIMITS = { headRowsMax: 4, historyGroupRows: 5 };
const FILLERS = 8;

let world: FakeWorld;
beforeEach(async () => {
  world = await fakeWorld({ limits: LIMITS });
});

const listing = (prefix: string) => (call: StoreCall) => call.operation === 'list' && call.key === prefix;
const move = (runId: string, type: 'started' | 'succeeded') =>
  world.session.recorder.apply(ORG, runId, { type, attempt: 1 });

/** Moves `run` on to its end, and enough others after it that the next fold after 15 min seals it. */
async function endAmongOthers(run: string): Promise<void> {
  await move(run, 'succeeded');
  for (let i = 0; i < FILLERS; i++) {
    await create(world, `filler-${i}`);
    await move(`filler-${i}`, 'started');
    await move(`filler-${i}`, 'succeeded');
  }
}

/** The next fold seals what has ended. */
async function seal(compact: () => Promise<unknown> = world.compact): Promise<void> {
  await world.clock.advance(16 * MINUTE);
  await create(world, 'young');
  expect(await compact()).toMatchObject({ outcome: 'committed' });
  expect((await currentManifest(world)).parts.some(({ level }) => level > 0)).toBe(true);
}

async function shown(runId: string): Promise<{ status: string; revision: number } | null> {
  const catalog = await world.read();
  for await (const { run_id, status, revision } of catalog.runs())
    if (run_id === runId) return { status, revision };
  return null;
}

const END = { status: 'SUCCEEDED', revision: 3 };

/** Version 1 has folded the entries up to RUNNING. Enough has ended for the next fold to seal that run's end. */
async function fill(): Promise<void> {
  await create(world, 'old');
  await move('old', 'started');
  await world.compact();
  await world.clock.advance(MINUTE);
  await endAmongOthers('old');
}

describe('an entry that a rival collected while a compactor looked', () => {
  /**
   * A compactor that has manifest and log from before the rival collects, and whose calls that match are answered
   * only after it.
   */
  async function lookWhileCollecting(isLate: (call: StoreCall) => boolean) {
    await fill();
    const { opened: sawLog, open: seeLog } = gate();
    const { opened: collected, open: tell } = gate();
    const slow = intercept(world.memory, async (call, go) => {
      if (isLate(call)) await collected;
      const answer = await go();
      if (listing(logPrefix(ORG))(call)) seeLog();
      return answer;
    });
    let looking: ReturnType<typeof compactOn> | null = null;
    const rival = intercept(world.memory, async (call, go) => {
      if (call.operation === 'delete' && looking === null) {
        looking = compactOn(world, slow);
        await sawLog;
      }
      return go();
    });
    const leftovers = await entryKeys(world);
    await seal(() => compactOn(world, rival, 78));
    tell();
    const outcome = await looking!;
    expect(leftovers.length).toBeGreaterThan((await entryKeys(world)).length);
    return outcome;
  }

  it.each<[string, (call: StoreCall) => boolean]>([
    ['before its list was listed', listing(garbagePrefix(ORG))],
    [
      'before its list was read',
      ({ operation, key }) => operation === 'get' && key.startsWith(garbagePrefix(ORG)),
    ],
  ])('%s: history is not hidden by what it says', async (_, isLate) => {
    await lookWhileCollecting(isLate);
    expect(await shown('old')).toEqual(END);
    await world.clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await shown('old')).toEqual(END);
    expect((await world.read()).active().map(({ run_id }) => run_id)).toEqual(['young']);
  });
});

describe('an entry that stays in the log because of an intent beside it', () => {
  it('does not hide what was sealed since, from readers or from folds', async () => {
    await create(world, 'old');
    await move('old', 'started');
    const { serverClock, limits, clock } = world.session;
    const log = new LogWriter(world.memory, { clock, serverClock, random: seededRandom(8), limits });
    const { run } = (await world.session.runs.read(ORG, 'old'))!;
    // One entry with both, as group commit makes it.
    await log.append(ORG, [recordOf(run), intentOf(runOf({ run_id: 'never' }))]);
    await world.compact();
    await endAmongOthers('old');
    await seal();
    // The entry that says how the run ended is collected; the one from before is not.
    await world.clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await entryKeys(world)).toHaveLength(1);
    expect(await shown('old')).toEqual(END);
    await create(world, 'more');
    expect(await world.compact()).toMatchObject({ outcome: 'committed', waiting: 1 });
    await world.clock.advance(AFTER_GRACE);
    await world.compact();
    expect(await shown('old')).toEqual(END);
  });
});

describe('an entry that landed long after its writer gave up', () => {
  /** Puts what an entry says where only its name is old. */
  async function landLate(records: LogRecord[], name: string): Promise<void> {
    await world.memory.put(entryKey(ORG, name), encodeEntry({ org_id: ORG, records }));
  }
  const oldName = () => uuidv7(world.clock.now() - 10 * MINUTE, seededRandom(9));

  it('of a run without a row is folded as its canonical run is by then, and no reader shows it before', async () => {
    const name = oldName();
    const begun = runOf({ run_id: 'late' });
    const run = must(begun, { type: 'started', attempt: 1 }, world.clock.now());
    await create(world, 'other');
    await world.compact();
    await world.session.runs.create({ ...run, revision: 2, indexed_revision: 2 });
    await landLate([recordOf(begun)], name);
    expect(await shown('late')).toBeNull();
    expect(await world.compact()).toMatchObject({ outcome: 'committed', entries: 1 });
    expect(await shown('late')).toEqual({ status: 'RUNNING', revision: 2 });
    await expectSettles(world);
  });

  it('of a run that cannot be read any more is passed over, and stops no fold', async () => {
    const name = oldName();
    await create(world, 'other');
    await world.compact();
    await world.memory.put(runKey(ORG, 'lost'), Buffer.from('?'));
    await landLate([recordOf(runOf({ run_id: 'lost' }))], name);
    expect(await world.compact()).toMatchObject({ outcome: 'committed', entries: 1 });
    expect(await shown('lost')).toBeNull();
  });
});

describe('a garbage list that a compactor could not see yet', () => {
  it('stays named although two versions were committed since the listing: what it names is collected', async () => {
    await create(world, 'a');
    await world.compact();
    const { opened: listed, open: tell } = gate();
    let isFirst = true;
    const store = intercept(world.memory, async (call, go) => {
      if (listing(garbagePrefix(ORG))(call)) {
        const answer = await go();
        tell();
        return answer;
      }
      if (isFirst && call.operation === 'get' && call.key === manifestKey(ORG)) {
        isFirst = false;
        await listed;
        for (const run of ['b', 'c']) {
          await world.clock.advance(10_000);
          await create(world, run);
          await world.compact();
        }
      }
      return go();
    });
    // So that there is something to commit.
    await create(world, 'd');
    const before = await keysUnder(world, garbagePrefix(ORG));
    await world.clock.advance(5_000);
    await compactOn(world, store);
    const { version, garbage } = await currentManifest(world);
    expect(garbage.map((ref) => ref.version)).toEqual(expect.arrayContaining([1, 2, 3]));
    for (const { version: since, committed_at } of garbage)
      expect(committed_at === null).toBe(since === version);
    expect(before.length).toBeLessThan(garbage.length);
    await world.clock.advance(world.compactor.limits.partGraceMs + AFTER_GRACE);
    await world.compact();
    await world.clock.advance(world.compactor.limits.partGraceMs + AFTER_GRACE);
    await world.compact();
    expect(await keysUnder(world, garbagePrefix(ORG))).toEqual([]);
    await expectSettles(world);
  });
});
