/** Metrics and traces of a session, as a library: `runfold/telemetry`. */
export { Telemetry } from '../core/telemetry.ts';
export { metering } from './meter.ts';
export { Metrics } from './metrics.ts';
export type { MetricGroup } from './table.ts';
export { tracing } from './tracing.ts';
