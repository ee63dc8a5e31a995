import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { mapParallel } from '../../src/core/concurrency.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import { LATENCY_PROFILES, type LatencyProfile } from '../../src/store/latency.ts';
import { isGiven, startEmulator } from '../../test/support/emulator.ts';
import { endWithUs } from '../support/end-with-us.ts';
import type { Asked, Draw, Ports, WireCounts } from './gateway.ts';
import { startToxiproxy, type Toxiproxy } from './toxiproxy.ts';

/** At the same time, when a bucket is removed. */
const DELETES = 16;

/** A bucket over HTTP: client → toxiproxy (bandwidth) → gateway (time to first byte) → emulator. */
export interface Stack {
  /** Its name: new each time, because the emulator may be somebody's own, with what another run has left. */
  bucket: string;
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
    const bucket = `bench-${crypto.randomUUID()}`;
    await makeBucket(emulator.endpoint, bucket);
    // Of the others nothing is left: they end with us.
    if (isGiven(emulator)) stops.push(() => removeBucket(emulator.endpoint, bucket).catch(() => undefined));
    const gateway = await startGateway(emulator.endpoint);
    stops.push(gateway.stop);
    const proxy = await startToxiproxy();
    stops.push(() => proxy.stop());
    await gateway.draw({ profile, seed: 0 });
    const slow = await proxy.slow('bucket', new URL(gateway.slow).host, {
      bytesPerSecond: profile.bandwidth_bytes_per_second,
    });
    return {
      bucket,
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
  if (!made.ok) throw new Error(`the emulator made no bucket: ${made.status} ${await made.text()}`);
}

/** With all that is in it. */
async function removeBucket(endpoint: string, bucket: string): Promise<void> {
  const store = await openGcsStore({ bucket, endpoint });
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: '', pageToken });
    await mapParallel(page.items, DELETES, ({ key, generation }) =>
      store.delete(key, { ifGeneration: generation }),
    );
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  await store.close();
  await fetch(`${endpoint}/storage/v1/b/${bucket}`, { method: 'DELETE' });
}

export interface Gateway extends Pick<Stack, 'draw' | 'counted' | 'stop'> {
  /** Without waiting, and held back by what was drawn. */
  url: string;
  slow: string;
}

export async function startGateway(upstream: string): Promise<Gateway> {
  const child = endWithUs(fork(join(import.meta.dirname, 'gateway.ts')));
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
  const ended = new AbortController();
  const onExit = () => ended.abort(new Error('the gateway ended'));
  gateway.once('exit', onExit);
  try {
    const answer = once(gateway, 'message', { signal: ended.signal });
    gateway.send(asked);
    return (await answer)[0] as T;
  } finally {
    gateway.off('exit', onExit);
  }
}

/** For counting rounds: every request takes as long as any other. */
export const EVEN_MS = 250;
const even = { p50: EVEN_MS, p99: EVEN_MS };
export const EVEN: LatencyProfile = {
  ...LATENCY_PROFILES.none,
  name: 'even',
  first_byte_ms: { get: even, head: even, put: even, delete: even, list: even },
};

/** Timers may be early by a ms or two. */
const EARLY_MS = 5;

/**
 * Requests one after the other, where every answer took `latencyMs`: the longest chain in which each came no earlier than
 * the answer to the one before can have reached the client. Never too few; exact as long as requests of one wave come
 * less than the latency apart, which is why it is a long one.
 */
export function roundsOf(arrivals: readonly number[], latencyMs: number): number {
  let rounds = 0;
  let next = Number.NEGATIVE_INFINITY;
  for (const at of arrivals) {
    if (at < next) continue;
    rounds++;
    next = at + latencyMs - EARLY_MS;
  }
  return rounds;
}
