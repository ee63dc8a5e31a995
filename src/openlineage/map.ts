import { checkObservation, type Observation } from '../runs/observe.ts';
import type { EventDataset, RunEvent } from './event.ts';

/** What a run event says, in runfold's words. */
export interface ObservedRun {
  readonly run_id: string;
  readonly observation: Observation;
}

/** Characters of an error message kept in the canonical run (a projection keeps fewer); a cut one ends in "…". */
const ERROR_MESSAGE_LENGTH_MAX = 65_536;

const PHASES: Readonly<Record<NonNullable<RunEvent['eventType']>, Observation['phase']>> = {
  START: 'start',
  RUNNING: 'running',
  COMPLETE: 'success',
  FAIL: 'failure',
  ABORT: 'abort',
  OTHER: 'other',
};

/**
 * Maps a run event. What the event does not say stays null, so that it cannot overrule another event: a COMPLETE
 * without `jobType` leaves the kind that START gave.
 *
 * | observation | OpenLineage |
 * |---|---|
 * | kind | `job.facets.jobType.jobType`, lower case |
 * | reference_id | `<job namespace>/<job name>` |
 * | source_type | `job.facets.jobType.integration`, lower case; else `<x>` of `…/integration/<x>` in `producer` |
 * | code_version | `job.facets.sourceCodeLocation.version`: of the job's code, never of the engine that ran it |
 * | error | `run.facets.errorMessage.message`; no code: a programming language is none |
 * | rows, bytes | sums over the outputs' `outputStatistics` that have them |
 * | version | `facets.version.datasetVersion` of the last output |
 *
 * Throws InputError, naming the run, for text beyond the limits.
 */
export function mapRunEvent(event: RunEvent): ObservedRun {
  const { jobType, sourceCodeLocation } = event.job.facets ?? {};
  const message = event.run.facets?.errorMessage?.message;
  const observation: Observation = {
    at: event.eventTime,
    phase: event.eventType === undefined ? 'other' : PHASES[event.eventType],
    kind: jobType?.jobType?.toLowerCase() ?? null,
    reference_id: `${event.job.namespace}/${event.job.name}`,
    source_type: jobType?.integration?.toLowerCase() ?? integrationOf(event.producer),
    code_version: sourceCodeLocation?.version ?? null,
    error: message === undefined ? null : { code: null, message: messageText(message) },
    rows: sum(event.outputs, 'rowCount'),
    bytes: sum(event.outputs, 'size'),
    version: event.outputs.at(-1)?.facets?.version?.datasetVersion ?? null,
    inputs: event.inputs.map(plain),
    outputs: event.outputs.map(plain),
  };
  checkObservation(event.run.runId, observation);
  return { run_id: event.run.runId, observation };
}

/** OpenLineage's own integrations name themselves in `producer`: `…/tree/1.2.3/integration/spark`. */
function integrationOf(producer: string | undefined): string | null {
  const match = /\/integration\/([a-z0-9_-]+)/i.exec(producer ?? '');
  return match?.[1]?.toLowerCase() ?? null;
}

function sum(outputs: readonly EventDataset[], figure: 'rowCount' | 'size'): number | null {
  let total: number | null = null;
  for (const { outputFacets } of outputs) {
    const value = outputFacets?.outputStatistics?.[figure];
    if (value !== undefined) total = (total ?? 0) + value;
  }
  // Beyond 2^53 the sum would be another number: then it is not known.
  return total === null || Number.isSafeInteger(total) ? total : null;
}

function messageText(message: string): string {
  // Producers cut messages too, some in the middle of a character: half of one does not survive UTF-8.
  const cut =
    message.length > ERROR_MESSAGE_LENGTH_MAX
      ? `${message.slice(0, ERROR_MESSAGE_LENGTH_MAX - 1)}…`
      : message;
  return cut.replace(/\p{Surrogate}/gu, '\ufffd');
}

function plain({ namespace, name }: EventDataset) {
  return { namespace, name };
}
