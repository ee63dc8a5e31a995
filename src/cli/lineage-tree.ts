import type { Lineage } from '../catalog/lineage.ts';
import { compareDatasets, datasetId } from '../catalog/views.ts';
import type { Dataset } from '../runs/run.ts';
import { bold, dim, plain } from './format.ts';

/**
 * Lineage as lines for people: the tables that feed `table` as one tree, what it feeds as another. A table that was
 * shown with all that is behind it is not opened again (lineage is a graph, and may have cycles).
 */
export function lineageTree(table: Dataset, { edges }: Lineage): string[] {
  const feeds = new Map<string, Dataset[]>();
  const fedBy = new Map<string, Dataset[]>();
  for (const { from, to } of edges) {
    push(feeds, datasetId(from), to);
    push(fedBy, datasetId(to), from);
  }
  const lines = [bold(label(table))];
  for (const [title, next] of [
    ['is fed by', fedBy],
    ['feeds', feeds],
  ] as const) {
    if (!next.has(datasetId(table))) continue;
    lines.push(dim(title), ...branches(table, next));
  }
  return lines;
}

/** Depth first without recursion: a chain of tables may be longer than the stack is deep. */
function branches(root: Dataset, next: ReadonlyMap<string, Dataset[]>): string[] {
  const lines: string[] = [];
  const opened = new Set([datasetId(root)]);
  const stack = childrenOf(root, next, '');
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    const id = datasetId(node.table);
    const again = opened.has(id) && next.has(id);
    lines.push(
      `${dim(node.prefix + (node.last ? '└─ ' : '├─ '))}${label(node.table)}${again ? dim(' (see above)') : ''}`,
    );
    if (again) continue;
    opened.add(id);
    stack.push(...childrenOf(node.table, next, node.prefix + (node.last ? '   ' : '│  ')));
  }
  return lines;
}

/** Last first, as a stack wants them. */
function childrenOf(table: Dataset, next: ReadonlyMap<string, Dataset[]>, prefix: string) {
  const tables = [...(next.get(datasetId(table)) ?? [])].sort(compareDatasets).reverse();
  return tables.map((child, i) => ({ table: child, prefix, last: i === 0 }));
}

function label({ namespace, name }: Dataset): string {
  return `${plain(name)} ${dim(plain(namespace))}`;
}

function push(map: Map<string, Dataset[]>, id: string, table: Dataset): void {
  const tables = map.get(id);
  if (tables === undefined) map.set(id, [table]);
  else tables.push(table);
}
