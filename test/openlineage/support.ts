import { errorMessage } from '../../src/core/errors.ts';
import type { RecordObservations } from '../../src/openlineage/import.ts';
import type { SourceEvent } from '../../src/openlineage/read.ts';
import { type Observation, observe } from '../../src/runs/observe.ts';
import { decodeRun, encodeRun, type Run } from '../../src/runs/run.ts';

/** A recorder on a map: what the real one does, through the stored bytes, without a store. */
export class FakeRecorder {
  readonly bytes = new Map<string, Uint8Array>();
  writes = 0;

  readonly record: RecordObservations = async (orgId, runId, observations) => {
    const stored = this.bytes.get(runId);
    const before = stored ? decodeRun(runId, stored) : null;
    const { run, changed } = observeAll(before, orgId, runId, observations);
    if (!changed || run === null) return 'unchanged';
    this.writes++;
    this.bytes.set(runId, encodeRun({ ...run, revision: (before?.revision ?? 0) + 1 }));
    return 'changed';
  };

  /** Runs by id, without the count of writes. */
  runs(): Record<string, Run> {
    const entries = [...this.bytes].sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([id, bytes]) => [id, unrevised(decodeRun(id, bytes))]));
  }
}

export function observeAll(
  run: Run | null,
  org_id: string,
  run_id: string,
  observations: readonly Observation[],
) {
  let changed = false;
  for (const observation of observations) {
    const step = observe(run, { org_id, run_id }, observation);
    run = step.run;
    changed ||= step.changed;
  }
  return { run, changed };
}

export function unrevised(run: Run): Run {
  return { ...run, revision: 1 };
}

/** Items of a source as they would come from a file of one line each. */
export function sourceOf(events: readonly unknown[], file = 'test.ndjson'): SourceEvent[] {
  return events.map((json, index) => ({ file, line: index + 1, json }));
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export function messageOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return errorMessage(error);
  }
  return 'nothing was thrown';
}
