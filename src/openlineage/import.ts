import { throwIfAborted } from '../core/clock.ts';
import { mapParallel } from '../core/concurrency.ts';
import { InputError } from '../core/errors.ts';
import type { Observation } from '../runs/observe.ts';
import { parseEvent } from './event.ts';
import { mapRunEvent, type ObservedRun } from './map.ts';
import type { SourceEvent } from './read.ts';

/**
 * Applies the observations to one run in one canonical write and appends its record; `unchanged` when they said
 * nothing new. InputError: the run cannot take them, nothing was written. Any other error ends the import.
 */
export type RecordObservations = (
  orgId: string,
  runId: string,
  observations: readonly Observation[],
  signal: AbortSignal,
) => Promise<'changed' | 'unchanged'>;

export interface ImportOptions {
  readonly source: AsyncIterable<SourceEvent> | Iterable<SourceEvent>;
  readonly orgId: string;
  readonly record: RecordObservations;
  readonly onProgress?: (progress: Readonly<ImportReport>) => void;
  readonly signal?: AbortSignal | undefined;
  /** Tests tighten these. */
  readonly limits?: Partial<ImportLimits>;
}

/** What became of the events. `events` = `run_events` + `job_events` + `dataset_events` + `rejected_total`. */
export interface ImportReport {
  events: number;
  /** Events that were merged into a run. */
  run_events: number;
  /** Events about a job or a dataset alone: no run to record. */
  job_events: number;
  dataset_events: number;
  /** Distinct runs; of these, those that this import changed, and those that knew it all. */
  runs: number;
  changed: number;
  unchanged: number;
  rejected_total: number;
  /** The first `rejectedMax` of them. */
  rejected: Rejection[];
}

export interface Rejection {
  readonly file: string;
  readonly line: number;
  readonly reason: string;
}

export const importLimits = {
  /** A window of events is grouped by run and then written: one write per run and window. */
  windowEventsMax: 10_000,
  /** Datasets of one window: they, not the events, are what takes memory. */
  windowDatasetsMax: 100_000,
  /** Runs written side by side. */
  parallelMax: 32,
  /** Rejections that are told one by one. */
  rejectedMax: 1_000,
  /** Events between two progress reports. */
  progressEvents: 1_000,
};
export type ImportLimits = typeof importLimits;

/**
 * Imports OpenLineage events in any order, with any repeats; running it again, also after a failure half-way, is safe
 * and changes nothing twice. A broken event is reported and the rest goes on. Memory: one window, and the id of every
 * run seen. Cost: what `record` costs, once per run and window.
 */
export async function importEvents(options: ImportOptions): Promise<ImportReport> {
  const limits = { ...importLimits, ...options.limits };
  const tally = new Tally(limits.rejectedMax);
  const { report } = tally;
  let window = new Window();
  for await (const item of options.source) {
    throwIfAborted(options.signal);
    report.events++;
    const observed = take(item, tally);
    if (observed !== null) window.add(item, observed);
    if (window.events >= limits.windowEventsMax || window.datasets >= limits.windowDatasetsMax) {
      await write(window, tally, options, limits.parallelMax);
      window = new Window();
      options.onProgress?.(report);
    } else if (report.events % limits.progressEvents === 0) options.onProgress?.(report);
  }
  await write(window, tally, options, limits.parallelMax);
  tally.sort();
  options.onProgress?.(report);
  return report;
}

/** The observation of a run event; counts what is none. */
function take(item: SourceEvent, tally: Tally): ObservedRun | null {
  if ('error' in item) return tally.reject(item, item.error);
  const parsed = parseEvent(item.json);
  if (parsed.type === 'rejected') return tally.reject(item, parsed.reason);
  if (parsed.type === 'job') tally.report.job_events++;
  if (parsed.type === 'dataset') tally.report.dataset_events++;
  if (parsed.type !== 'run') return null;
  try {
    return mapRunEvent(parsed.event);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return tally.reject(item, error.message);
  }
}

async function write(
  window: Window,
  tally: Tally,
  options: ImportOptions,
  parallelMax: number,
): Promise<void> {
  await mapParallel(
    [...window.runs],
    parallelMax,
    ([runId, sightings], signal) => recordRun(runId, sightings, tally, options, signal),
    options.signal,
  );
}

/** All in one write; where the run cannot take them all, one by one, so that only what does not fit is rejected. */
async function recordRun(
  runId: string,
  sightings: readonly Sighting[],
  tally: Tally,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<void> {
  try {
    const observations = sightings.map(({ observation }) => observation);
    tally.recorded(runId, await options.record(options.orgId, runId, observations, signal), sightings.length);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    if (sightings.length === 1) tally.reject(sightings[0]!, error.message);
    else for (const one of sightings) await recordRun(runId, [one], tally, options, signal);
  }
}

type Place = Pick<SourceEvent, 'file' | 'line'>;
type Sighting = Place & Pick<ObservedRun, 'observation'>;

/** Events waiting to be written, by run. */
class Window {
  readonly runs = new Map<string, Sighting[]>();
  events = 0;
  datasets = 0;

  add({ file, line }: SourceEvent, { run_id, observation }: ObservedRun): void {
    const sightings = this.runs.get(run_id);
    if (sightings === undefined) this.runs.set(run_id, [{ file, line, observation }]);
    else sightings.push({ file, line, observation });
    this.events++;
    this.datasets += observation.inputs.length + observation.outputs.length;
  }
}

class Tally {
  readonly report: ImportReport = {
    events: 0,
    run_events: 0,
    job_events: 0,
    dataset_events: 0,
    runs: 0,
    changed: 0,
    unchanged: 0,
    rejected_total: 0,
    rejected: [],
  };
  /** Runs of earlier windows, and whether one changed them: the same run may come in several. */
  readonly #changed = new Map<string, boolean>();
  readonly #rejectedMax: number;

  constructor(rejectedMax: number) {
    this.#rejectedMax = rejectedMax;
  }

  reject({ file, line }: Place, reason: string): null {
    this.report.rejected_total++;
    if (this.report.rejected.length < this.#rejectedMax) this.report.rejected.push({ file, line, reason });
    return null;
  }

  recorded(runId: string, outcome: 'changed' | 'unchanged', events: number): void {
    const { report } = this;
    report.run_events += events;
    const before = this.#changed.get(runId);
    const changed = outcome === 'changed' || before === true;
    this.#changed.set(runId, changed);
    if (before === undefined) report.runs++;
    if (before === false && changed) report.unchanged--;
    if (before === undefined && !changed) report.unchanged++;
    if (before !== true && changed) report.changed++;
  }

  /** Writes run side by side, so their rejections come in any order; people read files from the top. */
  sort(): void {
    const files = [...new Set(this.report.rejected.map(({ file }) => file))];
    const order = new Map(files.map((file, index) => [file, index]));
    this.report.rejected.sort((a, b) => order.get(a.file)! - order.get(b.file)! || a.line - b.line);
  }
}
