import { RunfoldError } from '../core/errors.ts';
import type { Dataset } from '../runs/run.ts';
import type { CatalogState } from './state.ts';
import { compareDatasets, datasetId, forEachRow, newestFirst, type RowRef, ShapeCache } from './views.ts';

export type LineageDirection = 'upstream' | 'downstream' | 'both';

export interface LineageQuery {
  table: Dataset;
  direction?: LineageDirection | undefined;
  /** How many runs away; without it as far as it goes. */
  depth?: number | undefined;
}

export interface LineageEdge {
  from: Dataset;
  to: Dataset;
  /** The newest run that read `from` and wrote `to`. */
  run_id: string;
}

export interface Lineage {
  /** Empty when nothing ever read or wrote the table. */
  nodes: Dataset[];
  edges: LineageEdge[];
}

const NODES_MAX = 100_000;

interface Graph {
  tables: Map<string, Dataset>;
  /** By the id of the table written, then of the table read: the newest run. */
  feeds: Map<string, Map<string, RowRef>>;
  fedBy: Map<string, Map<string, RowRef>>;
}

/** What feeds a table and what it feeds, table by table, through runs of any status. Pure. */
export function lineageView(state: CatalogState, query: LineageQuery): Lineage {
  const graph = graphOf(state);
  const start = datasetId(query.table);
  const nodes = new Map<string, Dataset>();
  const edges = new Map<string, LineageEdge>();
  const known = graph.tables.get(start);
  if (known === undefined) return { nodes: [], edges: [] };
  nodes.set(start, known);
  const direction = query.direction ?? 'both';
  const walk = (next: Graph['feeds'], edgeOf: (at: string, other: string) => [string, string]) => {
    let frontier = [start];
    const visited = new Set(frontier);
    for (let depth = 0; frontier.length > 0 && depth < (query.depth ?? Number.POSITIVE_INFINITY); depth++) {
      const reached: string[] = [];
      for (const at of frontier) {
        for (const [other, ref] of next.get(at) ?? []) {
          const [from, to] = edgeOf(at, other);
          edges.set(`${from}>${to}`, {
            from: graph.tables.get(from)!,
            to: graph.tables.get(to)!,
            run_id: ref.rows.runId(ref.i),
          });
          if (visited.has(other)) continue;
          visited.add(other);
          nodes.set(other, graph.tables.get(other)!);
          reached.push(other);
        }
      }
      if (nodes.size > NODES_MAX) {
        throw new RunfoldError('LIMIT_EXCEEDED', `The lineage has more than ${NODES_MAX} tables.`, {
          hint: 'Ask for a smaller depth.',
        });
      }
      frontier = reached;
    }
  };
  if (direction !== 'downstream') walk(graph.fedBy, (at, other) => [other, at]);
  if (direction !== 'upstream') walk(graph.feeds, (at, other) => [at, other]);
  return {
    nodes: [...nodes.values()].sort(compareDatasets),
    edges: [...edges.values()].sort((a, b) => compareDatasets(a.from, b.from) || compareDatasets(a.to, b.to)),
  };
}

function graphOf(state: CatalogState): Graph {
  const graph: Graph = { tables: new Map(), feeds: new Map(), fedBy: new Map() };
  for (const segment of state.segments) {
    const shapes = new ShapeCache(segment.rows);
    forEachRow(segment, (i) => {
      const { tables, inputs } = shapes.of(i);
      const ref = { rows: segment.rows, i };
      for (const to of tables) graph.tables.set(to.id, to.table);
      for (const from of inputs) {
        graph.tables.set(from.id, from.table);
        for (const to of tables) {
          keepNewest(graph.feeds, from.id, to.id, ref);
          keepNewest(graph.fedBy, to.id, from.id, ref);
        }
      }
    });
  }
  return graph;
}

function keepNewest(edges: Graph['feeds'], at: string, other: string, ref: RowRef): void {
  let others = edges.get(at);
  if (others === undefined) {
    others = new Map();
    edges.set(at, others);
  }
  const known = others.get(other);
  if (known === undefined || newestFirst(ref, known) < 0) others.set(other, ref);
}
