import type { TopLevelSpec } from 'vega-lite';

export interface Plot {
  /** Of its file, after the result's own name. */
  name: string;
  title: string;
  spec: TopLevelSpec;
}

const WIDTH = 560;
const HEIGHT = 320;

/** In this order everywhere, so that a rival keeps its colour. */
export const RIVAL = {
  field: 'rival',
  type: 'nominal',
  title: null,
  sort: [
    'runfold',
    'plain snapshot',
    'JSON index per org',
    'object per run',
    'flat scan',
    'dense-sequence log',
  ],
} as const;

interface Axis {
  field: string;
  title: string;
  type?: 'log' | 'symlog' | 'linear';
}

/** One line per rival; axes are logarithmic unless told. */
export function lines(values: readonly object[], x: Axis, y: Axis): TopLevelSpec {
  const axis = ({ field, title, type = 'log' }: Axis) =>
    ({ field, title, type: 'quantitative', scale: { type } }) as const;
  return {
    width: WIDTH,
    height: HEIGHT,
    background: 'white',
    data: { values: [...values] },
    mark: { type: 'line', point: true },
    encoding: { x: axis(x), y: axis(y), color: RIVAL },
  };
}

interface Dot {
  scenario: string;
  row: string;
  value: number;
  min?: number;
  max?: number;
}

/** A panel per scenario: a dot per row, least first, on a line from least to most where the values have `min` and `max`. */
export function dots(values: readonly Dot[], title: string): TopLevelSpec {
  const scenarios = [...new Set(values.map(({ scenario }) => scenario))];
  const scale = { type: 'log' } as const;
  return {
    background: 'white',
    resolve: { scale: { x: 'shared' } },
    vconcat: scenarios.map((scenario) => {
      const own = values.filter((value) => value.scenario === scenario).sort((a, b) => a.value - b.value);
      const y = { field: 'row', type: 'nominal', title: null, sort: own.map(({ row }) => row) } as const;
      return {
        title: { text: scenario, anchor: 'start' as const },
        width: WIDTH,
        height: { step: 18 },
        data: { values: own },
        layer: [
          {
            mark: { type: 'rule' as const, opacity: 0.5 },
            encoding: {
              y,
              x: { field: 'min', type: 'quantitative' as const, scale, title },
              x2: { field: 'max' },
            },
          },
          {
            mark: { type: 'point' as const, filled: true, size: 60 },
            encoding: { y, x: { field: 'value', type: 'quantitative' as const, scale, title } },
          },
        ],
      };
    }),
  };
}
