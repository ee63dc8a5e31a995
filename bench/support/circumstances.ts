import { cpus, totalmem } from 'node:os';
import type { LatencyProfile } from '../../src/store/latency.ts';
import type { Prices } from './prices.ts';
import type { ScenarioOptions } from './report.ts';

/** What anybody needs to know who looks at figures later. */
export interface Circumstances {
  measured_at: string;
  machine: string;
  /** The profile's name; what the name stood for is beside it, because files and presets change. */
  latency: string;
  latency_profile: LatencyProfile;
  prices: Prices;
  seed: number;
}

export function circumstancesOf({
  latency,
  prices,
  seed,
}: Pick<ScenarioOptions, 'latency' | 'prices' | 'seed'>): Circumstances {
  return {
    measured_at: new Date().toISOString(),
    machine: machine(),
    latency: latency.name,
    latency_profile: latency,
    prices,
    seed,
  };
}

export function machine(): string {
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  return `${process.platform} ${process.arch}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), ${gib} GiB, Node ${process.versions.node}`;
}
