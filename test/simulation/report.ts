import { Coverage } from './coverage.ts';
import type { Outcome } from './simulate.ts';

/** What many simulations did together. */
export class Report {
  readonly coverage = new Coverage();
  readonly faults: Record<string, number> = {};
  readonly errors: Record<string, number> = {};
  readonly sums = {
    seeds: 0,
    operations: 0,
    acknowledgements: 0,
    refreshes: 0,
    commits: 0,
    deletions: 0,
    crashes: 0,
    pauses: 0,
    deferrals: 0,
    virtual_hours: 0,
  };
  readonly failed: Outcome[] = [];

  add(outcome: Outcome): void {
    const { sums } = this;
    sums.seeds++;
    sums.virtual_hours += outcome.virtualMs / 3_600_000;
    for (const name of SUMMED) sums[name] += outcome[name];
    addTo(this.faults, outcome.faults);
    addTo(this.errors, outcome.errors);
    this.coverage.join(outcome.coverage);
    if (outcome.violations.length > 0) this.failed.push(outcome);
  }

  json() {
    return {
      ...this.sums,
      virtual_hours: Math.round(this.sums.virtual_hours),
      faults: this.faults,
      errors_met: this.errors,
      coverage: { runs: this.coverage.runs, tasks: this.coverage.tasks },
      failed_seeds: this.failed.map(({ seed, violations }) => ({ seed, violations })),
    };
  }

  text(): string {
    const { runs, tasks } = this.coverage;
    const line = (name: string, value: unknown) => `${name.replaceAll('_', ' ').padEnd(24)}${value}`;
    return [
      ...Object.entries(this.sums).map(([name, n]) => line(name, Math.round(n).toLocaleString('en-US'))),
      'faults',
      ...Object.entries(this.faults).map(([name, n]) => line(`  ${name}`, n.toLocaleString('en-US'))),
      'errors that callers met',
      ...Object.entries(this.errors).map(([name, n]) => line(`  ${name}`, n.toLocaleString('en-US'))),
      line('run states × events', `${runs.reached} of ${runs.of} cells`),
      line('task states × events', `${tasks.reached} of ${tasks.of} cells`),
      ...[...runs.missing, ...tasks.missing].map((cell) => `  never: ${cell}`),
    ].join('\n');
  }
}

const SUMMED = [
  'operations',
  'acknowledgements',
  'refreshes',
  'commits',
  'deletions',
  'crashes',
  'pauses',
  'deferrals',
] as const;

/** What a failing seed leaves to work with: the laws it broke, how to see it again, who did what last. */
export function failureOf({ seed, violations, tail }: Outcome): string {
  const broken = violations.map(({ law, message }) => `  law ${law}: ${message}`).join('\n');
  return `Seed ${seed} breaks the laws:\n${broken}\nReplay it: npm run soak -- --seed ${seed}\n\n${tail}`;
}

function addTo(sums: Record<string, number>, more: Record<string, number>): void {
  for (const [name, n] of Object.entries(more)) sums[name] = (sums[name] ?? 0) + n;
}
