import type { Dataset, RunStatus } from '../runs/run.ts';
import type { Rows } from '../snapshot/rows.ts';
import { ageOrder, Edges, type RowIndex, rowIndex, statusFlags, tablesOfEdge } from './row-index.ts';
import { compareDatasets, type NamedTable, newestFirst, type RowRef, type Shape } from './shapes.ts';
import type { CatalogState, Segment } from './state.ts';

export interface RunBrief {
  run_id: string;
  status: RunStatus;
  updated_at: number;
}

export interface TableView extends Dataset {
  /** The run that changed last among those that write the table. */
  latest_run: RunBrief;
  latest_success: RunBrief | null;
  /** Tables that feed it (that it feeds) directly. */
  upstream: number;
  downstream: number;
}

const ofRows = new WeakMap<RowIndex, readonly TableView[]>();
const ofState = new WeakMap<CatalogState, readonly TableView[]>();

/** Every table that any run writes or means to write, sorted by namespace, then name. */
export function tablesView(state: CatalogState): TableView[] {
  let views = ofState.get(state);
  if (views === undefined) {
    views = merged(state);
    ofState.set(state, views);
  }
  return views.map(copy);
}

/** The caller's own: what is kept must not change under the next. */
function copy(view: TableView): TableView {
  return {
    namespace: view.namespace,
    name: view.name,
    latest_run: { ...view.latest_run },
    latest_success: view.latest_success && { ...view.latest_success },
    upstream: view.upstream,
    downstream: view.downstream,
  };
}

/** The newest run, and the newest that succeeded, of one table. */
interface Newest {
  latest: RowRef | null;
  success: RowRef | null;
}

interface Degrees {
  upstream: number;
  downstream: number;
}

/** The head's views, and over them what the tail replaces and adds: only tables that it touches cost anything. */
function merged(state: CatalogState): readonly TableView[] {
  const [head, tail] = state.segments as readonly [Segment, Segment];
  const base = rowIndex(head.rows);
  const known = headViews(head, base);
  if (head.replaced === null && tail.rows.length === 0) return known;
  const over = rowIndex(tail.rows);
  const gone = head.replaced === null ? [] : goneShapes(base, head.replaced);
  const newest = changedNewest(head, base, tail, over);
  const degrees = changedDegrees(base, gone, over);
  // A copy in one piece, and changes only where there are any: most tables are as the head has them.
  const views: (TableView | null)[] = known.slice();
  for (const named of new Set([...newest.keys(), ...degrees.keys()])) {
    const at = isIn(base, named) ? base.placeOf[named.number]! : -1;
    if (at < 0) continue;
    const runs = newest.get(named);
    views[at] =
      runs?.latest === null
        ? null
        : { ...known[at]!, ...(runs && briefs(runs)), ...degreesOf(base, named.number, degrees.get(named)) };
  }
  const left = views.includes(null) ? views.filter((view) => view !== null) : (views as TableView[]);
  const added: TableView[] = [];
  for (const number of over.written) {
    const named = inBase(base, over.cache.tables[number]!);
    const known = isIn(base, named);
    if (known && base.latest[named.number]! >= 0) continue;
    const { namespace, name } = named.table;
    added.push({
      namespace,
      name,
      ...briefs(newest.get(named)!),
      ...degreesOf(base, known ? named.number : -1, degrees.get(named)),
    });
  }
  return withAdded(left, added);
}

/** Both sorted: few are added to many, so each looks its place up. */
function withAdded(views: readonly TableView[], added: readonly TableView[]): readonly TableView[] {
  const all: TableView[] = [];
  let from = 0;
  for (const view of added) {
    let [low, high] = [from, views.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareDatasets(views[middle]!, view) < 0) low = middle + 1;
      else high = middle;
    }
    for (; from < low; from++) all.push(views[from]!);
    all.push(view);
  }
  return added.length === 0 ? views : all.concat(views.slice(from));
}

function headViews(head: Segment, base: RowIndex): readonly TableView[] {
  let views = ofRows.get(base);
  if (views === undefined) {
    const all = new Array<TableView>(base.written.length);
    for (let place = 0; place < all.length; place++) {
      const number = base.written[place]!;
      const { namespace, name } = base.cache.tables[number]!.table;
      const [latest, success] = [base.latest[number]!, base.success[number]!];
      const latest_run = brief(head, latest);
      // Mostly the same run: then one object, of which callers get copies.
      const latest_success = success === latest ? latest_run : success < 0 ? null : brief(head, success);
      const [upstream, downstream] = [base.upstream[number]!, base.downstream[number]!];
      all[place] = { namespace, name, latest_run, latest_success, upstream, downstream };
    }
    views = all;
    ofRows.set(base, views);
  }
  return views;
}

/** Tables whose newest runs are other than in the head alone; `latest` is null where no run is left. */
function changedNewest(
  head: Segment,
  base: RowIndex,
  tail: Segment,
  over: RowIndex,
): Map<NamedTable, Newest> {
  const changed = head.replaced === null ? new Map() : restandingNewest(head, base, head.replaced);
  for (const number of over.written) {
    const named = inBase(base, over.cache.tables[number]!);
    const known = isIn(base, named);
    const before = changed.get(named) ?? newestOf(head, base, known ? named.number : -1);
    const { latest, success } = newestOf(tail, over, number);
    changed.set(named, { latest: newer(before.latest, latest), success: newer(before.success, success) });
  }
  return changed;
}

function isIn({ cache }: RowIndex, named: NamedTable): boolean {
  return cache.tables[named.number] === named;
}

/** The base's object for the same table where it has one: what maps below go by. */
function inBase({ cache }: RowIndex, named: NamedTable): NamedTable {
  return cache.find(named.table) ?? named;
}

/** What the head says of those tables whose newest rows no longer stand: one pass over the rows of their shapes. */
function restandingNewest({ rows }: Segment, base: RowIndex, replaced: Uint8Array): Map<NamedTable, Newest> {
  const { tables, shapes } = base.cache;
  const lost = new Map<number, { latest: number; success: number }>();
  for (const number of base.written) {
    const success = base.success[number]!;
    if (replaced[base.latest[number]!] === 1 || (success >= 0 && replaced[success] === 1))
      lost.set(number, { latest: -1, success: -1 });
  }
  const found = new Map<NamedTable, Newest>();
  if (lost.size === 0) return found;
  const isLost = new Uint8Array(tables.length);
  for (const number of lost.keys()) isLost[number] = 1;
  const hasLost = new Uint8Array(shapes.length);
  for (const shape of shapes)
    for (const { number } of shape.tables) hasLost[shape.number]! |= isLost[number]!;
  const isSuccess = statusFlags(rows, (status) => status === 'SUCCEEDED');
  const order = ageOrder(rows);
  const statuses = rows.codes('status');
  for (let i = 0; i < rows.length; i++) {
    const shape = base.shapeOf[i]!;
    if (hasLost[shape] === 0 || replaced[i] === 1) continue;
    for (const { number } of shapes[shape]!.tables) {
      const table = lost.get(number);
      if (table === undefined) continue;
      if (table.latest < 0 || order(i, table.latest) < 0) table.latest = i;
      if (isSuccess[statuses[i]!] === 1 && (table.success < 0 || order(i, table.success) < 0))
        table.success = i;
    }
  }
  for (const [number, { latest, success }] of lost) {
    found.set(tables[number]!, { latest: refOf(rows, latest), success: refOf(rows, success) });
  }
  return found;
}

/** Shapes of which no row stands any more. */
function goneShapes({ cache, shapeOf, rowsOfShape }: RowIndex, replaced: Uint8Array): Shape[] {
  const left = rowsOfShape.slice();
  for (let i = 0; i < replaced.length; i++) if (replaced[i] === 1) left[shapeOf[i]!]!--;
  return cache.shapes.filter(({ number }) => left[number] === 0);
}

/** What edges that come and go change of the head's degrees. */
function changedDegrees(base: RowIndex, gone: readonly Shape[], over: RowIndex): Map<NamedTable, Degrees> {
  const changed = new Map<NamedTable, Degrees>();
  const change = (from: NamedTable, to: NamedTable, by: 1 | -1) => {
    degreesIn(changed, inBase(base, to)).upstream += by;
    degreesIn(changed, inBase(base, from)).downstream += by;
  };
  /** How often the edge is in the other index, whose numbers differ. */
  const countIn = (index: RowIndex, from: NamedTable, to: NamedTable) => {
    const [a, b] = [index.cache.find(from.table), index.cache.find(to.table)];
    return a === undefined || b === undefined ? 0 : index.edges.count(a.number, b.number);
  };
  const forEachDistinct = (
    edges: Edges,
    { cache }: RowIndex,
    visit: (a: NamedTable, b: NamedTable) => void,
  ) => {
    for (const key of edges.keys) {
      const { from, to } = tablesOfEdge(key);
      visit(cache.tables[from]!, cache.tables[to]!);
    }
  };
  const lost = new Edges(gone);
  forEachDistinct(lost, base, (from, to) => {
    const isLeft = lost.count(from.number, to.number) < base.edges.count(from.number, to.number);
    if (!isLeft && countIn(over, from, to) === 0) change(from, to, -1);
  });
  forEachDistinct(over.edges, over, (from, to) => {
    if (countIn(base, from, to) === 0) change(from, to, 1);
  });
  return changed;
}

function degreesIn(degrees: Map<NamedTable, Degrees>, named: NamedTable): Degrees {
  let found = degrees.get(named);
  if (found === undefined) {
    found = { upstream: 0, downstream: 0 };
    degrees.set(named, found);
  }
  return found;
}

function degreesOf(base: RowIndex, number: number, change: Degrees | undefined): Degrees {
  return {
    upstream: (base.upstream[number] ?? 0) + (change?.upstream ?? 0),
    downstream: (base.downstream[number] ?? 0) + (change?.downstream ?? 0),
  };
}

function newestOf({ rows }: Segment, index: RowIndex, number: number): Newest {
  return { latest: refOf(rows, index.latest[number]), success: refOf(rows, index.success[number]) };
}

function refOf(rows: Rows, i: number | undefined): RowRef | null {
  return i === undefined || i < 0 ? null : { rows, i };
}

function newer(a: RowRef | null, b: RowRef | null): RowRef | null {
  if (a === null || b === null) return a ?? b;
  return newestFirst(b, a) < 0 ? b : a;
}

function briefs({ latest, success }: Newest): Pick<TableView, 'latest_run' | 'latest_success'> {
  const latest_run = brief(latest!, latest!.i);
  const isSame = success?.rows === latest!.rows && success.i === latest!.i;
  return { latest_run, latest_success: isSame ? latest_run : success && brief(success, success.i) };
}

function brief({ rows }: Segment | RowRef, i: number): RunBrief {
  return { run_id: rows.runId(i), status: rows.status(i), updated_at: rows.time('updated_at', i)! };
}
