import { type Attributes, type Counter, type Histogram, type Meter, metrics } from '@opentelemetry/api';
import {
  type CounterName,
  type GaugeName,
  type HistogramName,
  type LabelsOf,
  METRICS,
  type MetricDefinition,
  type MetricGroup,
  type MetricName,
} from './table.ts';

type Labels = Readonly<Record<string, string | number>>;

interface Series {
  labels: Labels;
  /** Of counters and gauges. */
  value: number;
  /** Of histograms, per bound. */
  counts: number[];
  total: number;
}

interface Family {
  readonly name: MetricName;
  readonly definition: MetricDefinition;
  readonly series: Map<string, Series>;
  /** A gauge that is read when it is asked for. */
  read: (() => number) | null;
  /** The same for OpenTelemetry; does nothing unless the process has registered an SDK before. */
  readonly mirror: (labels: Labels, value: number) => void;
}

/**
 * The metrics of one process: what Prometheus scrapes (text format 0.0.4), and the same to OpenTelemetry. Small enough
 * to own: no default metrics, no global registry. What is not of its groups is passed over.
 */
export class Metrics {
  readonly #families = new Map<MetricName, Family>();

  constructor(groups: readonly MetricGroup[], version?: string) {
    const meter = metrics.getMeter('runfold', version);
    for (const [name, definition] of Object.entries(METRICS) as [MetricName, MetricDefinition][]) {
      if (groups.includes(definition.of)) this.#families.set(name, this.#family(meter, name, definition));
    }
  }

  add<N extends CounterName>(name: N, labels: LabelsOf<N>, by = 1): void {
    if (by === 0) return;
    const family = this.#families.get(name);
    if (family === undefined) return;
    seriesOf(family, labels).value += by;
    family.mirror(labels, by);
  }

  observe<N extends HistogramName>(name: N, labels: LabelsOf<N>, value: number): void {
    const family = this.#families.get(name);
    if (family === undefined) return;
    const series = seriesOf(family, labels);
    const at = family.definition.bounds!.findIndex((bound) => value <= bound);
    if (at >= 0) series.counts[at]!++;
    series.value += value;
    series.total++;
    family.mirror(labels, value);
  }

  set(name: GaugeName, value: number): void {
    this.read(name, () => value);
  }

  /** A gauge whose value is asked for when somebody looks. */
  read(name: GaugeName, read: () => number): void {
    const family = this.#families.get(name);
    if (family !== undefined) family.read = read;
  }

  text(): string {
    const blocks: string[] = [];
    for (const family of this.#families.values()) {
      const lines = linesOf(family);
      if (lines.length === 0) continue;
      const { name, definition } = family;
      blocks.push(`# HELP ${name} ${definition.help}`, `# TYPE ${name} ${definition.type}`, ...lines);
    }
    return `${blocks.join('\n')}\n`;
  }

  #family(meter: Meter, name: MetricName, definition: MetricDefinition): Family {
    const family: Family = { name, definition, series: new Map(), read: null, mirror: () => undefined };
    // A counter that was never touched is 0: who asks for its increase must see the first one.
    if (definition.type === 'counter' && definition.labels === undefined) seriesOf(family, {});
    return Object.assign(family, { mirror: mirrorOf(meter, family) });
  }
}

function seriesOf({ series, definition }: Family, labels: Labels): Series {
  const key = text(labels);
  let one = series.get(key);
  if (one === undefined) {
    one = { labels, value: 0, counts: (definition.bounds ?? []).map(() => 0), total: 0 };
    series.set(key, one);
  }
  return one;
}

function linesOf({ name, definition, series, read }: Family): string[] {
  if (definition.type === 'gauge') return read === null ? [] : [`${name} ${read()}`];
  if (definition.type === 'counter') return [...series].map(([key, { value }]) => `${name}${key} ${value}`);
  return [...series.values()].flatMap(({ labels, value, counts, total }) => {
    let below = 0;
    const buckets = definition.bounds!.map((bound, i) => {
      below += counts[i]!;
      return `${name}_bucket${text({ ...labels, le: bound })} ${below}`;
    });
    buckets.push(`${name}_bucket${text({ ...labels, le: '+Inf' })} ${total}`);
    return [...buckets, `${name}_sum${text(labels)} ${value}`, `${name}_count${text(labels)} ${total}`];
  });
}

function text(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) =>
      `${name}="${String(value).replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function mirrorOf(meter: Meter, family: Family): Family['mirror'] {
  const { type, help, bounds, otel } = family.definition;
  const { name, unit } = otelName(family.name);
  const options = { description: help, ...(unit === undefined ? {} : { unit }) };
  const attributes = (labels: Labels): Attributes =>
    Object.fromEntries(
      Object.entries(labels).map(([label, value]) => [otel?.labels?.[label] ?? `runfold.${label}`, value]),
    );
  if (type === 'gauge') {
    meter.createObservableGauge(name, options).addCallback((result) => {
      if (family.read !== null) result.observe(family.read());
    });
    return () => undefined;
  }
  if (type === 'counter') {
    const counter: Counter = meter.createCounter(name, options);
    return (labels, value) => counter.add(value, attributes(labels));
  }
  const histogram: Histogram = meter.createHistogram(name, {
    ...options,
    advice: { explicitBucketBoundaries: [...bounds!] },
  });
  return (labels, value) => histogram.record(value, attributes(labels));
}

/** `runfold_fold_lag_seconds` is `runfold.fold.lag` in s; totals and units are no part of OpenTelemetry's names. */
export function otelName(name: MetricName): { name: string; unit: string | undefined } {
  const given: MetricDefinition = METRICS[name];
  const unit = name.endsWith('_seconds') ? 's' : name.endsWith('_bytes') ? 'By' : undefined;
  const plain = name.replace(/_(total|seconds)$/, '').replaceAll('_', '.');
  return { name: given.otel?.name ?? plain, unit };
}
