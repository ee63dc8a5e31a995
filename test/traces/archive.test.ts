import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  archiveKeys,
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
  text,
  traceOf,
  write,
} from './support.ts';
import { zstdMissing } from './zstd.ts';

const LOG = Array.from({ length: 40 }, (_, i) => `line ${i} of a log\n`).join('');

describe('archiving', () => {
  it('replaces the chunks by one archive that says the same, and forgets the bookkeeping', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG);
    expect(await readAll(world, 'run-1')).toBe(LOG);
    expect(await chunkKeys(world, 'run-1')).toHaveLength(Math.ceil(LOG.length / 10));
    const done = await archive(world);
    expect(done).toMatchObject({ archived: 1, failed: [], waiting: 0, complete: true, bytes: LOG.length });
    await expectArchived(world, 'run-1', LOG);
    expect(await archiveKeys(world)).toHaveLength(1);
    expect(await entries(world)).toEqual({});
    const [row] = await collect((await world.read()).runs());
    expect(row!.trace).toMatchObject({
      status: 'archived',
      attempt: 1,
      bytes: LOG.length,
      lines: 40,
      gaps: 0,
    });
    expect(row!.trace!.uri).toBe((await archiveKeys(world))[0]);
  });

  it('leaves updated_at alone: a late archive makes no old run the latest', async () => {
    const world = await fakeWorld();
    await endedRun(world, 'run-1', LOG);
    const before = (await world.compactor.runs.read(ORG, 'run-1'))!.run;
    await archive(world);
    const after = (await world.compactor.runs.read(ORG, 'run-1'))!.run;
    expect(after).toMatchObject({ updated_at: before.updated_at, revision: before.revision + 1 });
  });

  it('waits until no acknowledged chunk can be on its way', async () => {
    const world = await fakeWorld();
    await started(world, 'run-1');
    await write(world, 'run-1', LOG);
    expect(await archive(world)).toMatchObject({ archived: 0, waiting: 0 });
    await ended(world, 'run-1');
    await world.clock.advance(9 * MINUTE);
    expect(await archive(world)).toMatchObject({ archived: 0, waiting: 1 });
    await world.clock.advance(2 * MINUTE);
    expect(await archive(world)).toMatchObject({ archived: 1, waiting: 0 });
  });

  it('every attempt of a retried run', async () => {
    const world = await fakeWorld();
    const { recorder } = world.session;
    await started(world, 'run-1');
    await write(world, 'run-1', 'first\n');
    await recorder.apply(ORG, 'run-1', { type: 'failed', attempt: 1, error: { code: null, message: 'x' } });
    await recorder.apply(ORG, 'run-1', { type: 'retry', attempt: 1 });
    await recorder.apply(ORG, 'run-1', { type: 'started', attempt: 2 });
    // The worker of the first attempt flushes what it still has.
    await world.session.traces.append(ORG, 'run-1', { attempt: 1, offset: 6, body: Buffer.from('late\n') });
    await write(world, 'run-1', 'second\n', { attempt: 2 });
    await ended(world, 'run-1', 2);
    await world.clock.advance(SETTLED);
    expect(await archive(world)).toMatchObject({ archived: 2 });
    await expectArchived(world, 'run-1', 'first\nlate\n', 1);
    await expectArchived(world, 'run-1', 'second\n', 2);
    expect(await readAll(world, 'run-1')).toBe('second\n');
  });

  it('resolves chunks that come twice, out of order and overlapping', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    const at = (offset: number, end: number) =>
      traces.append(ORG, 'run-1', { attempt: 1, offset, body: Buffer.from(LOG.slice(offset, end)) });
    for (const [offset, end] of [
      [200, 640],
      [0, 100],
      [50, 150],
      [0, 100],
      [120, 260],
      [600, LOG.length],
    ] as const)
      await at(offset, end);
    expect(await at(0, 100)).toEqual({ next: 100, repeated: true });
    await ended(world, 'run-1');
    await world.clock.advance(SETTLED);
    expect(await archive(world)).toMatchObject({ archived: 1, conflicts: 0 });
    await expectArchived(world, 'run-1', LOG);
  });

  it('counts a conflict, believes the first, and keeps the other for its lifetime', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 0, body: Buffer.from('honest words\n') });
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 2, body: Buffer.from('XX') });
    await ended(world, 'run-1');
    await world.clock.advance(SETTLED);
    expect(await archive(world)).toMatchObject({ archived: 1, conflicts: 1 });
    expect(await readAll(world, 'run-1')).toBe('honest words\n');
    expect((await traceOf(world, 'run-1')).archive!.conflicts).toBe(1);
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 0 });
    expect(await chunkKeys(world)).toHaveLength(1);
    await world.clock.advance(7 * DAY);
    expect(await archive(world, { leftovers: true })).toMatchObject({ leftovers_deleted: 1 });
    expect(await chunkKeys(world)).toEqual([]);
  });

  it.skipIf(zstdMissing())('any zstd tool reads the whole, seek table and all', async () => {
    const world = await fakeWorld({ limits: { traceFrameBytes: 64 } });
    await endedRun(world, 'run-1', LOG);
    await archive(world);
    const got = await world.memory.get((await archiveKeys(world))[0]!);
    if (got.outcome !== 'found') throw new Error('no archive');
    expect(text(execFileSync('zstd', ['-dc'], { input: got.body }))).toBe(LOG);
  });

  it('an empty log that was ended is an archive without an object', async () => {
    const world = await fakeWorld();
    await started(world, 'run-1');
    await world.session.traces.append(ORG, 'run-1', {
      attempt: 1,
      offset: 0,
      body: new Uint8Array(),
      end: true,
    });
    await ended(world, 'run-1');
    await world.clock.advance(SETTLED);
    expect(await archive(world)).toMatchObject({ archived: 1 });
    expect(await traceOf(world, 'run-1')).toMatchObject({ archive: { uri: null, bytes: 0, lines: 0 } });
    expect(await readAll(world, 'run-1')).toBe('');
    expect(await chunkKeys(world)).toEqual([]);
  });
});

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}
