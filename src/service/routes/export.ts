import { z } from 'zod';
import { runsWithHistory } from '../../catalog/history.ts';
import { errorMessage } from '../../core/errors.ts';
import { EXPORT_FORMATS, EXPORT_TYPES, exportRuns } from '../../snapshot/export.ts';
import { RULES } from '../access.ts';
import { filterOf, filters } from '../filters.ts';
import { flow } from '../flow.ts';
import { integer } from '../integers.ts';
import { streamed } from '../respond.ts';
import { type Route, route } from '../route.ts';
import { snapshotFor } from '../view.ts';
import { FRESHNESS } from './catalog.ts';

export const exportRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/orgs/{org}/export',
    rule: RULES.read,
    tag: 'Catalog',
    summary: 'Runs as one file, history included; with namespace and name the history of one table',
    description:
      'Newest first, of one state of the org, sent as fast as it is read. Columns as in docs/SCHEMA.md; NDJSON has the ' +
      'fields of a run as lists show them. In CSV, texts that a spreadsheet would take for formulas have an apostrophe ' +
      `in front. A file that breaks off is one whose connection broke off. ${FRESHNESS}`,
    headers: ['Cache-Control'],
    query: z.strictObject({
      format: z.enum(EXPORT_FORMATS),
      ...filters,
      limit: integer(1).optional().meta({ description: 'runs at most; all of them unless told' }),
    }),
    answers: {
      200: {
        description: 'The file.',
        content: Object.values(EXPORT_TYPES).map((type) => ({ type: type.split(';', 1)[0]! })),
      },
    },
    waits: true,
    async handle(call) {
      const { service, org, query } = call;
      const leave = service.admission.enterExport(org);
      try {
        const snapshot = await snapshotFor(call);
        const stop = new AbortController();
        const signal = AbortSignal.any([call.signal, stop.signal]);
        const filter = { ...filterOf(query), limit: query.limit };
        const runs = runsWithHistory(service.session, snapshot.state, filter, signal);
        const pieces = exportRuns(query.format, org, runs, {
          onPiece: (rows) => service.rates.charge(org, rows / service.limits.exportRowsPerRequest),
        });
        const body = await flow(pieces, {
          clock: service.clock,
          limitMs: service.limits.exportMs,
          signal: call.signal,
          onEnd(error) {
            stop.abort();
            leave();
            if (error !== null)
              service.logger.warn({ org, error: errorMessage(error) }, 'an export broke off');
          },
        });
        return streamed(
          body,
          {
            'content-type': EXPORT_TYPES[query.format],
            'content-disposition': `attachment; filename="runs.${query.format}"`,
            'cache-control': 'private, no-store',
          },
          { packed: query.format === 'parquet' },
        );
      } catch (error) {
        leave();
        throw error;
      }
    },
  }),
];
