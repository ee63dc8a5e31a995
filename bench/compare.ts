import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../src/core/errors.ts';
import { type Kept, readKept } from './support/kept.ts';
import type { Report, ScenarioOptions } from './support/report.ts';

/** Changes smaller than this are noise of the machine, or nothing at all. */
const SHOWN_FROM = 0.03;
/** What tells one line of a result from another: words, and where those are the same, sizes that were asked for. */
const NAMES = ['about', 'scenario', 'rival', 'codec', 'figure', 'case', 'log'];
const SIZES = [
  ...['rows', 'runs', 'tables', 'foldRecords', 'mergeFanIn', 'units'],
  ...['logs', 'log_bytes', 'chunk_bytes', 'range_bytes'],
];
/** Those of the wire too: what changes there without a change of somebody's is worth a look. */
const COUNTED = ['rows', 'requests', 'rounds', 'bytes', 'folds'];
const ONLY_SHOWN_MAX = 8;
const SKIPPED = ['min', 'max', 'samples'];

/** Figures of two kept results (`--json`) side by side, where they differ. */
export async function run({ args }: ScenarioOptions): Promise<Report> {
  if (args.length !== 2) {
    throw new InputError('Two results are compared.', {
      hint: 'npm run bench -- compare OLD.json NEW.json',
    });
  }
  const [old, now] = args.map((path) => readKept(path)) as [Kept, Kept];
  if (old.scenario !== now.scenario) {
    throw new InputError(`${args[0]} is of "${old.scenario}", ${args[1]} of "${now.scenario}".`, {
      hint: 'Two results of one scenario are compared.',
    });
  }
  const before = new Map(figuresOf(old.data));
  const after = new Map(figuresOf(now.data));
  const rows = [...after].flatMap(([name, value]): [string, number, number][] => {
    const was = before.get(name);
    return was === undefined || was === value ? [] : [[name, was, value]];
  });
  const common = [...after.keys()].filter((name) => before.has(name)).length;
  const shown = rows.filter(
    ([name, was, is]) => isCounted(name) || was === 0 || Math.abs(is / was - 1) >= SHOWN_FROM,
  );
  return {
    title: `${old.scenario}: ${old.measured_at} against ${now.measured_at}`,
    head: ['figure', 'old', 'new', 'new / old'],
    rows: shown.map(([name, was, is]) => [
      name,
      round(was),
      round(is),
      was === 0 ? '' : (is / was).toFixed(2),
    ]),
    notes: [
      common === 0
        ? 'No figure is in both: nothing was compared.'
        : `Of ${common} figures that are in both, ${shown.length} differ: by ${SHOWN_FROM * 100} % or more, and what is counted exactly by anything.`,
      ...onlyIn('old', before, after),
      ...onlyIn('new', after, before),
      ...warningsOf(old, now),
    ],
    data: shown.map(([figure, was, is]) => ({ figure, was, is })),
  };
}

/** No noise is in it, so that every change of it is one. */
function isCounted(name: string): boolean {
  return COUNTED.includes(name.split(' · ').at(-1)!);
}

/** The lines of a result that the other has not: its scenarios, rivals or figures are others. */
function onlyIn(which: string, has: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>) {
  const missing = [...has.keys()].filter((name) => !other.has(name));
  if (missing.length === 0) return [];
  const lines = [...new Set(missing.map((name) => name.split(' · ').slice(0, 3).join(' · ')))];
  const more = lines.length > ONLY_SHOWN_MAX ? `; and ${lines.length - ONLY_SHOWN_MAX} more` : '';
  return [
    `Only in the ${which}, ${missing.length} figures: ${lines.slice(0, ONLY_SHOWN_MAX).join('; ')}${more}.`,
  ];
}

/** What makes figures differ that nobody has changed. What one of them did not keep cannot be told. */
export function warningsOf(old: Kept, now: Kept): string[] {
  const differs = (name: 'latency' | 'latency_profile' | 'prices' | 'seed' | 'machine') =>
    old[name] !== undefined && now[name] !== undefined && !isDeepStrictEqual(old[name], now[name]);
  const unknown = (['latency_profile', 'prices'] as const).filter(
    (name) => old[name] === undefined || now[name] === undefined,
  );
  return [
    ...(differs('machine') ? [`Machines differ: ${old.machine}; ${now.machine}.`] : []),
    ...(differs('latency')
      ? [`Latency profiles differ: ${old.latency}; ${now.latency}.`]
      : differs('latency_profile')
        ? [`Latency profile ${now.latency} had other figures in the old result.`]
        : []),
    ...(differs('seed') ? [`Seeds differ: ${old.seed}; ${now.seed}.`] : []),
    ...(differs('prices')
      ? [
          `Prices differ: ${old.prices?.name} of ${old.prices?.date}; ${now.prices?.name} of ${now.prices?.date}.`,
        ]
      : []),
    ...versionsOf(old, now),
    ...(unknown.length > 0 ? [`Not kept in both, so not compared: ${unknown.join(', ')}.`] : []),
  ];
}

/** Of the packages of others, where both tell. */
function versionsOf(old: Kept, now: Kept): string[] {
  const [was, is] = [old, now].map(
    ({ data }) => (data as { versions?: Record<string, string> } | null)?.versions ?? {},
  ) as [Record<string, string>, Record<string, string>];
  const changed = Object.keys(is).filter((name) => was[name] !== undefined && was[name] !== is[name]);
  return changed.map((name) => `${name} was ${was[name]}, and is ${is[name]}.`);
}

/** Every number with the names on the way to it, which tell the same figure in two results wherever it stands. */
export function figuresOf(value: unknown, path: readonly string[] = []): [string, number][] {
  if (typeof value === 'number') return [[path.join(' · '), value]];
  if (Array.isArray(value)) {
    const labels = labelsOf(value);
    return value.flatMap((item, i) => figuresOf(item, [...path, labels[i]!]));
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value)
    .filter(([name]) => !SKIPPED.includes(name))
    .flatMap(([name, field]) => figuresOf(field, [...path, name]));
}

/** By words, else by words and sizes, else by place: no two are the same. */
function labelsOf(items: readonly unknown[]): string[] {
  const words = items.map((item) => fieldsOf(item, NAMES).join(' · '));
  const sizes = items.map((item, i) =>
    [words[i], ...fieldsOf(item, SIZES, true)].filter(Boolean).join(' · '),
  );
  const isOnce = (labels: readonly string[], i: number) =>
    labels[i] !== '' && labels.indexOf(labels[i]!) === labels.lastIndexOf(labels[i]!);
  return items.map((_, i) => {
    if (isOnce(words, i)) return words[i]!;
    return isOnce(sizes, i) ? sizes[i]! : [sizes[i], String(i)].filter(Boolean).join(' · ');
  });
}

function fieldsOf(item: unknown, names: readonly string[], named = false): string[] {
  if (typeof item !== 'object' || item === null) return [];
  const fields = item as Record<string, unknown>;
  return names.flatMap((name) => {
    const field = fields[name];
    if (typeof field !== 'string' && typeof field !== 'number') return [];
    return [named ? `${name} ${field}` : `${field}`];
  });
}

function round(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}
