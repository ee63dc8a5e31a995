import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { LATENCY_PROFILES, type LatencyProfile } from '../../src/store/latency.ts';
import { startEmulator } from '../../test/support/emulator.ts';
import type { Asked, Draw, Ports, WireCounts } from './gateway.ts';
import { startToxiproxy, type Toxiproxy } from './toxiproxy.ts';

export const BUCKET = 'bench';

/** A bucket over HTTP: client → toxiproxy (bandwidth) → gateway (time to first byte) → emulator. */
export interface Stack {
  /** Without latency, for preparing and checking; and with it, for measuring. */
  direct: string;
  slow: string;
  proxy: Toxiproxy;
  /** The slow way draws from the start of this seed: the n-th request of a kind waits the same after the same seed. */
  draw(draw: Draw): Promise<void>;
  /** What came to the bucket since the last call. */
  counted(): Promise<WireCounts>;
  stop(): Promise<void>;
}

/** Rejects with why there is none: no Go and no container for the emulator or the proxy. */
export async function startStack(profile: LatencyProfile): Promise<Stack> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const one of stops.reverse()) await one();
  };
  try {
    const emulator = await startEmulator();
    stops.push(() => emulator.stop());
    await makeBucket(emulator.endpoint, BUCKET);
    const gateway = await startGateway(emulator.endpoint);
    stops.push(gateway.stop);
    const proxy = await startToxiproxy();
    stops.push(() => proxy.stop());
    await gateway.draw({ profile, seed: 0 });
    const slow = await proxy.slow('bucket', new URL(gateway.slow).host, {
      bytesPerSecond: profile.bandwidth_bytes_per_second,
    });
    return {
      direct: gateway.url,
      slow: `http://127.0.0.1:${slow}`,
      proxy,
      draw: gateway.draw,
      counted: gateway.counted,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

export async function makeBucket(endpoint: string, name: string): Promise<void> {
  const made = await fetch(`${endpoint}/storage/v1/b?project=bench`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name }),
  });
  if (!made.ok) throw new Error(`the emulator made no bucket: ${made.status}`);
}

export interface Gateway extends Pick<Stack, 'draw' | 'counted' | 'stop'> {
  /** Without waiting, and held back by what was drawn. */
  url: string;
  slow: string;
}

export async function startGateway(upstream: string): Promise<Gateway> {
  const child = fork(join(import.meta.dirname, 'gateway.ts'));
  const { direct, slow } = await ask<Ports>(child, { upstream });
  return {
    url: `http://127.0.0.1:${direct}`,
    slow: `http://127.0.0.1:${slow}`,
    draw: (draw) => ask<void>(child, draw),
    counted: () => ask<WireCounts>(child, 'counts'),
    stop: async () => void child.kill(),
  };
}

async function ask<T>(gateway: ChildProcess, asked: Asked): Promise<T> {
  const answer = once(gateway, 'message');
  gateway.send(asked);
  return (await answer)[0] as T;
}

/** For counting rounds: every request takes as long as any other. */
export const EVEN_MS = 50;
const even = { p50: EVEN_MS, p99: EVEN_MS };
export const EVEN: LatencyProfile = {
  ...LATENCY_PROFILES.none,
  name: 'even',
  first_byte_ms: { get: even, head: even, put: even, delete: even, list: even },
};

/**
 * Requests of which each came no earlier than the answer to the one before could have reached the client: the longest
 * chain there may have been, where every answer took `latencyMs`.
 */
export function roundsOf(arrivals: readonly number[], latencyMs: number): number {
  let rounds = 0;
  let next = Number.NEGATIVE_INFINITY;
  for (const at of arrivals) {
    if (at < next) continue;
    rounds++;
    // A little less than the latency: timers may be early by a ms or two.
    next = at + latencyMs * 0.95;
  }
  return rounds;
}
