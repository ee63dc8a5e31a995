import type { Result as CostResult } from '../cost.ts';
import type { Result as RivalResult } from '../rivals.ts';
import type { Result as WriteResult } from '../write-path.ts';
import { dots, lines, type Plot } from './plot.ts';

export function rivalPlots(data: unknown): Plot[] {
  const { results } = data as { results: RivalResult[] };
  const rounds = results.filter((result) => result.rounds !== null);
  return [
    {
      name: 'ms',
      title: 'Cold refresh over HTTP, beside the real packages of others',
      spec: dots(
        results.map(({ scenario, rival, ms }) => ({ scenario, row: rival, value: ms.median, ...ms })),
        'ms (median, least to most)',
      ),
    },
    {
      name: 'rounds',
      title: 'Requests one after the other in a cold refresh',
      spec: dots(
        rounds.map(({ scenario, rival, rounds }) => ({ scenario, row: rival, value: rounds! })),
        'rounds',
      ),
    },
  ];
}

export function writePathPlots(data: unknown): Plot[] {
  const { results } = data as { results: WriteResult[] };
  const writers = { field: 'writers', title: 'writers, a process each' };
  return [1, 1_000].flatMap((orgs): Plot[] => {
    const values = results.filter((result) => result.orgs === orgs && result.callers === 1);
    const where = orgs === 1 ? 'one org' : `${orgs} orgs`;
    return [
      {
        name: `rate-${orgs}`,
        title: `Acknowledged appends, ${where}`,
        spec: lines(values, writers, { field: 'acknowledgedPerSecond', title: 'acknowledged per second' }),
      },
      {
        name: `p99-${orgs}`,
        title: `Time to the acknowledgement, ${where}`,
        spec: lines(values, writers, { field: 'p99Ms', title: 'ms (99th percentile)' }),
      },
    ];
  });
}

export function costPlots(data: unknown): Plot[] {
  const { results } = data as { results: CostResult[] };
  return [
    {
      name: 'month',
      title: 'Dollars a month',
      spec: dots(
        results.flatMap(({ name, month }) =>
          Object.entries(month)
            // Less than a cent has no place on a logarithmic axis that shows the rest.
            .filter(([, value]) => value >= 0.01)
            .map(([row, value]) => ({ scenario: name, row, value })),
        ),
        'USD a month',
      ),
    },
  ];
}
