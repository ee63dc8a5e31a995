import type { OrgCatalog } from '../../src/catalog/catalog.ts';
import { Overlay } from '../../src/catalog/fold.ts';
import { type Random, uniform } from '../../src/core/random.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { LogRecord } from '../../src/runs/record.ts';
import { isTerminal } from '../../src/runs/run.ts';
import type { Scheduler } from './scheduler.ts';
import { mapOf, type RunningRound, type Witness } from './witness.ts';

/** What a refresh owes its caller, fixed at the moment it is asked for. */
interface Owed {
  round: RunningRound;
  step: number;
  acknowledged: Map<string, number>;
  removed: Set<string>;
  active: string[];
}

/** The laws of docs/PROTOCOL.md that are about what callers were told. */
export class Laws {
  readonly #scheduler: Scheduler;
  readonly #witness: Witness;
  /** By org and run: the highest revision that a writer was told is recorded. */
  readonly #acknowledged = new Map<string, Map<string, number>>();
  readonly #true = new WeakSet<object>();
  readonly #removed = new Map<string, Set<string>>();
  acknowledgements = 0;
  refreshes = 0;
  /** With bytes that rotted in the store some refreshes must fail, and some records are out of reach. */
  readonly rotten: boolean;

  constructor(scheduler: Scheduler, witness: Witness, rotten: boolean) {
    this.#scheduler = scheduler;
    this.#witness = witness;
    this.rotten = rotten;
  }

  acknowledge(orgId: string, runId: string, revision: number): void {
    this.acknowledgements++;
    const runs = mapOf(this.#acknowledged, orgId, () => new Map<string, number>());
    runs.set(runId, Math.max(revision, runs.get(runId) ?? 0));
    this.#witness.onTurn(orgId);
  }

  acknowledgeRemoval(orgId: string, runId: string): void {
    this.#acknowledged.get(orgId)?.delete(runId);
    mapOf(this.#removed, orgId, () => new Set<string>()).add(runId);
  }

  begin(orgId: string): Owed {
    const active: string[] = [];
    for (const [runId, { run, removed }] of this.#witness.runsOf(orgId)) {
      if (!removed && !isTerminal(run.status)) active.push(runId);
    }
    const round = { orgId, beganAt: this.#scheduler.now };
    this.#witness.rounds.add(round);
    return {
      round,
      step: this.#scheduler.steps,
      acknowledged: new Map(this.#acknowledged.get(orgId)),
      removed: new Set(this.#removed.get(orgId)),
      active,
    };
  }

  /** The refresh failed: nothing can be held against it but the failure itself. */
  abandon({ round }: Owed): void {
    this.#witness.rounds.delete(round);
  }

  /** Gives what head and tail do not have, by run id, where history may have it: the revision that is owed. */
  end(owed: Owed, catalog: OrgCatalog, who: string): Map<string, number> {
    this.#witness.rounds.delete(owed.round);
    this.refreshes++;
    const { orgId } = catalog;
    const shown = shownBy(catalog);
    this.#checkTruth(orgId, catalog, who);
    const missing = new Map<string, number>();
    if (this.rotten && catalog.stats.quarantined > 0) return missing;
    for (const [runId, revision] of owed.acknowledged) {
      if (this.#witness.runsOf(orgId).get(runId)?.removed) continue;
      const row = shown.get(runId) ?? 0;
      if (row >= revision || (row === 0 && this.#isForgotten(catalog, runId, revision))) continue;
      if (row === 0 && hasHistory(catalog)) missing.set(runId, revision);
      else this.#tooOld(who, orgId, runId, row, revision);
    }
    for (const runId of owed.removed) {
      if (shown.has(runId)) this.#witness.fail('3', `${who}: ${orgId}/${runId} is shown and was removed`);
    }
    const active = new Set(catalog.active().map(({ run_id }) => run_id));
    for (const runId of owed.active) {
      const { run, removed, endedStep } = this.#witness.runsOf(orgId).get(runId)!;
      if (removed || isTerminal(run.status) || endedStep >= owed.step || active.has(runId)) continue;
      this.#witness.fail('4', `${who}: ${orgId}/${runId} is ${run.status} and not in active()`);
    }
    return missing;
  }

  /** A row that came out of history, or out of head and tail again. */
  found(missing: Map<string, number>, row: Projection, orgId: string, who: string): void {
    if (this.#witness.truth(orgId, row) !== JSON.stringify(row))
      this.#witness.fail('8', `${who}: ${orgId}/${row.run_id}@${row.revision} is shown as it never was`);
    const revision = missing.get(row.run_id);
    if (revision === undefined) return;
    missing.delete(row.run_id);
    if (row.revision < revision) this.#tooOld(who, orgId, row.run_id, row.revision, revision);
  }

  endHistory(missing: ReadonlyMap<string, number>, catalog: OrgCatalog, who: string): void {
    for (const [runId, revision] of missing) {
      if (!this.#isForgotten(catalog, runId, revision)) this.#tooOld(who, catalog.orgId, runId, 0, revision);
    }
  }

  /** Whether a catalog that has to know the run at `revision` may lack it all the same. */
  #isForgotten({ orgId, state }: OrgCatalog, runId: string, revision: number): boolean {
    return this.#witness.mayForget(orgId, runId, revision, state.manifest?.horizon ?? null);
  }

  #tooOld(who: string, orgId: string, runId: string, shown: number, revision: number): void {
    this.#witness.fail('3', `${who}: ${orgId}/${runId} is shown at ${shown}, acknowledged at ${revision}`);
  }

  /** Law 8, from the other side: every row shown was the projection of its run at that revision, bit for bit. */
  #checkTruth(orgId: string, catalog: OrgCatalog, who: string): void {
    for (const { rows } of catalog.state.segments) {
      // A warm refresh keeps the rows of the snapshot: they never change.
      if (this.#true.has(rows)) continue;
      this.#true.add(rows);
      for (let i = 0; i < rows.length; i++) {
        const row = rows.get(i);
        if (this.#witness.truth(orgId, row) === JSON.stringify(row)) continue;
        this.#witness.fail('8', `${who}: ${orgId}/${row.run_id}@${row.revision} is shown as it never was`);
      }
    }
  }

  /** Law 2, once nothing moves any more. Heartbeats alone may be missing: see `indexed_revision`. */
  async checkReplay(catalog: OrgCatalog, who: string): Promise<void> {
    const { orgId } = catalog;
    const shown = new Map<string, number>();
    for await (const { run_id, revision } of catalog.runs()) {
      if (shown.has(run_id)) this.#witness.fail('2', `${who}: ${orgId}/${run_id} is shown twice`);
      shown.set(run_id, revision);
    }
    for (const [runId, { run, removed }] of this.#witness.runsOf(orgId)) {
      if (removed) continue;
      const row = shown.get(runId) ?? 0;
      shown.delete(runId);
      if (row === 0 && this.#isForgotten(catalog, runId, run.indexed_revision)) continue;
      if (row < run.indexed_revision || row > run.revision)
        this.#witness.fail(
          '2',
          `${who}: ${orgId}/${runId} (${run.status}) is shown at ${row}; canonical is ${run.indexed_revision} to ${run.revision}`,
        );
    }
    for (const [runId, revision] of shown)
      this.#witness.fail('2', `${who}: ${orgId}/${runId}@${revision} is shown; there is no canonical run`);
  }

  /** Law 1 on the records that were really written: any order, any grouping, any repeats. */
  checkFold(random: Random): void {
    for (const [orgId, records] of this.#witness.records) {
      const straight = new Overlay().applyAll(records);
      const grouped = new Overlay();
      for (const part of groups(shuffled([...records, ...records], random), random)) {
        const overlay = new Overlay().applyAll(part);
        grouped.applyAll([...overlay.facts.values(), ...overlay.intents.values()]);
      }
      if (contents(straight) !== contents(grouped))
        this.#witness.fail('1', `${orgId}: order or repeats matter`);
      for (const [runId, fact] of straight.facts) {
        const highest = Math.max(...records.filter(isFactOf(runId)).map(revisionOf));
        if (revisionOf(fact) !== highest)
          this.#witness.fail('1', `${orgId}/${runId}: not the highest revision`);
      }
    }
  }
}

function hasHistory({ state }: OrgCatalog): boolean {
  return state.manifest?.parts.some(({ level }) => level > 0) ?? false;
}

function revisionOf(record: LogRecord): number {
  return record.kind === 'delete' ? record.revision : record.row.revision;
}

function isFactOf(runId: string) {
  return (record: LogRecord) =>
    record.kind === 'delete' ? record.run_id === runId : record.kind === 'put' && record.row.run_id === runId;
}

function contents({ facts, intents }: Overlay): string {
  const sorted = (map: ReadonlyMap<string, LogRecord>) =>
    [...map.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([sorted(facts), sorted(intents)]);
}

function shuffled<T>(items: T[], random: Random): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(uniform(random) * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}

function groups<T>(items: T[], random: Random): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < items.length; ) {
    const size = 1 + (random.u32() % 20);
    parts.push(items.slice(i, i + size));
    i += size;
  }
  return parts;
}

/** Revision by run id, without the library's views. */
function shownBy(catalog: OrgCatalog): Map<string, number> {
  const shown = new Map<string, number>();
  for (const { rows, replaced } of catalog.state.segments) {
    for (let i = 0; i < rows.length; i++) {
      if (replaced === null || replaced[i] === 0) shown.set(rows.runId(i), rows.revision(i));
    }
  }
  return shown;
}
