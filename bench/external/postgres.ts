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
/** What may make it quicker or slower than another's. */
const SETTINGS = ['shared_buffers', 'work_mem', 'jit', 'fsync', 'full_page_writes', 'max_connections'];
const SELECT = { name: 'refresh', text: 'SELECT row FROM runs WHERE org_id = $1' };

export const POSTGRES = ['PostgreSQL', 'PostgreSQL, new connection'] as const;

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
  const direct = clientOf({ connectionString: server.url });
  let slow: pg.Client | null = null;
  let settings = '';
  let slowUrl = '';
  try {
    await direct.connect();
    await direct.query(`CREATE SCHEMA ${schema}`);
    await direct.query(`SET search_path = ${schema}`);
    settings = await settingsOf(direct);
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
    name: POSTGRES[0],
    about: `${settings}, everything else as the server has it (what is written is not safe from a crash where fsync is off, which costs reads nothing); what is asked in memory, primary key (org_id, run_id), rows as json, VACUUM ANALYZE done; the pg package, a prepared SELECT over a connection that stays open, without TLS; ${ROUND_TRIP_MS} ms of round trip added, a round figure for two machines of one region, and no limit of bandwidth; a machine of its own must run all month`,
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
      try {
        await slow.end();
        await direct.query(`DROP SCHEMA ${schema} CASCADE`);
        await direct.end();
      } finally {
        await server.stop();
      }
    },
  };
  return [
    open,
    {
      name: POSTGRES[1],
      about:
        'the same, connected for the refresh as every other rival is, without password and TLS, which would add round trips',
      billed: 'server',
      prepare: async () => undefined,
      check,
      refresh: () => refresh(() => opened(slowUrl, schema)),
    },
  ];
}

/** A server that ends while nobody asks is an event without a listener, which would end the process: the next query tells. */
function clientOf(config: pg.ClientConfig): pg.Client {
  const client = new pg.Client(config);
  client.on('error', () => undefined);
  return client;
}

/** As the server itself says: it may be a cluster made for the bench, a container's, or somebody's own. */
async function settingsOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string; value: string }>(
    'SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY($1) ORDER BY name',
    [['server_version', ...SETTINGS]],
  );
  const of = new Map(rows.map(({ name, value }) => [name, value]));
  return `version ${of.get('server_version')}, ${SETTINGS.map((name) => `${name}=${of.get(name)}`).join(' ')}`;
}

async function opened(connectionString: string, schema: string): Promise<pg.Client> {
  // The schema comes with the connection: no query of its own.
  const client = clientOf({ connectionString, options: `-c search_path=${schema}` });
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
