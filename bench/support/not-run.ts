import { errorMessage } from '../../src/core/errors.ts';

/** One rival in one scenario that has no figures, and why. */
export interface NotRun {
  scenario: string;
  rival: string;
  why: string;
}

/** Whoever cannot be measured, or gives a wrong answer, is told of in the report, and costs nobody else his figures. */
export class Refusals {
  readonly all: NotRun[] = [];

  add(scenario: string, rival: string, error: unknown): void {
    this.all.push({ scenario, rival, why: errorMessage(error) });
  }

  /** What `work` gives, or null after it has failed. */
  async unless<T>(scenario: string, rival: string, work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      this.add(scenario, rival, error);
      return null;
    }
  }
}

/** Notes of a report: one for each reason. */
export function notesOf(all: readonly NotRun[]): string[] {
  const rivalsOf = new Map<string, Set<string>>();
  for (const { scenario, rival, why } of all) {
    const key = JSON.stringify([scenario, why]);
    rivalsOf.set(key, (rivalsOf.get(key) ?? new Set()).add(rival));
  }
  return [...rivalsOf].map(([key, rivals]) => {
    const [scenario, why] = JSON.parse(key) as [string, string];
    return `Not run: ${[...rivals].join('; ')}, ${scenario}: ${why}${why.endsWith('.') ? '' : '.'}`;
  });
}
