import type { Result } from '../cold-refresh/result.ts';
import { dots, lines, type Plot } from './plot.ts';

export function coldRefreshPlots(data: unknown): Plot[] {
  const { results } = data as { results: Result[] };
  const of = (group: string) =>
    results
      .filter((result) => result.group === group && !result.rival.includes('cache'))
      .map((result) => ({ ...result, median: result.ms.median }));
  const ms = { field: 'median', title: 'ms to a fresh catalog (median)' };
  const total = { field: 'totalRuns', title: 'runs in the bucket' };
  const plots: Plot[] = [
    {
      name: 'total-runs',
      title: 'Cold refresh of an org of 1 000 runs, by runs in the bucket',
      spec: lines(of('total'), total, ms),
    },
    {
      name: 'org-runs',
      title: 'Cold refresh by runs of the org, of 100 000 in the bucket',
      // One of those by runs in the bucket is of as many.
      spec: lines(
        bySize([...of('share'), ...of('total').filter(({ totalRuns }) => totalRuns === 100_000)]),
        { field: 'orgRuns', title: 'runs of the org' },
        ms,
      ),
    },
    {
      name: 'tail',
      title: 'Cold refresh of 1 000 runs, by entries that no fold has seen yet',
      spec: lines(of('tail'), { field: 'tailEntries', title: 'entries in the tail', type: 'symlog' }, ms),
    },
    {
      name: 'tables',
      title: 'Cold refresh of an org of 20 000 runs, by its tables',
      spec: lines(of('tables'), { field: 'tables', title: 'tables' }, ms),
    },
    {
      name: 'cost',
      title: 'Dollars per million cold refreshes, by runs in the bucket',
      spec: lines(of('total'), total, { field: 'dollarsPerMillion', title: 'USD per million refreshes' }),
    },
    {
      name: 'rounds',
      title: 'Requests one after the other in a cold refresh, by runs in the bucket',
      spec: lines(of('total'), total, { field: 'rounds', title: 'rounds' }),
    },
  ];
  const processes = of('process');
  if (processes.length > 0) {
    plots.push({
      name: 'process',
      title: 'Cold refresh in a process that has just begun',
      spec: dots(
        processes.map(({ scenario, rival, ms }) => ({ scenario, row: rival, value: ms.median, ...ms })),
        'ms (median, least to most)',
      ),
    });
  }
  return plots;
}

function bySize<T extends Result>(results: readonly T[]): T[] {
  return [...results].sort((a, b) => a.orgRuns - b.orgRuns);
}
