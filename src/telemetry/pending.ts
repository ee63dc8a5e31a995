import type { Facts } from '../core/telemetry.ts';
import type { Metrics } from './metrics.ts';

/** What stays to be done in one org, as it was last seen there. */
interface Pending {
  quarantine: number;
  garbage: number;
  waiting: number;
  deferred: number;
  traces: number;
  due: number;
  /** Monotonic ms at which the first run whose log waits has ended; null: none waits. */
  oldestAt: number | null;
}

const NOTHING: Pending = {
  quarantine: 0,
  garbage: 0,
  waiting: 0,
  deferred: 0,
  traces: 0,
  due: 0,
  oldestAt: null,
};

/**
 * What gauges add up over orgs. A pass looks at some of them: what was seen in the others stands until they are looked at
 * again, and ages meanwhile. It holds only orgs where something is to be done.
 */
export class PendingWork {
  readonly #orgs = new Map<string, Pending>();
  readonly #reached = new Set<string>();
  readonly #monotonic: () => number;

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** A pass has come to an org, whatever becomes of it there. Only what may have to be forgotten is noted. */
  reached(orgId: string): void {
    if (this.#orgs.has(orgId)) this.#reached.add(orgId);
  }

  folded({ org, outcome, deferred, quarantine, garbage, waiting }: Facts<'fold'>): void {
    if (org === undefined) return;
    const folded = {
      ...(quarantine !== undefined && { quarantine }),
      ...(garbage !== undefined && { garbage }),
      ...(waiting !== undefined && { waiting }),
    };
    // A look that left an org for later saw nothing else of it.
    this.#see(org, { ...(outcome !== 'deferred' && folded), deferred: deferred ?? 0 });
  }

  archived({ org, waiting = 0, due = 0, oldest_age_ms = 0 }: Facts<'archive'>): void {
    if (org === undefined) return;
    const oldestAt = waiting === 0 ? null : this.#monotonic() - oldest_age_ms;
    this.#see(org, { traces: waiting, due, oldestAt });
  }

  /** `full`: it came to every org there is; where it was not, nothing is left to be done. */
  passed({ full = false }: Facts<'pass'>): void {
    if (full) {
      for (const org of this.#orgs.keys()) if (!this.#reached.has(org)) this.#orgs.delete(org);
    }
    this.#reached.clear();
  }

  /** The age is reckoned when somebody looks: it grows, though no pass comes. */
  showOn(metrics: Metrics): void {
    metrics.read('runfold_quarantine', () => this.#sum('quarantine'));
    metrics.read('runfold_garbage_waiting', () => this.#sum('garbage'));
    metrics.read('runfold_waiting_entries', () => this.#sum('waiting'));
    metrics.read('runfold_deferred_entries', () => this.#sum('deferred'));
    metrics.read('runfold_traces_waiting', () => this.#sum('traces'));
    metrics.read('runfold_traces_due', () => this.#sum('due'));
    metrics.read('runfold_trace_oldest_seconds', () => this.#oldestMs() / 1_000);
  }

  #see(org: string, seen: Partial<Pending>): void {
    const pending = { ...NOTHING, ...this.#orgs.get(org), ...seen };
    const { oldestAt, ...counts } = pending;
    const isNothing = oldestAt === null && Object.values(counts).every((count) => count === 0);
    if (isNothing) this.#orgs.delete(org);
    else this.#orgs.set(org, pending);
    this.reached(org);
  }

  #sum(what: Exclude<keyof Pending, 'oldestAt'>): number {
    let sum = 0;
    for (const pending of this.#orgs.values()) sum += pending[what];
    return sum;
  }

  #oldestMs(): number {
    let oldestMs = 0;
    for (const { oldestAt } of this.#orgs.values())
      if (oldestAt !== null) oldestMs = Math.max(oldestMs, this.#monotonic() - oldestAt);
    return oldestMs;
  }
}
