/** A counter, gauge or histogram by label values. Labels come from closed sets: never an org, a run or a path. */
type Labels = Readonly<Record<string, string | number>>;

interface Family {
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly lines: () => string[];
}

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * What Prometheus scrapes (text format 0.0.4). Small enough to own: counters, gauges read at scrape time and
 * histograms; no default metrics, no global registry.
 */
export class Metrics {
  readonly #families = new Map<string, Family>();

  counter(name: string, help: string): (labels?: Labels, by?: number) => void {
    const values = new Map<string, number>();
    this.#add(name, {
      help,
      type: 'counter',
      lines: () => [...values].map(([key, n]) => `${name}${key} ${n}`),
    });
    return (labels = {}, by = 1) => {
      const key = text(labels);
      values.set(key, (values.get(key) ?? 0) + by);
    };
  }

  gauge(name: string, help: string, read: () => number): void {
    this.#add(name, { help, type: 'gauge', lines: () => [`${name} ${read()}`] });
  }

  histogram(name: string, help: string, bounds = SECONDS): (labels: Labels, value: number) => void {
    const series = new Map<string, { labels: Labels; counts: number[]; sum: number; total: number }>();
    const lines = () =>
      [...series.values()].flatMap(({ labels, counts, sum, total }) => {
        let below = 0;
        const buckets = bounds.map((bound, i) => {
          below += counts[i]!;
          return `${name}_bucket${text({ ...labels, le: bound })} ${below}`;
        });
        buckets.push(`${name}_bucket${text({ ...labels, le: '+Inf' })} ${total}`);
        return [...buckets, `${name}_sum${text(labels)} ${sum}`, `${name}_count${text(labels)} ${total}`];
      });
    this.#add(name, { help, type: 'histogram', lines });
    return (labels, value) => {
      const key = text(labels);
      const one = series.get(key) ?? { labels, counts: bounds.map(() => 0), sum: 0, total: 0 };
      series.set(key, one);
      const at = bounds.findIndex((bound) => value <= bound);
      if (at >= 0) one.counts[at]!++;
      one.sum += value;
      one.total++;
    };
  }

  text(): string {
    const blocks = [...this.#families].map(
      ([name, { help, type, lines }]) =>
        `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines().join('\n')}`,
    );
    return `${blocks.join('\n').replace(/\n+/g, '\n')}\n`;
  }

  #add(name: string, family: Family): void {
    if (this.#families.has(name)) throw new TypeError(`The metric ${name} is there already.`);
    this.#families.set(name, family);
  }
}

function text(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) =>
      `${name}="${String(value).replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
