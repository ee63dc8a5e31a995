import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse, View } from 'vega';
import { compile } from 'vega-lite';
import { InputError } from '../src/core/errors.ts';
import { coldRefreshPlots } from './plots/cold-refresh.ts';
import { costPlots, rivalPlots, writePathPlots } from './plots/others.ts';
import { idOf, pageOf, sectionOf } from './plots/page.ts';
import { isDrawable, type Plot } from './plots/plot.ts';
import { type Kept, readKept } from './support/kept.ts';
import type { Report, ScenarioOptions } from './support/report.ts';

/** Scenarios that have plots; of any other the page has the table. */
const PLOTS: Record<string, (data: unknown) => Plot[]> = {
  'cold-refresh': coldRefreshPlots,
  rivals: rivalPlots,
  'write-path': writePathPlots,
  cost: costPlots,
};

const PAGE = 'index.html';

/** SVG plots of kept results, and one HTML page with all of them and their tables: plots RESULT.json... [DIRECTORY]. */
export async function run({ args }: ScenarioOptions): Promise<Report> {
  const results = args.filter((arg) => arg.endsWith('.json'));
  const [directory = join(import.meta.dirname, '../docs/bench'), ...more] = args.filter(
    (arg) => !arg.endsWith('.json'),
  );
  if (results.length === 0 || more.length > 0) {
    throw new InputError('Results to plot, and at most one directory.', {
      hint: 'npm run bench -- cold-refresh --out FILE.json, then plots FILE.json.',
    });
  }
  const all = results.map((path) => readKept(path));
  const plotted = all.map((kept, i) => plotsOf(kept, results[i]!));
  written(directory, () => mkdirSync(directory, { recursive: true }));
  const files: string[] = [];
  const sections: string[] = [];
  const left: string[] = [];
  for (const [i, kept] of all.entries()) {
    const base = basename(results[i]!, '.json');
    const plots: string[] = [];
    for (const plot of plotted[i]!) {
      if (!isDrawable(plot)) {
        left.push(`Not drawn, because ${base} has nothing for it: ${plot.title}.`);
        continue;
      }
      const { name, title, spec } = plot;
      const titled = { title: { text: title, fontSize: 15 }, ...spec };
      const svg = await new View(parse(compile(titled).spec), { renderer: 'none' }).toSVG();
      const file = join(directory, `${base}-${name}.svg`);
      written(file, () => writeFileSync(file, svg));
      files.push(file);
      plots.push(svg);
    }
    sections.push(sectionOf(idOf(all, i), kept, `${base}.json`, plots));
  }
  const page = join(directory, PAGE);
  written(page, () => writeFileSync(page, pageOf(all, sections)));
  return {
    title: 'Plots',
    head: ['file'],
    rows: [...files, page].map((file) => [file]),
    notes: left,
    data: { files: [...files, page] },
  };
}

function written(path: string, write: () => unknown): void {
  try {
    write();
  } catch (cause) {
    throw new InputError(`${path} cannot be written: ${(cause as NodeJS.ErrnoException).code}.`, {
      hint: 'Name a directory that can be written to after the results.',
      cause,
    });
  }
}

function plotsOf({ scenario, data }: Kept, path: string): Plot[] {
  try {
    return Object.hasOwn(PLOTS, scenario) ? PLOTS[scenario]!(data) : [];
  } catch (cause) {
    throw new InputError(`${path} does not hold what a result of "${scenario}" holds.`, {
      hint: 'Take it again with this version: --out FILE.json.',
      cause,
    });
  }
}
