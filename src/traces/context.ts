import type { Clock } from '../core/clock.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import type { Recorder } from '../runs/recorder.ts';
import type { RunStore } from '../runs/run-store.ts';
import type { ObjectStore } from '../store/object-store.ts';

/** What traces are written and read with. */
export interface TraceContext {
  store: ObjectStore;
  runs: RunStore;
  recorder: Recorder;
  clock: Clock;
  random: Random;
  limits: Limits;
}
