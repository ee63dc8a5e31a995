import type { TopLevelSpec } from 'vega-lite';

export interface Plot {
  /** Of its file, after the result's own name. */
  name: string;
  title: string;
  /** Null: there is nothing to draw. */
  spec: TopLevelSpec | null;
}

type Drawable = Plot & { spec: TopLevelSpec };

export function isDrawable(plot: Plot): plot is Drawable {
  return plot.spec !== null;
}

const WIDTH = 560;
const HEIGHT = 320;

/** Everywhere the same colour and mark, told apart in grey too. Runfold is drawn first and wide: where two are the same, both show. */
const RIVALS: readonly [name: string, colour: string, shape: string][] = [
  ['runfold', '#e6550d', 'circle'],
  ['runfold, all of history', '#f2a15f', 'triangle-down'],
  ['JSON index per org', '#c2272d', 'cross'],
  ['plain snapshot', '#2f6db5', 'diamond'],
  ['dense-sequence log', '#2ca02c', 'diamond'],
  ['object per run', '#7f7f7f', 'triangle-up'],
  ['flat scan', '#8c6d31', 'square'],
];
const OWN = '#e6550d';
const OTHER = '#5a6b7b';

/** Nothing is cut short, and there is a line of the grid for each power of ten only. */
const CONFIG = {
  font: 'system-ui, Segoe UI, Helvetica, Arial, sans-serif',
  background: 'white',
  padding: 12,
  axis: {
    labelLimit: 0,
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    gridColor: '#e4e4e4',
  },
  legend: { labelLimit: 0, labelFontSize: 12, symbolSize: 80 },
  title: { fontSize: 14, anchor: 'start', offset: 10 },
} as const;

/** 0.1, 100, 10k; `~s` alone would say 100m of the first. */
const LABEL = "format(datum.value, datum.value < 1 ? '~g' : '~s')";

interface Axis {
  field: string;
  title: string;
  /** Logarithmic unless told; `symlog` where there is a 0. */
  type?: 'log' | 'symlog';
}

type Value = Record<string, unknown> & { rival: string };

/** One line per rival. What has no logarithm has no place on the plot; null where nothing has. */
export function lines(all: readonly object[], x: Axis, y: Axis): TopLevelSpec | null {
  const values = (all as Value[]).filter((value) => [x, y].every((axis) => hasPlace(axis, value)));
  if (values.length === 0) return null;
  const there = RIVALS.filter(([name]) => values.some((value) => (value as Value).rival === name));
  const domain = there.map(([name]) => name);
  const sorted = [...(values as Value[])].sort((a, b) => domain.indexOf(a.rival) - domain.indexOf(b.rival));
  // Who is often as slow or quick as another lies under it, wider.
  const wider = (own: number, objects: number) => [
    { test: "datum.rival === 'runfold'", value: own },
    { test: "datum.rival === 'object per run'", value: objects },
  ];
  const rival = { field: 'rival', type: 'nominal', title: null } as const;
  return {
    config: CONFIG,
    width: WIDTH,
    height: HEIGHT,
    data: { values: sorted },
    encoding: { x: axisOf(x, sorted), y: axisOf(y, sorted) },
    layer: [
      {
        mark: { type: 'line' },
        encoding: {
          color: { ...rival, scale: { domain, range: there.map(([, colour]) => colour) } },
          strokeWidth: { condition: wider(5, 4), value: 1.5 },
        },
      },
      {
        mark: { type: 'point', filled: true, opacity: 1 },
        encoding: {
          color: { ...rival, scale: { domain, range: there.map(([, colour]) => colour) } },
          size: { condition: wider(130, 150), value: 50 },
          shape: { ...rival, scale: { domain, range: there.map(([, , shape]) => shape) } },
        },
      },
    ],
  };
}

function hasPlace({ field, type = 'log' }: Axis, value: Value): boolean {
  const number = value[field];
  return typeof number === 'number' && Number.isFinite(number) && (type === 'symlog' || number > 0);
}

function axisOf({ field, title, type = 'log' }: Axis, values: readonly Value[]) {
  const numbers = values.map((value) => Number(value[field]));
  // A symmetric logarithm is linear up to its constant: of the size of the smallest that is not 0.
  const constant = Math.min(...numbers.filter((number) => number > 0));
  const ticks = type === 'log' ? powersAround(numbers) : [...new Set(numbers)];
  const scale =
    type === 'log' ? { type, domain: [ticks[0]!, ticks.at(-1)!] } : { type, constant: Math.max(1, constant) };
  const axis = { values: ticks, labelExpr: LABEL };
  return { field, title, type: 'quantitative', scale, axis } as const;
}

/** Powers of ten from the last that is not above the least, to the first that is not below the most. */
function powersAround(numbers: readonly number[]): number[] {
  const from = Math.floor(Math.log10(Math.min(...numbers)) + 1e-9);
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(...numbers)) - 1e-9));
  return Array.from({ length: to - from + 1 }, (_, i) => Number(`1e${from + i}`));
}

interface Dot {
  scenario: string;
  row: string;
  value: number;
  min?: number;
  max?: number;
}

/**
 * A panel per scenario: a dot per row with its value, least first, on a line from least to most where the values have
 * `min` and `max`. What is 0 is left out; null where nothing is left.
 */
export function dots(all: readonly Dot[], title: string): TopLevelSpec | null {
  // Least, value and most are logarithms.
  const values = all.filter(({ value, min = value }) => min > 0 && Number.isFinite(value));
  if (values.length === 0) return null;
  const scenarios = [...new Set(values.map(({ scenario }) => scenario))];
  const ticks = powersAround(values.flatMap(({ value, min = value, max = value }) => [min, max]));
  const scale = { type: 'log' as const, domain: [ticks[0]!, ticks.at(-1)!] };
  const axis = { values: ticks, labelExpr: LABEL };
  const colour = { condition: { test: "indexof(datum.row, 'runfold') === 0", value: OWN }, value: OTHER };
  return {
    config: CONFIG,
    vconcat: scenarios.map((scenario) => {
      const own = values
        .filter((value) => value.scenario === scenario)
        .sort((a, b) => a.value - b.value)
        .map((dot) => ({ ...dot, end: dot.max ?? dot.value }));
      const y = { field: 'row', type: 'nominal', title: null, sort: own.map(({ row }) => row) } as const;
      const x = (field: string) => ({ field, type: 'quantitative' as const, scale, title, axis });
      return {
        title: { text: scenario },
        width: WIDTH,
        height: { step: 20 },
        data: { values: own },
        layer: [
          {
            mark: { type: 'rule' as const, opacity: 0.5, strokeWidth: 2 },
            encoding: { y, x: x('min'), x2: { field: 'max' }, color: colour },
          },
          {
            mark: { type: 'point' as const, filled: true, size: 70, opacity: 1 },
            encoding: { y, x: x('value'), color: colour },
          },
          {
            mark: { type: 'text' as const, align: 'left' as const, dx: 8, fontSize: 11 },
            encoding: {
              y,
              x: x('end'),
              text: { field: 'value', type: 'quantitative' as const, format: ',.3~r' },
            },
          },
        ],
      };
    }),
  };
}
