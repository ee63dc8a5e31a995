import pg from 'pg';
import type { Projection } from '../../src/runs/projection.ts';
import { startPostgres } from '../../test/support/postgres.ts';
import type { Dataset } from '../rivals/rival.ts';
import { firstDifference } from '../support/same-rows.ts';
import type { Entrant } from './entrant.ts';
import type { Toxiproxy } from './toxiproxy.ts';

/** Between machines of one region: what a round trip to a database adds. */
export const ROUND_TRIP_MS = 1;
const ROWS_AT_ONCE = 5_000;
const SELECT = { name: 'refresh', text: 'SELECT row FROM runs WHERE org_id = $1' };

/** Rejects with why there is no server. */
export async function postgresEntrant(
  proxy: Pick<Toxiproxy, 'slow'>,
  data: Dataset,
  others: () => Iterable<readonly Projection[]>,
): Promise<Entrant> {
  const server = await startPostgres();
  const url = new URL(server.url);
  // The server may be somebody's own: RUNFOLD_PG_URL.
  const schema = `bench_${crypto.randomUUID().replaceAll('-', '')}`;
  const direct = new pg.Client({ connectionString: server.url });
  let slow: pg.Client | null = null;
  let version = '';
  try {
    await direct.connect();
    await direct.query(`CREATE SCHEMA ${schema}`);
    await direct.query(`SET search_path = ${schema}`);
    version = (await direct.query<{ server_version: string }>('SHOW server_version')).rows[0]!.server_version;
    const port = await proxy.slow('postgres', url.host, ROUND_TRIP_MS);
    slow = new pg.Client({
      connectionString: Object.assign(new URL(url), { host: `127.0.0.1:${port}` }).href,
    });
    await slow.connect();
    await slow.query(`SET search_path = ${schema}`);
  } catch (error) {
    await direct.end().catch(() => undefined);
    await server.stop();
    throw error;
  }
  const select = async (client: pg.Client): Promise<Projection[]> => {
    const { rows } = await client.query<{ row: Projection }>({ ...SELECT, values: [data.orgId] });
    return rows.map(({ row }) => row);
  };
  return {
    name: 'PostgreSQL',
    about: `version ${version}, everything in memory, primary key (org_id, run_id), rows as json, ANALYZE done; a prepared SELECT over a connection that stays open, ${ROUND_TRIP_MS} ms of round trip added; a machine of its own must run all month`,
    billed: 'server',
    async prepare() {
      await direct.query(
        'CREATE TABLE runs (org_id text, run_id text, row json NOT NULL, PRIMARY KEY (org_id, run_id))',
      );
      for (const rows of [data.current, ...others()]) await load(direct, rows);
      await direct.query('VACUUM ANALYZE runs');
    },
    check: async () => firstDifference(await select(direct), data.current),
    async refresh() {
      const began = performance.now();
      const rows = await select(slow);
      return { ms: performance.now() - began, rows: rows.length };
    },
    async close() {
      await slow.end();
      await direct.query(`DROP SCHEMA ${schema} CASCADE`);
      await direct.end();
      await server.stop();
    },
  };
}

async function load(client: pg.Client, rows: readonly Projection[]): Promise<void> {
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    const some = rows.slice(start, start + ROWS_AT_ONCE);
    await client.query('INSERT INTO runs SELECT * FROM unnest($1::text[], $2::text[], $3::json[])', [
      some.map(({ org_id }) => org_id),
      some.map(({ run_id }) => run_id),
      some.map((row) => JSON.stringify(row)),
    ]);
  }
}
