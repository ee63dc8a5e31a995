import { z } from 'zod';
import { lineageView as lineageOf } from '../../catalog/lineage.ts';
import type { CatalogState } from '../../catalog/state.ts';
import { type RunFilter, type TableView, tablesView } from '../../catalog/views.ts';
import { isTerminal, RUN_STATUSES } from '../../runs/run.ts';
import { RowsBuilder } from '../../snapshot/rows.ts';
import { RULES } from '../access.ts';
import { filterOf, filters, name } from '../filters.ts';
import { integer } from '../integers.ts';
import type { OrgSnapshot } from '../org-cache.ts';
import { pageOfRuns, pageOfTables } from '../pages.ts';
import { Problem } from '../problem.ts';
import { type Answer, type Call, json, type Route, route } from '../route.ts';
import { lineageView, runsPage, tablesPage, tableView } from '../schemas.ts';
import {
  ARROW,
  answerOf,
  notAcceptable,
  snapshotFor,
  stateOf,
  viewAnswer,
  viewOfBytes,
  wantsArrow,
} from '../view.ts';

const TAG = 'Catalog';
export const FRESHNESS =
  'May be as old as docs/SERVICE.md says under "Freshness"; `Cache-Control: max-age=0` shows everything that was ' +
  'acknowledged before the request.';

const cursor = z.string().max(4_096).optional().meta({ description: '`next` of the page before' });

/** Arrow answers are no objects: they may hold many more rows than a page of JSON. */
const ARROW_ROWS_MAX = 100_000;
const limit = integer(1, ARROW_ROWS_MAX)
  .optional()
  .meta({ description: 'rows of a page; JSON pages hold at most 1000' });

const runsAnswers = {
  200: { description: 'A page, newest first.', content: [json(runsPage), { type: ARROW }] },
  304: { description: 'Nothing changed since the ETag that the caller sent.' },
};

export const catalogRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/tables',
    rule: RULES.read,
    tag: TAG,
    summary: 'Every table of the org, by namespace and name',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({ namespace: filters.namespace, limit, cursor }),
    answers: { 200: { description: 'A page.', content: [json(tablesPage)] }, 304: runsAnswers[304] },
    errors: ['NOT_ACCEPTABLE'],
    async handle(call) {
      const { query } = call;
      const snapshot = await snapshotFor(call);
      return viewAnswer(call, snapshot, () => {
        const all = tablesOf(snapshot.state);
        const tables =
          query.namespace === undefined ? all : all.filter((t) => t.namespace === query.namespace);
        const { items, next } = pageOfTables(tables, jsonLimit(call, query.limit), query.cursor);
        return { tables: items, next };
      });
    },
  }),
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/table',
    rule: RULES.read,
    tag: TAG,
    summary: 'One table, named in the query because names hold slashes',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({ namespace: name, name: name.min(1) }),
    answers: { 200: { description: 'The table.', content: [json(tableView)] }, 304: runsAnswers[304] },
    errors: ['TABLE_NOT_FOUND', 'NOT_ACCEPTABLE'],
    async handle(call) {
      const snapshot = await snapshotFor(call);
      return viewAnswer(call, snapshot, () => {
        const { namespace, name } = call.query;
        const table = tablesOf(snapshot.state).find((t) => t.namespace === namespace && t.name === name);
        if (table !== undefined) return table;
        throw new Problem('TABLE_NOT_FOUND', 'No run of the org writes such a table.');
      });
    },
  }),
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/runs',
    rule: RULES.read,
    tag: TAG,
    summary: 'Runs, newest first, history included; with namespace and name those of one table',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({ ...filters, limit, cursor }),
    answers: runsAnswers,
    errors: ['NOT_ACCEPTABLE'],
    handle: (call) => runsAnswer(call, filterOf(call.query)),
  }),
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/active',
    rule: RULES.read,
    tag: TAG,
    summary: 'Runs that have not ended, newest first',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({ queue: filters.queue, limit, cursor }),
    answers: runsAnswers,
    errors: ['NOT_ACCEPTABLE'],
    handle: (call) => runsAnswer(call, { queue: call.query.queue, status: ACTIVE }),
  }),
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/lineage',
    rule: RULES.read,
    tag: TAG,
    summary: 'What feeds a table and what it feeds',
    description: FRESHNESS,
    headers: ['Cache-Control'],
    query: z.strictObject({
      namespace: name,
      name: name.min(1),
      direction: z.enum(['upstream', 'downstream', 'both']).optional(),
      depth: integer(1, 1_000).optional().meta({ description: 'how many runs away' }),
    }),
    answers: {
      200: { description: 'Tables and the runs between them.', content: [json(lineageView)] },
      304: runsAnswers[304],
    },
    errors: ['LIMIT_EXCEEDED', 'NOT_ACCEPTABLE'],
    async handle(call) {
      const snapshot = await snapshotFor(call);
      const { namespace, name, direction, depth } = call.query;
      return viewAnswer(call, snapshot, () =>
        lineageOf(snapshot.state, { table: { namespace, name }, direction, depth }),
      );
    },
  }),
];

const ACTIVE = RUN_STATUSES.filter((status) => !isTerminal(status));

type RunsCall = Call<{ limit?: number | undefined; cursor?: string | undefined }>;

async function runsAnswer(call: RunsCall, filter: RunFilter): Promise<Answer> {
  const snapshot = await snapshotFor(call);
  if (wantsArrow(call.request)) return arrowAnswer(call, snapshot, filter);
  return viewAnswer(call, snapshot, async () => {
    const { cursor } = call.query;
    const { items, next } = await pageOfRuns(
      call.service.session,
      snapshot,
      filter,
      jsonLimit(call, call.query.limit),
      cursor,
      call.signal,
    );
    return { runs: items, next };
  });
}

/** Columns as in docs/SCHEMA.md; the cursor of the next page is in the header `x-next-cursor`. */
async function arrowAnswer(call: RunsCall, snapshot: OrgSnapshot, filter: RunFilter): Promise<Answer> {
  const { encodeArrow } = call.service;
  if (encodeArrow === null) throw notAcceptable('This service gives no Arrow.');
  const { limit = ARROW_ROWS_MAX, cursor } = call.query;
  const { items, next } = await pageOfRuns(
    call.service.session,
    snapshot,
    filter,
    limit,
    cursor,
    call.signal,
  );
  const builder = new RowsBuilder(call.org, items.length);
  for (const row of items) builder.add(row);
  const bytes = await encodeArrow(builder.build());
  return answerOf(call.request, viewOfBytes(bytes as Uint8Array<ArrayBuffer>), {
    ...stateOf(call.service, snapshot),
    'content-type': ARROW,
    ...(next === null ? {} : { 'x-next-cursor': next }),
  });
}

function jsonLimit({ service }: Call, limit: number | undefined): number {
  return Math.min(limit ?? service.limits.pageLimitDefault, service.limits.pageLimitMax);
}

/** All tables of a state are worked out once: every page of them needs all. */
const tablesByState = new WeakMap<CatalogState, TableView[]>();
function tablesOf(state: CatalogState): TableView[] {
  const known = tablesByState.get(state) ?? tablesView(state);
  tablesByState.set(state, known);
  return known;
}
