import type { LatencyProfile } from '../../src/store/latency.ts';
import type { Prices } from './prices.ts';

/** A benchmark. It prints nothing itself. */
export type Scenario = (options: ScenarioOptions) => Promise<Report>;

export interface ScenarioOptions {
  /** Smaller and fewer: to see that it works. */
  quick: boolean;
  /** Also what takes long. */
  full: boolean;
  /** CPU profiles of what is measured, where the scenario has something to profile. */
  profile: boolean;
  latency: LatencyProfile;
  prices: Prices;
  seed: number;
  /** Further words of the command line. */
  args: readonly string[];
  /** What the parent process asks of a scenario that is a child. */
  child: unknown;
  /** `done` of `total` in any unit; the time that is left is told from it, so parts of a step are fractions. */
  onProgress: (done: number, total: number, label: string) => void;
}

export interface Report {
  title: string;
  head: string[];
  rows: string[][];
  /** Lines under the table: what was measured and how. */
  notes: string[];
  /** The same for machines. */
  data: unknown;
  /** For people instead of the table, where that is not what was asked for. */
  text?: string;
}

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Ratios of measured times are quotients of these: of few draws a median of quotients pair by pair scatters far more. */
export function sum(samples: readonly number[]): number {
  return samples.reduce((total, sample) => total + sample, 0);
}

/** `31.4 (28.0–45.1)` */
export function showSpread({ median, min, max }: Spread, digits = 1): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

export function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-US').replaceAll(',', ' ');
}
