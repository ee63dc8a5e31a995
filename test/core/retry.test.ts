import { describe, expect, it } from 'vitest';
import { cancelled, systemClock, throwIfAborted } from '../../src/core/clock.ts';
import { RunfoldError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { backoffMs, withDeadline } from '../../src/core/retry.ts';
import { FakeClock } from '../support/fake-clock.ts';

const bounds = limits({ backoffBaseMs: 50, backoffMaxMs: 5_000 });
const greatest = { u32: () => 0xffff_ffff };
const least = { u32: () => 0 };

describe('backoff is full jitter under a bound', () => {
  it('the bound doubles per attempt up to the maximum', () => {
    const upper = [0, 1, 2, 6, 7, 50].map((attempt) => backoffMs(attempt, bounds, greatest));
    expect(upper).toEqual([50, 100, 200, 3_200, 5_000, 5_000]);
    expect(backoffMs(9, bounds, least)).toBe(0);
  });

  it('spreads over the whole interval', () => {
    const random = seededRandom(7);
    const waits = Array.from({ length: 2_000 }, () => backoffMs(3, bounds, random));
    expect(Math.min(...waits)).toBeLessThan(10);
    expect(Math.max(...waits)).toBeGreaterThan(390);
    expect(waits.reduce((a, b) => a + b, 0) / waits.length).toBeCloseTo(200, -1.5);
  });
});

describe('withDeadline', () => {
  const never = () => new Promise<never>(() => undefined);

  it('gives the answer and leaves no timer behind', async () => {
    const clock = new FakeClock();
    expect(await withDeadline(clock, 100, undefined, async () => 7)).toBe(7);
    expect(clock.sleeping).toBe(0);
  });

  it('passes the failure on and leaves no timer behind', async () => {
    const clock = new FakeClock();
    const failing = withDeadline(clock, 100, undefined, () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
    expect(clock.sleeping).toBe(0);
  });

  it('stops waiting for a call that ignores its signal', async () => {
    const clock = new FakeClock();
    const waiting = withDeadline(clock, 100, undefined, never);
    const outcome = expect(waiting).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', retryable: true });
    await clock.advance(99);
    await clock.advance(1);
    await outcome;
  });

  it('tells the call that its time is over', async () => {
    const clock = new FakeClock();
    let seen: AbortSignal | undefined;
    const waiting = withDeadline(clock, 100, undefined, (signal) => {
      seen = signal;
      return never();
    });
    waiting.catch(() => undefined);
    await clock.advance(99);
    expect(seen?.aborted).toBe(false);
    await clock.advance(1);
    expect(seen?.aborted).toBe(true);
    await expect(waiting).rejects.toThrow('No answer within 100 ms');
  });

  it('a caller who gives up is not kept waiting', async () => {
    const clock = new FakeClock();
    const caller = new AbortController();
    const waiting = withDeadline(clock, 100, caller.signal, never);
    caller.abort(new Error('changed my mind'));
    await expect(waiting).rejects.toThrow('changed my mind');
    expect(clock.sleeping).toBe(0);
  });

  it('an already aborted call is not made', async () => {
    let calls = 0;
    const call = async () => calls++;
    const waiting = withDeadline(new FakeClock(), 100, AbortSignal.abort(), call);
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(calls).toBe(0);
  });
});

describe('cancellation', () => {
  it("keeps the caller's own error, and names an anonymous abort", () => {
    const own = new TypeError('mine');
    expect(cancelled(AbortSignal.abort(own))).toBe(own);
    const anonymous = cancelled(AbortSignal.abort());
    expect(anonymous).toBeInstanceOf(RunfoldError);
    expect(anonymous).toMatchObject({ code: 'CANCELLED' });
    expect(() => throwIfAborted(undefined)).not.toThrow();
    expect(() => throwIfAborted(new AbortController().signal)).not.toThrow();
  });

  it('wakes a sleeper at once', async () => {
    const caller = new AbortController();
    const sleeping = systemClock.sleep(60_000, caller.signal);
    caller.abort(new Error('enough'));
    await expect(sleeping).rejects.toThrow('enough');
    await expect(systemClock.sleep(60_000, caller.signal)).rejects.toThrow('enough');
    await systemClock.sleep(1, new AbortController().signal);
  });
});
