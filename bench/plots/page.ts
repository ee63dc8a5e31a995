import type { Kept } from '../support/kept.ts';

const STYLE = `body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: right; padding: 2px 8px; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
svg { max-width: 100%; height: auto; }`;

/** One page without anything to load: it opens from a folder as well as from a server. */
export function pageOf(all: readonly Kept[], sections: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>runfold: measured</title>
<style>${STYLE}</style>
<h1>runfold: measured</h1>
<ul>
${all.map((kept, i) => `<li><a href="#${idOf(all, i)}">${escaped(titleOf(kept))}</a></li>`).join('\n')}
</ul>
${sections.join('\n')}
</html>
`;
}

/** A section's id: its scenario, and where there are several of one, their number. */
export function idOf(all: readonly Kept[], i: number): string {
  const { scenario } = all[i]!;
  const before = all.slice(0, i).filter((kept) => kept.scenario === scenario).length;
  return escaped(before === 0 ? scenario : `${scenario}-${before + 1}`);
}

/** `file`: the result's own, beside the page. */
export function sectionOf(id: string, kept: Kept, file: string, plots: readonly string[]): string {
  const { measured_at, machine, latency, seed, notes = [] } = kept;
  return `<h2 id="${id}">${escaped(titleOf(kept))}</h2>
<p>${escaped(`${measured_at}, ${machine}, latency profile ${latency}, seed ${seed}`)}. <a href="${escaped(file)}">All figures</a>.</p>
${plots.map((svg) => `<p>${svg}</p>`).join('\n')}
${tableOf(kept)}
${notes.length === 0 ? '' : `<ul>\n${notes.map((note) => `<li>${escaped(note)}</li>`).join('\n')}\n</ul>`}`;
}

function tableOf({ head, rows }: Kept): string {
  if (head === undefined || rows === undefined) return '';
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>\n${line(head, 'th')}\n${rows.map((row) => line(row, 'td')).join('\n')}\n</table>`;
}

function titleOf({ title, scenario }: Kept): string {
  return title ?? scenario;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
