import type { RunEvent, TaskEvent } from '../../src/runs/events.ts';
import { RUN_STATUSES, type Run, TASK_STATUSES } from '../../src/runs/run.ts';
import type { RunStore } from '../../src/runs/run-store.ts';

/** The compiler holds both lists to the types of events.ts. */
const EVENTS = Object.keys({
  create: 0,
  started: 0,
  heartbeat: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  cancel: 0,
  force_cancel: 0,
  force_fail: 0,
  time_out: 0,
  retry: 0,
  delete: 0,
  task: 0,
  artifact: 0,
  trace: 0,
  trace_archived: 0,
} satisfies Record<RunEvent['type'], 0>);
const TASK_EVENTS = Object.keys({
  queued: 0,
  started: 0,
  heartbeat: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  retry: 0,
} satisfies Record<TaskEvent['type'], 0>);

const NONE = 'none';
const DELETED = 'deleted';

/** Which cells of the states × events tables (src/runs/lifecycle.ts, tasks.ts) a simulation went through. */
export class Coverage {
  readonly #runs = new Set<string>();
  readonly #tasks = new Set<string>();

  add(run: Run | null, event: RunEvent | 'observe'): void {
    if (event === 'observe') return;
    this.#runs.add(`${statusOf(run)} × ${event.type}`);
    if (event.type !== 'task' || run === null) return;
    const task = Object.hasOwn(run.tasks, event.task.key) ? run.tasks[event.task.key] : undefined;
    this.#tasks.add(`${task?.status ?? NONE} × ${event.task.type}`);
  }

  join(other: Coverage): void {
    for (const cell of other.#runs) this.#runs.add(cell);
    for (const cell of other.#tasks) this.#tasks.add(cell);
  }

  get runs() {
    return report(cells([...RUN_STATUSES, DELETED], EVENTS), this.#runs);
  }

  get tasks() {
    return report(cells(TASK_STATUSES, TASK_EVENTS), this.#tasks);
  }
}

/** A run store that notes in which status each event of `call` finds its run. */
export function covered(runs: RunStore, coverage: Coverage, event: RunEvent | 'observe'): RunStore {
  return {
    url: runs.url,
    read: async (orgId, runId, signal) => {
      const stored = await runs.read(orgId, runId, signal);
      coverage.add(stored?.run ?? null, event);
      return stored;
    },
    create: (run, signal) => runs.create(run, signal),
    replace: (run, token, signal) => runs.replace(run, token, signal),
    remove: (orgId, runId, token, signal) => runs.remove(orgId, runId, token, signal),
    scan: (options) => runs.scan(options),
    close: () => runs.close(),
  };
}

function statusOf(run: Run | null): string {
  if (run === null) return NONE;
  return run.deleted_at === null ? run.status : DELETED;
}

function cells(statuses: readonly string[], events: readonly string[]): string[] {
  return [...statuses, NONE].flatMap((status) => events.map((event) => `${status} × ${event}`));
}

function report(all: readonly string[], reached: ReadonlySet<string>) {
  return {
    reached: all.filter((cell) => reached.has(cell)).length,
    of: all.length,
    missing: all.filter((cell) => !reached.has(cell)),
  };
}
