import { describe, expect, it, vi } from 'vitest';
import type { Projection } from '../../src/runs/projection.ts';
import { type FlowOptions, flow } from '../../src/service/flow.ts';
import { listen } from '../../src/service/listen.ts';
import { streamed } from '../../src/service/respond.ts';
import { exportRuns } from '../../src/snapshot/export.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ORG, rowOf } from '../support/runs.ts';
import { serve } from './support.ts';

const settings = (changes: Partial<Omit<FlowOptions, 'onEnd'>> = {}) => ({
  clock: new FakeClock(),
  limitMs: 1_000,
  signal: new AbortController().signal,
  onEnd: vi.fn(),
  ...changes,
});

/** Runs without end, and how many were made so far. */
function endless() {
  const source = {
    made: 0,
    closed: false,
    async *runs(): AsyncGenerator<Projection> {
      try {
        for (;;) {
          source.made++;
          yield rowOf({ run_id: `run-${source.made}` });
        }
      } finally {
        source.closed = true;
      }
    },
  };
  return source;
}

describe('a flow', () => {
  it('makes a piece when it is asked for, and nothing when its reader has left', async () => {
    const source = endless();
    const options = settings();
    const stream = await flow(exportRuns('ndjson', ORG, source.runs(), { pieceRows: 10 }), options);
    expect(source.made).toBe(10);
    const reader = stream.getReader();
    await reader.read();
    expect(source.made).toBe(10);
    await reader.read();
    expect(source.made).toBe(20);
    await reader.cancel();
    await vi.waitFor(() => expect(source.closed).toBe(true));
    expect(source.made).toBe(20);
    expect(options.onEnd.mock.calls).toEqual([[null]]);
  });

  it('cuts off who reads too slowly, also while nobody reads at all', async () => {
    const source = endless();
    const clock = new FakeClock();
    const options = settings({ clock });
    const stream = await flow(exportRuns('csv', ORG, source.runs(), { pieceRows: 10 }), options);
    const reader = stream.getReader();
    await reader.read();
    await clock.advance(1_001);
    await expect(reader.read()).rejects.toThrow('An answer broke off.');
    expect(options.onEnd).toHaveBeenCalledWith(new Error('it took longer than 1000 ms'));
    await vi.waitFor(() => expect(source.closed).toBe(true));
    expect(options.onEnd).toHaveBeenCalledTimes(1);
  });

  it('ends with its caller', async () => {
    const source = endless();
    const gone = new AbortController();
    const options = settings({ signal: gone.signal });
    const stream = await flow(exportRuns('csv', ORG, source.runs(), { pieceRows: 10 }), options);
    gone.abort();
    await expect(stream.getReader().read()).rejects.toThrow('An answer broke off.');
    expect(options.onEnd.mock.calls).toEqual([[null]]);
    await vi.waitFor(() => expect(source.closed).toBe(true));
  });

  it('throws what went wrong before anything was sent', async () => {
    const options = settings();
    const broken = (async function* (): AsyncGenerator<Uint8Array> {
      yield* [];
      throw new Error('the store is away');
    })();
    await expect(flow(broken, options)).rejects.toThrow('the store is away');
    expect(options.onEnd).not.toHaveBeenCalled();
  });

  it('over a socket: slow readers hold the reading up, and what breaks is no whole answer', async () => {
    const { service } = await serve();
    let sent = 0;
    let breaks = false;
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (; sent < 1_000; sent++) {
        if (breaks && sent === 3) throw new Error('the store is away');
        yield new Uint8Array(256 * 1024);
      }
    }
    const ends: unknown[] = [];
    const fetched = async () => {
      sent = 0;
      const options = { ...settings({ limitMs: 60_000 }), onEnd: (error: unknown) => void ends.push(error) };
      return streamed(await flow(pieces(), options), { 'content-type': 'text/csv' });
    };
    const listening = await listen({ ...service, fetch: fetched }, { port: 0, host: '127.0.0.1' });
    try {
      const stop = new AbortController();
      const slow = await fetch(listening.url, { signal: stop.signal });
      const reader = slow.body!.getReader();
      await reader.read();
      await new Promise((resolve) => setTimeout(resolve, 150));
      // Of 256 MB no more was made than sockets and buffers hold.
      expect(sent).toBeLessThan(100);
      stop.abort();
      await vi.waitFor(() => expect(ends).toHaveLength(1));
      breaks = true;
      const told = vi.spyOn(console, 'error').mockReturnValue();
      const broken = await fetch(listening.url);
      await expect(broken.arrayBuffer()).rejects.toThrow();
      expect(ends).toEqual([null, new Error('the store is away')]);
      expect(String(told.mock.calls)).not.toContain('store');
      told.mockRestore();
    } finally {
      await listening.close();
    }
  });
});
