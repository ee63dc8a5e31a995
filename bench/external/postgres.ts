import pg from 'pg';
import type { Projection } from '../../src/runs/projection.ts';
import { startPostgres } from '../../test/support/postgres.ts';
import type { Dataset } from '../rivals/rival.ts';
import { firstDifference } from '../support/same-rows.ts';
import type { Entrant, Refreshed } from './entrant.ts';
import type { Toxiproxy } from './toxiproxy.ts';

/**
 * Between machines of one region, not measured: within a zone it is a fraction of that, between zones about as much. Of
 * what a refresh from a bucket takes it is a fiftieth either way.
 */
export const ROUND_TRIP_MS = 1;
const ROWS_AT_ONCE = 5_000;
const SELECT = { name: 'refresh', text: 'SELECT row FROM runs WHERE org_id = $1' };

/** Over a connection that is open, and over one that is opened for the refresh. Rejects with why there is no server. */
export async function postgresEntrants(
  proxy: Pick<Toxiproxy, 'slow'>,
  data: Dataset,
  others: () => Iterable<readonly Projection[]>,
): Promise<[open: Entrant, opened: Entrant]> {
  const server = await startPostgres();
  const url = new URL(server.url);
  // The server may be somebody's own: RUNFOLD_PG_URL.
  const schema = `bench_${crypto.randomUUID().replaceAll('-', '')}`;
  const direct = new pg.Client({ connectionString: server.url });
  let slow: pg.Client | null = null;
  let version = '';
  let slowUrl = '';
  try {
    await direct.connect();
    await direct.query(`CREATE SCHEMA ${schema}`);
    await direct.query(`SET search_path = ${schema}`);
    version = (await direct.query<{ server_version: string }>('SHOW server_version')).rows[0]!.server_version;
    const port = await proxy.slow('postgres', url.host, { latencyMs: ROUND_TRIP_MS });
    slowUrl = Object.assign(new URL(url), { host: `127.0.0.1:${port}` }).href;
    slow = await opened(slowUrl, schema);
  } catch (error) {
    await direct.end().catch(() => undefined);
    await server.stop();
    throw error;
  }
  const select = async (client: pg.Client): Promise<Projection[]> => {
    const { rows } = await client.query<{ row: Projection }>({ ...SELECT, values: [data.orgId] });
    return rows.map(({ row }) => row);
  };
  const refresh = async (client: () => Promise<pg.Client>): Promise<Refreshed> => {
    const began = performance.now();
    const used = await client();
    const rows = await select(used);
    const ms = performance.now() - began;
    if (used !== slow) await used.end();
    return { ms, rows: rows.length };
  };
  const check = async () => firstDifference(await select(direct), data.current);
  const open: Entrant = {
    name: 'PostgreSQL',
    about: `version ${version}, its own defaults, what is asked in memory, primary key (org_id, run_id), rows as json, VACUUM ANALYZE done; the pg package, a prepared SELECT over a connection that stays open, without TLS; ${ROUND_TRIP_MS} ms of round trip added, a round figure for two machines of one region, and no limit of bandwidth; a machine of its own must run all month`,
    billed: 'server',
    async prepare() {
      await direct.query(
        'CREATE TABLE runs (org_id text, run_id text, row json NOT NULL, PRIMARY KEY (org_id, run_id))',
      );
      for (const rows of [data.current, ...others()]) await load(direct, rows);
      await direct.query('VACUUM ANALYZE runs');
    },
    check,
    refresh: () => refresh(async () => slow),
    async close() {
      await slow.end();
      await direct.query(`DROP SCHEMA ${schema} CASCADE`);
      await direct.end();
      await server.stop();
    },
  };
  return [
    open,
    {
      name: 'PostgreSQL, new connection',
      about:
        'the same, connected for the refresh as every other rival is, without password and TLS, which would add round trips',
      billed: 'server',
      prepare: async () => undefined,
      check,
      refresh: () => refresh(() => opened(slowUrl, schema)),
    },
  ];
}

async function opened(connectionString: string, schema: string): Promise<pg.Client> {
  // The schema comes with the connection: no query of its own.
  const client = new pg.Client({ connectionString, options: `-c search_path=${schema}` });
  await client.connect();
  return client;
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
