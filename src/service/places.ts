import type { ServiceLimits } from './limits.ts';
import { Problem } from './problem.ts';

/**
 * Places per org for answers that go on after their handler: a process has so many of them for one org, and an org
 * that wants more waits for itself.
 */
export class OrgPlaces {
  readonly #taken = new WeakMap<object, Map<string, number>>();
  readonly #limit: 'followersMax' | 'traceReadsMax';
  readonly #refusal: string;

  constructor(limit: 'followersMax' | 'traceReadsMax', refusal: string) {
    this.#limit = limit;
    this.#refusal = refusal;
  }

  /** Throws RATE_LIMITED. The function gives the place back; it may be called again. */
  take(service: { readonly limits: ServiceLimits }, org: string): () => void {
    const counts = this.#taken.get(service) ?? new Map<string, number>();
    this.#taken.set(service, counts);
    const count = counts.get(org) ?? 0;
    if (count >= service.limits[this.#limit]) throw new Problem('RATE_LIMITED', this.#refusal);
    counts.set(org, count + 1);
    let taken = true;
    return () => {
      if (!taken) return;
      taken = false;
      const left = counts.get(org)! - 1;
      if (left === 0) counts.delete(org);
      else counts.set(org, left);
    };
  }
}
