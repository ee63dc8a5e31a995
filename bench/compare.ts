import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../src/core/errors.ts';
import { type Kept, readKept } from './support/json-file.ts';
import type { Report, ScenarioOptions } from './support/report.ts';

/** Changes smaller than this are noise of the machine, or nothing at all. */
const SHOWN_FROM = 0.03;
const NAMES = ['about', 'scenario', 'rival', 'codec', 'figure'];
const SKIPPED = ['min', 'max', 'samples'];

/** Figures of two kept results (`--json`) side by side, where they differ. */
export async function run({ args }: ScenarioOptions): Promise<Report> {
  if (args.length !== 2) {
    throw new InputError('Two results are compared.', { hint: 'npm run bench -- compare OLD.json NEW.json' });
  }
  const [old, now] = args.map((path) => readKept(path)) as [Kept, Kept];
  if (old.scenario !== now.scenario) {
    throw new InputError(`${args[0]} is of "${old.scenario}", ${args[1]} of "${now.scenario}".`);
  }
  const before = new Map(figuresOf(old.data));
  const after = new Map(figuresOf(now.data));
  const rows = [...after].flatMap(([name, value]): [string, number, number][] => {
    const was = before.get(name);
    return was === undefined || was === value ? [] : [[name, was, value]];
  });
  const shown = rows.filter(([, was, is]) => was === 0 || Math.abs(is / was - 1) >= SHOWN_FROM);
  const only = (a: typeof after, b: typeof after) => [...a.keys()].filter((name) => !b.has(name)).length;
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
      `Of ${after.size} figures ${shown.length} differ by ${SHOWN_FROM * 100} % or more.`,
      `Only in the old: ${only(before, after)}; only in the new: ${only(after, before)}.`,
      ...warningsOf(old, now),
    ],
    data: shown.map(([figure, was, is]) => ({ figure, was, is })),
  };
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
    ...(unknown.length > 0 ? [`Not kept in both, so not compared: ${unknown.join(', ')}.`] : []),
  ];
}

/** Every number with the names on the way to it, which tell the same figure in two results. */
export function figuresOf(value: unknown, path: readonly string[] = []): [string, number][] {
  if (typeof value === 'number') return [[path.join(' · '), value]];
  if (Array.isArray(value)) {
    return value.flatMap((item, i) => figuresOf(item, isNamed(item) ? path : [...path, String(i)]));
  }
  if (typeof value !== 'object' || value === null) return [];
  const fields = Object.entries(value);
  const names = fields.filter(([name, field]) => NAMES.includes(name) && typeof field === 'string');
  const here = [...path, ...names.map(([, name]) => String(name))];
  return fields
    .filter(([name]) => !SKIPPED.includes(name))
    .flatMap(([name, field]) => figuresOf(field, [...here, name]));
}

function isNamed(item: unknown): boolean {
  return typeof item === 'object' && item !== null && NAMES.some((name) => name in item);
}

function round(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}
