import { type LatencyProfile, meanFirstByteMs } from '../../src/store/latency.ts';
import { sum } from '../support/report.ts';
import type { Stack } from './stack.ts';

const SMALL_GETS = 800;
const SIDE_BY_SIDE = 16;
const BIG_BYTES = 32 * 1024 ** 2;
const BIG_GETS = 5;
/** Of the standard normal distribution. */
const Z95 = 1.644_853_627;
const Z99 = 2.326_347_874;

/** What the profile says a GET takes, and what a client saw that does nothing else. */
export interface SelfCheck {
  gets: number;
  expected: Times;
  seen: Times;
  /** Of a body of 32 MiB over one connection, first byte to last; null: the profile has no limit. */
  expectedBytesPerSecond: number | null;
  seenBytesPerSecond: number;
}

interface Times {
  mean: number;
  p50: number;
  p95: number;
}

/** Bare GETs over the way that everybody takes. */
export async function selfCheck(
  stack: Stack,
  profile: LatencyProfile,
  seed: number,
  { gets = SMALL_GETS } = {},
): Promise<SelfCheck> {
  const put = async (name: string, bytes: number) => {
    const url = `${stack.direct}/${stack.bucket}/self-check/${name}`;
    const answer = await fetch(url, { method: 'PUT', body: new Uint8Array(bytes) });
    if (!answer.ok) throw new Error(`the bucket took no object: ${answer.status}`);
  };
  await put('small', 100);
  await put('big', BIG_BYTES);
  await stack.draw({ profile, seed });
  const small: number[] = [];
  let left = gets;
  const asking = async () => {
    // Opens the connection.
    await got(stack, 'small');
    while (left-- > 0) small.push((await got(stack, 'small')).lastByteMs);
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, asking));
  const bodiesMs: number[] = [];
  for (let i = 0; i < BIG_GETS; i++) {
    const { firstByteMs, lastByteMs } = await got(stack, 'big');
    bodiesMs.push(lastByteMs - firstByteMs);
  }
  const { p50, p99 } = profile.first_byte_ms.get;
  return {
    gets: small.length,
    expected: {
      mean: meanFirstByteMs(profile, 'get'),
      p50,
      p95: p50 === 0 ? 0 : p50 * (p99 / p50) ** (Z95 / Z99),
    },
    seen: {
      mean: sum(small) / small.length,
      p50: quantile(small, 0.5),
      p95: quantile(small, 0.95),
    },
    expectedBytesPerSecond: profile.bandwidth_bytes_per_second,
    seenBytesPerSecond: (1_000 * BIG_BYTES) / quantile(bodiesMs, 0.5),
  };
}

/** A line of the report. */
export function showSelfCheck({ gets, expected, seen, ...rates }: SelfCheck): string {
  const mib = (bytes: number | null) => (bytes === null ? 'no limit' : (bytes / 1024 ** 2).toFixed(0));
  const ms = ({ mean, p50, p95 }: Times) =>
    `p50 ${p50.toFixed(1)}, p95 ${p95.toFixed(1)}, mean ${mean.toFixed(1)} ms`;
  return `Self-check, ${gets} bare GETs over the same way: expected ${ms(expected)}; seen ${ms(seen)}. MiB/s of one connection: expected ${mib(rates.expectedBytesPerSecond)}, seen ${mib(rates.seenBytesPerSecond)}.`;
}

async function got({ slow, bucket }: Stack, name: string) {
  const began = performance.now();
  const answer = await fetch(`${slow}/${bucket}/self-check/${name}`);
  const firstByteMs = performance.now() - began;
  for await (const _ of answer.body!) {
    // Only its end counts.
  }
  if (!answer.ok) throw new Error(`a bare GET was answered with ${answer.status}`);
  return { firstByteMs, lastByteMs: performance.now() - began };
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}
