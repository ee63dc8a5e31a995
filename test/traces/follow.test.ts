import { describe, expect, it } from 'vitest';
import { openSession } from '../../src/session.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import { archive, ended, SETTLED, started, type TraceWorld, text } from './support.ts';

const append = (world: TraceWorld, offset: number, body: string, end = false) =>
  world.session.traces.append(ORG, 'run-1', { attempt: 1, offset, body: Buffer.from(body), end });

/** Followers of one log in one process, and what their process asks of the store. */
function process(world: TraceWorld) {
  const calls: StoreCall[] = [];
  const { clock, compactor } = world;
  const { traces } = openSession(recording(world.memory, calls), { clock, limits: compactor.limits });
  const follow = (from = 0) => {
    const stop = new AbortController();
    const seen = { text: '', ended: false, failed: null as unknown, abort: () => stop.abort() };
    void (async () => {
      for await (const { body, offset } of traces.follow(ORG, 'run-1', { from }, stop.signal)) {
        expect(offset).toBe(from + Buffer.byteLength(seen.text));
        seen.text += text(body);
      }
      seen.ended = true;
    })().catch((error: unknown) => {
      seen.failed = error;
    });
    return seen;
  };
  /** Requests of so many seconds. */
  const requests = async (seconds: number) => {
    calls.length = 0;
    for (let i = 0; i < seconds; i++) await clock.advance(1_000);
    return calls.length;
  };
  return { traces, follow, requests };
}

async function world() {
  const made = await fakeWorld();
  await started(made, 'run-1');
  await append(made, 0, 'one\n');
  return made;
}

describe('followers of one log in one process', () => {
  it('share one look at the store, each from where it began', async () => {
    const made = await world();
    const alone = process(made);
    const one = alone.follow();
    await made.clock.advance(500);
    const costOfOne = await alone.requests(10);
    one.abort();
    const { follow, requests } = process(made);
    const all = [0, 0, 2, 4, 4].map((from) => follow(from));
    // One comes out of step, and waits with the others nevertheless.
    await made.clock.advance(300);
    all.push(follow(1));
    await made.clock.advance(1_000);
    expect(await requests(10)).toBe(costOfOne);
    expect(costOfOne).toBeGreaterThanOrEqual(20);
    // What comes is read once as well: one chunk.
    await append(made, 4, 'two\n');
    expect(await requests(10)).toBeLessThanOrEqual(costOfOne + 4);
    await append(made, 8, 'three\n', true);
    await made.clock.advance(1_000);
    const log = 'one\ntwo\nthree\n';
    expect(all.map((seen) => seen.text)).toEqual([0, 0, 2, 4, 4, 1].map((from) => log.slice(from)));
    expect(all.every((seen) => seen.ended)).toBe(true);
    expect(await requests(10)).toBe(0);
  });

  it('one that leaves disturbs nobody; with the last the looking ends', async () => {
    const made = await world();
    const { follow, requests } = process(made);
    const [first, second] = [follow(), follow()];
    await made.clock.advance(1_500);
    // In the middle of a pause that it began.
    first.abort();
    await append(made, 4, 'two\n');
    await made.clock.advance(1_000);
    expect(first).toMatchObject({ text: 'one\n', failed: { code: 'CANCELLED' } });
    expect(second).toMatchObject({ text: 'one\ntwo\n', failed: null });
    second.abort();
    await made.clock.advance(0);
    expect(await requests(5)).toBe(0);
    // Who comes then begins anew.
    const third = follow();
    await made.clock.advance(1_000);
    expect(third.text).toBe('one\ntwo\n');
    third.abort();
  });

  it('one that asks for what is far ahead, or does not read on, holds up nobody and holds no memory', async () => {
    const made = await world();
    const { traces, follow, requests } = process(made);
    const far = follow(1e9);
    const slow = traces.follow(ORG, 'run-1');
    await slow.next();
    await slow.next();
    const quick = follow();
    await made.clock.advance(1_500);
    const chunk = 'x'.repeat(600 * 1024);
    let offset = 4;
    for (let i = 0; i < 4; i++) {
      await append(made, offset, chunk);
      offset += chunk.length;
      await requests(2);
    }
    expect(quick.text.length).toBe(offset);
    let slowly = '';
    await append(made, offset, 'end\n', true);
    const reading = (async () => {
      for await (const { body } of slow) slowly += text(body);
    })();
    await requests(3);
    await reading;
    expect(slowly.length).toBe(offset);
    expect(quick).toMatchObject({ ended: true, failed: null });
    far.abort();
  });

  it('goes on for all when the log is archived meanwhile; an error is told to all who wait', async () => {
    const made = await world();
    const { follow, requests } = process(made);
    const all = [follow(), follow()];
    await made.clock.advance(1_500);
    await append(made, 4, 'two\n');
    await ended(made, 'run-1');
    await made.clock.advance(SETTLED);
    expect(await archive(made)).toMatchObject({ archived: 1 });
    await requests(2);
    expect(all.map((seen) => [seen.text, seen.ended])).toEqual([
      ['one\ntwo\n', true],
      ['one\ntwo\n', true],
    ]);
    await started(made, 'run-2');
    const gone = await world();
    const other = process(gone);
    const waiting = [other.follow(), other.follow()];
    await gone.clock.advance(1_500);
    await gone.session.recorder.apply(ORG, 'run-1', { type: 'succeeded', attempt: 1 });
    await gone.session.recorder.apply(ORG, 'run-1', { type: 'delete' });
    await gone.clock.advance(2_000);
    expect(waiting.map((seen) => (seen.failed as { code: string }).code)).toEqual([
      'RUN_NOT_FOUND',
      'RUN_NOT_FOUND',
    ]);
  });
});
