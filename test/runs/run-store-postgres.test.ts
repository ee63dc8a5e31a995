import { connect, createServer, type Socket } from 'node:net';
import pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { limits } from '../../src/core/limits.ts';
import { systemRandom } from '../../src/core/random.ts';
import { openRunStore } from '../../src/runs/open.ts';
import { openPostgresRunStore } from '../../src/runs/postgres-run-store.ts';
import type { SqlRunStore } from '../../src/runs/sql-run-store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { postgresForTest } from '../support/postgres.ts';
import { describeRunStore } from './run-store-contract.ts';
import { bounds, Losses, wholeRun as runOf } from './run-store-objects.ts';

const postgres = await postgresForTest();
const store = new MemoryStore();

if ('skipped' in postgres) {
  describe('run store contract: postgres', () => it.skip(`[skipped: ${postgres.skipped}]`));
} else {
  const { url, freshSchema } = postgres;
  const admin = new pg.Pool({ connectionString: url, max: 2 });
  afterAll(() => admin.end());
  const options = { clock: systemClock, random: systemRandom };
  const urlOf = (schema: string, more = '') => `${url}?schema=${schema}${more}`;

  describeRunStore(
    'postgres',
    async () => {
      const schema = freshSchema();
      const losses = new Losses();
      const proxy = await cuttingProxy(url, losses);
      const runs = await openPostgresRunStore({
        connectionString: proxy.url,
        schema,
        limits: limits({ ...bounds, runBytesMax: limits().runBytesMax }),
        ...options,
      });
      return {
        store: runs,
        another: () => openRunStore(urlOf(schema), { store }),
        lose: (loss, count) => losses.set(loss, count),
        async spoil(orgId, runId) {
          const sql = `UPDATE ${schema}.runs SET body = '{"no' WHERE org_id = $1 AND run_id = $2`;
          await admin.query(sql, [orgId, runId]);
        },
        async close() {
          await runs.close();
          proxy.close();
          await admin.query(`DROP SCHEMA ${schema} CASCADE`);
        },
      };
    },
    { scanOrder: 'id', closes: true, pageRuns: 1_010 },
  );

  describe('postgres: schema', () => {
    it('many processes may create one schema at the same time', async () => {
      const schema = freshSchema();
      const opened = await Promise.all(
        [1, 2, 3, 4].map(() => openRunStore(urlOf(schema, '&pool=1'), { store })),
      );
      expect((await opened[0]!.create(runOf())).outcome).toBe('written');
      expect((await opened[3]!.read('acme', 'run-1'))?.run).toEqual(runOf());
      await Promise.all(opened.map((runs) => runs.close()));
    });

    it('an operator brings a table of any name, with other columns beside ours', async () => {
      const schema = freshSchema();
      await admin.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}."Our_Runs" (
        note text DEFAULT 'x', run_id varchar(128), org_id varchar(128), revision int NOT NULL, write_id text NOT NULL,
        body text NOT NULL, crc32c bigint NOT NULL, UNIQUE (run_id, org_id))`);
      const runs = await openRunStore(urlOf(schema, '&table=Our_Runs&manage=off'), { store });
      for (const run_id of ['b', 'a', 'C']) await runs.create(runOf({ run_id }));
      const found = [];
      for await (const one of runs.scan()) found.push('run' in one ? one.run.run_id : one.problem);
      expect(found).toEqual(['C', 'a', 'b']);
      await runs.close();
    });

    it.each([
      ['body JSONB', 'body is jsonb and must be TEXT'],
      ['crc32c INT', 'crc32c is integer and must be BIGINT'],
      ['run_id VARCHAR(3)', 'run_id is character varying(3)'],
      ['note TEXT NOT NULL', 'note is NOT NULL without a default'],
    ])('refuses a table with %s', async (column, reason) => {
      const schema = freshSchema();
      const columns = new Map(
        ['org_id TEXT', 'run_id TEXT', 'revision BIGINT', 'write_id TEXT', 'body TEXT', 'crc32c BIGINT'].map(
          (one) => [one.split(' ')[0]!, one],
        ),
      ).set(column.split(' ')[0]!, column);
      const create = `CREATE TABLE ${schema}.runs (${[...columns.values()].join()}, UNIQUE (org_id, run_id))`;
      await admin.query(`CREATE SCHEMA ${schema}; ${create}`);
      const opening = openRunStore(urlOf(schema, '&manage=off'), { store });
      await expect(opening).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining(reason),
      });
    });

    it('refuses a deferrable constraint, and in a dry run a role that may not create the table', async () => {
      const schema = freshSchema();
      const role = `r_${schema}`;
      await admin.query(`CREATE SCHEMA ${schema}; CREATE ROLE ${role}; GRANT USAGE ON SCHEMA ${schema} TO ${role};
        CREATE TABLE ${schema}.later (org_id text, run_id text, revision bigint, write_id text, body text,
        crc32c bigint, UNIQUE (org_id, run_id) DEFERRABLE)`);
      const later = openRunStore(urlOf(schema, '&manage=off&table=later'), { store });
      await expect(later).rejects.toThrow('DEFERRABLE');
      const options = `&options=${encodeURIComponent(`-c role=${role}`)}`;
      const dry = openRunStore(urlOf(schema, options), { store, missing: 'empty' });
      await expect(dry).rejects.toThrow(`role ${role} may not create one`);
      await admin.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await expect(openRunStore(urlOf(schema, '&tabel=x'), { store })).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('tabel'),
      });
    });

    it('one table has one identity, whatever name leads to the server', async () => {
      const schema = freshSchema();
      const local = new URL(urlOf(schema, '&application_name=x'));
      local.hostname = local.hostname === 'localhost' ? '127.0.0.1' : 'localhost';
      const [one, same, other] = await Promise.all(
        [urlOf(schema), local.href, urlOf(schema, '&table=others')].map((at) => openRunStore(at, { store })),
      );
      const identity = (runs: unknown) => (runs as SqlRunStore).identity();
      expect(await identity(same)).toBe(await identity(one));
      expect(await identity(other)).not.toBe(await identity(one));
      await Promise.all([one, same, other].map((runs) => runs!.close()));
    });

    it('says what is missing, before anything is written', async () => {
      const schema = freshSchema();
      const failed = { code: 'STORE_FAILED', retryable: false };
      const open = (more: string) => openRunStore(urlOf(schema, more), { store });
      await expect(open('&manage=off')).rejects.toMatchObject({
        ...failed,
        hint: expect.stringContaining('Create the table'),
      });
      await admin.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.lacking (org_id text, run_id text);
        CREATE TABLE ${schema}.twice (org_id text, run_id text, revision bigint, write_id text, body text, crc32c bigint)`);
      await expect(open('&manage=off&table=lacking')).rejects.toMatchObject({
        ...failed,
        hint: expect.stringContaining('column'),
      });
      await expect(open('&manage=off&table=twice')).rejects.toMatchObject({
        ...failed,
        hint: expect.stringContaining('UNIQUE'),
      });
      await expect(open('&table=x"; DROP')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
      await expect(open('&manage=perhaps')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
      const nobody = url.replace('postgres@', 'nobody_at_all:secret@');
      const denied = openRunStore(nobody, { store });
      await expect(denied).rejects.toMatchObject({
        code: 'STORE_DENIED',
        message: expect.not.stringContaining('secret'),
      });
    });
  });

  describe('postgres: time and trouble', () => {
    const opened = async (schema: string, changes: Parameters<typeof limits>[0]) =>
      openPostgresRunStore({
        connectionString: url,
        schema,
        limits: limits({ ...bounds, ...changes }),
        ...options,
      });

    it('a write that waits for a lock ends at its deadline, by itself, and has no effect afterwards', async () => {
      const schema = freshSchema();
      const runs = await opened(schema, { requestDeadlineMs: 150, attemptsMax: 1 });
      await runs.create(runOf());
      const { run, token } = (await runs.read('acme', 'run-1'))!;
      const client = await admin.connect();
      await client.query(`BEGIN; SELECT * FROM ${schema}.runs FOR UPDATE`);
      const answer = await runs.replace({ ...run, revision: 2 }, token).catch((error) => error);
      // The server's time-out or ours, whichever comes first: definitely nothing, or not known.
      expect(answer.code ?? answer.outcome).toMatch(/DEADLINE_EXCEEDED|unknown/);
      await new Promise((resolve) => setTimeout(resolve, 200));
      await client.query('COMMIT');
      client.release();
      expect((await runs.read('acme', 'run-1'))?.run.revision).toBe(1);
      await runs.close();
    });

    it('an abort frees the caller at once, and the connection is not used again', async () => {
      const schema = freshSchema();
      const runs = await opened(schema, { requestDeadlineMs: 5_000 });
      await runs.create(runOf());
      const { run, token } = (await runs.read('acme', 'run-1'))!;
      const client = await admin.connect();
      await client.query(`BEGIN; SELECT * FROM ${schema}.runs FOR UPDATE`);
      const stop = new AbortController();
      const replacing = runs.replace({ ...run, revision: 2 }, token, stop.signal);
      await new Promise((resolve) => setTimeout(resolve, 60));
      const began = performance.now();
      stop.abort();
      expect((await replacing).outcome).toBe('unknown');
      expect(performance.now() - began).toBeLessThan(500);
      await client.query('COMMIT');
      client.release();
      expect((await runs.read('acme', 'run-1'))?.run.run_id).toBe('run-1');
      await runs.close();
    });

    it('connections that the server ends, idle or at work, are replaced by themselves', async () => {
      const schema = freshSchema();
      const runs = await opened(schema, {});
      await runs.create(runOf({ run_id: 'r0' }));
      const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'runfold' AND pid <> pg_backend_pid()`;
      const creates = Array.from({ length: 30 }, (_, i) => runs.create(runOf({ run_id: `r${i + 1}` })));
      await Promise.all([admin.query(kill), ...creates]);
      await admin.query(kill);
      for (const one of creates) expect((await one).outcome).toBe('written');
      let seen = 0;
      for await (const one of runs.scan()) seen += 'run' in one ? 1 : 0;
      expect(seen).toBe(31);
      await runs.close();
    });

    it('a server that is away is a StoreError, after the retries', async () => {
      const away = openRunStore('postgres://postgres@127.0.0.1:1/postgres', { store });
      await expect(away).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
    });
  });
}

/** Lies between client and server, and cuts the connection around writes: before they arrive, or before their answer does. */
async function cuttingProxy(target: string, losses: Losses): Promise<{ url: string; close(): void }> {
  const to = new URL(target);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(to.port || 5432), to.hostname);
    let deaf = false;
    const cut = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', cut).on('close', () => {
        sockets.delete(socket);
        cut();
      });
    }
    client.on('data', (chunk) => {
      // In the extended protocol a statement's text is in its Parse message, which starts a chunk of its own.
      const loss =
        /(INSERT|UPDATE|DELETE) /.test(chunk.toString('latin1')) && !/EXPLAIN/.test(chunk.toString('latin1'))
          ? losses.next()
          : null;
      if (loss === 'before') return cut();
      if (loss === 'after') deaf = true;
      upstream.write(chunk);
    });
    let answered = '';
    upstream.on('data', (chunk) => {
      if (!deaf) return void client.write(chunk);
      answered += chunk.toString('latin1');
      // ReadyForQuery: the statement is committed.
      if (answered.includes('Z\0\0\0\x05I')) cut();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return {
    url: url.href,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
