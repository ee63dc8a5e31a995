import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import { InputError } from '../src/core/errors.ts';
import type { Result } from './cold-refresh.ts';
import type { Report, ScenarioOptions } from './support/report.ts';

interface Kept {
  scenario: string;
  measured_at: string;
  machine: string;
  latency: string;
  seed: number;
  data: { results: Result[] };
}

interface Plot {
  name: string;
  title: string;
  spec: TopLevelSpec;
}

/** SVG plots of a kept result of `cold-refresh`, and one HTML page with all of them: plots RESULT.json [DIRECTORY]. */
export async function run({ args }: ScenarioOptions): Promise<Report> {
  const [path, directory = join(import.meta.dirname, '../docs/bench')] = args;
  if (path === undefined) {
    throw new InputError('No result to plot.', {
      hint: 'npm run bench -- cold-refresh --json > FILE, then plots FILE.',
    });
  }
  const kept = JSON.parse(readFileSync(path, 'utf8')) as Kept;
  if (kept.scenario !== 'cold-refresh') throw new InputError(`${path} is of "${kept.scenario}".`);
  mkdirSync(directory, { recursive: true });
  const base = basename(path, '.json');
  const sections: string[] = [];
  const files: string[] = [];
  for (const { name, title, spec } of plotsOf(kept.data.results)) {
    const svg = await new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG();
    const file = join(directory, `${base}-${name}.svg`);
    writeFileSync(file, svg);
    files.push(file);
    sections.push(`<h2>${title}</h2>\n${svg}`);
  }
  const page = join(directory, `${base}.html`);
  writeFileSync(page, pageOf(kept, sections));
  return {
    title: `Plots of ${path}`,
    head: ['file'],
    rows: [...files, page].map((file) => [file]),
    notes: [],
    data: { files: [...files, page] },
  };
}

const WIDTH = 560;
const HEIGHT = 320;
/** In this order everywhere, so that a rival keeps its colour. */
const RIVAL = {
  field: 'rival',
  type: 'nominal',
  title: null,
  sort: ['runfold', 'plain snapshot', 'JSON index per org', 'object per run', 'flat scan'],
} as const;

function plotsOf(results: readonly Result[]): Plot[] {
  const of = (group: string) =>
    results.filter((result) => result.group === group && !result.rival.includes('cache'));
  const line = (
    group: string,
    x: { field: keyof Result; title: string; type: 'log' | 'symlog' },
    y: { field: string; title: string },
  ): TopLevelSpec => ({
    width: WIDTH,
    height: HEIGHT,
    background: 'white',
    data: { values: of(group).map((result) => ({ ...result, median: result.ms.median })) },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: x.field, type: 'quantitative', scale: { type: x.type }, title: x.title },
      y: { field: y.field, type: 'quantitative', scale: { type: 'log' }, title: y.title },
      color: RIVAL,
    },
  });
  const ms = { field: 'median', title: 'ms to a fresh catalog (median)' };
  return [
    {
      name: 'total-runs',
      title: 'Cold refresh of an org of 1 000 runs, by runs in the bucket',
      spec: line('total', { field: 'totalRuns', title: 'runs in the bucket', type: 'log' }, ms),
    },
    {
      name: 'org-runs',
      title: 'By runs of the org, of 100 000 in the bucket',
      spec: line('share', { field: 'orgRuns', title: 'runs of the org', type: 'log' }, ms),
    },
    {
      name: 'tail',
      title: 'By entries that no fold has seen yet',
      spec: line('tail', { field: 'tailEntries', title: 'entries in the tail', type: 'symlog' }, ms),
    },
    {
      name: 'cost',
      title: 'Dollars per million refreshes, by runs in the bucket',
      spec: line(
        'total',
        { field: 'totalRuns', title: 'runs in the bucket', type: 'log' },
        { field: 'dollarsPerMillion', title: 'USD per million refreshes' },
      ),
    },
    {
      name: 'rounds',
      title: 'Requests one after the other, by runs in the bucket',
      spec: line(
        'total',
        { field: 'totalRuns', title: 'runs in the bucket', type: 'log' },
        { field: 'rounds', title: 'rounds' },
      ),
    },
  ];
}

function pageOf({ measured_at, machine, latency, seed }: Kept, sections: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>runfold: cold refresh</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }</style>
<h1>Cold refresh of one org</h1>
<p>${measured_at}, ${machine}, latency profile ${latency}, seed ${seed}.</p>
${sections.join('\n')}
</html>
`;
}
