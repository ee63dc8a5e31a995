import type { Run } from '../src/runs/run.ts';
import type { RunSource, Stretch } from './backfill-source.ts';

/** A flat run that a dry run would have copied under its org, or found there, and shown by its record. */
export type Brought = Pick<Run, 'org_id' | 'run_id' | 'status' | 'finished_at' | 'deleted_at'> & {
  /** Its org has no run of that id yet. */
  isNew: boolean;
};

/** What the legacy phase of a dry run would have brought under its orgs, for the phases that come after it. */
export class Foretold {
  readonly #orgs = new Map<string, Map<string, Brought>>();

  add(run: Run, isNew: boolean): void {
    const { org_id, run_id, status, finished_at, deleted_at } = run;
    const runs = this.#orgs.get(org_id) ?? new Map<string, Brought>();
    this.#orgs.set(org_id, runs);
    runs.set(run_id, { org_id, run_id, status, finished_at, deleted_at, isNew });
  }

  get(orgId: string, runId: string): Brought | undefined {
    return this.#orgs.get(orgId)?.get(runId);
  }

  /** Runs that a real run would meet in a stretch, and that are not there yet. */
  newIn(source: RunSource, stretch: Stretch): Brought[] {
    return this.#newOf(stretch.org_id).filter(({ run_id }) => source.holds(stretch, run_id));
  }

  /** The source as a plan would find it: with the orgs and runs that would have been brought in. */
  on(source: RunSource): RunSource {
    return {
      ...source,
      orgs: (signal, onOutside) =>
        merged(source.orgs(signal, onOutside), this.#newOrgs(), (orgId) => source.orgOrder(orgId)),
      cursors: (orgId, signal) =>
        merged(
          source.cursors(orgId, signal),
          this.#newOf(orgId).map(({ run_id }) => source.cursorOf(run_id)),
          (cursor) => cursor,
        ),
    };
  }

  #newOrgs(): string[] {
    return [...this.#orgs.keys()].filter((orgId) => this.#newOf(orgId).length > 0);
  }

  #newOf(orgId: string): Brought[] {
    return [...(this.#orgs.get(orgId)?.values() ?? [])].filter(({ isNew }) => isNew);
  }
}

/** What is there, in its order, with what would be added in between; what both have comes once. */
async function* merged(
  there: AsyncIterable<string>,
  more: readonly string[],
  order: (one: string) => string,
): AsyncGenerator<string, void, void> {
  const added = [...more].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  let at = 0;
  for await (const one of there) {
    for (; at < added.length && order(added[at]!) <= order(one); at++)
      if (added[at] !== one) yield added[at]!;
    yield one;
  }
  yield* added.slice(at);
}
