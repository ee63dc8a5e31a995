import type { Clock } from '../src/core/clock.ts';
import type { Limits } from '../src/core/limits.ts';
import type { Random } from '../src/core/random.ts';
import type { Telemetry } from '../src/core/telemetry.ts';
import type { RunStore } from '../src/runs/run-store.ts';
import type { PartCodec } from '../src/snapshot/codec.ts';
import type { ObjectStore } from '../src/store/object-store.ts';

/** What a compactor works with. */
export interface CompactorContext {
  store: ObjectStore;
  runs: RunStore;
  codec: PartCodec;
  clock: Clock;
  random: Random;
  limits: Limits;
  telemetry?: Telemetry;
}
