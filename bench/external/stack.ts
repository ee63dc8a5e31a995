import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { startEmulator } from '../../test/support/emulator.ts';
import type { Asked, WireCounts } from './gateway.ts';
import { startToxiproxy, type Toxiproxy } from './toxiproxy.ts';

export const BUCKET = 'bench';

/** A bucket over HTTP: client → toxiproxy → gateway → emulator. */
export interface Stack {
  /** Without latency, for preparing and checking; and with it, for measuring. */
  direct: string;
  slow: string;
  proxy: Toxiproxy;
  /** What came to the bucket since the last call. */
  counted(): Promise<WireCounts>;
  stop(): Promise<void>;
}

/** Rejects with why there is none: no Go and no container for the emulator or the proxy. */
export async function startStack(latencyMs: number): Promise<Stack> {
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
    const slow = await proxy.slow('bucket', new URL(gateway.url).host, latencyMs);
    return {
      direct: gateway.url,
      slow: `http://127.0.0.1:${slow}`,
      proxy,
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

export interface Gateway {
  url: string;
  counted(): Promise<WireCounts>;
  stop(): Promise<void>;
}

export async function startGateway(upstream: string): Promise<Gateway> {
  const child = fork(join(import.meta.dirname, 'gateway.ts'));
  const port = await ask<number>(child, { upstream });
  return {
    url: `http://127.0.0.1:${port}`,
    counted: () => ask<WireCounts>(child, 'counts'),
    stop: async () => void child.kill(),
  };
}

async function ask<T>(gateway: ChildProcess, asked: Asked): Promise<T> {
  const answer = once(gateway, 'message');
  gateway.send(asked);
  return (await answer)[0] as T;
}

/**
 * Requests of which each came no earlier than the answer to the one before could have reached the client: the longest
 * chain there may have been.
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
