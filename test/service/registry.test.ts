import { tableFromIPC } from 'apache-arrow';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createClient, ServiceError } from '../../src/client/client.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { decodePart } from '../../src/snapshot/codec.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { projectionsOf } from '../snapshot/tables.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ORG } from '../support/runs.ts';
import { checkedCalls, NOW, REGISTRY_TAGS, RUNS, type Served, serve, tokenFor } from './support.ts';

const { checked, touched } = checkedCalls();
const RUN = `${RUNS}/r1`;
const BASE = `/v1/orgs/${ORG}`;
const HOUR = 3_600_000;
const uri = 'gs://results/acme/r1/out.parquet';

function clientOf({ service }: Served, role: 'writer' | 'reader' = 'writer') {
  return createClient({
    url: 'http://runfold.test',
    token: () => tokenFor({ role }),
    fetch: (input, init) => service.fetch(new Request(input, init)),
  }).org(ORG);
}

async function begun(served: Served, run_id = 'r1', more: object = {}) {
  await served.json('POST', RUNS, { body: { run_id, ...more } });
  await served.json('POST', `${RUNS}/${run_id}/started`, { body: { attempt: 1 } });
}

describe('artifacts', () => {
  it('are registered, repeated, replaced, listed and given up; each answer is durable', async () => {
    const served = await serve();
    await begun(served);
    const out = `${RUN}/artifacts/scan/out`;
    const body = {
      attempt: 1,
      uri,
      media_type: 'application/vnd.apache.parquet',
      bytes: 10,
      rows: 2,
      ttl_ms: HOUR,
    };
    const first = await checked(served, 'PUT', out, { body });
    expect(first.body).toMatchObject({
      changed: true,
      run_id: 'r1',
      artifact: {
        operator: 'scan',
        port: 'out',
        kind: 'result',
        status: 'PRESENT',
        ...body,
        replaced: false,
      },
    });
    const { expires_at, registered_at } = first.body.artifact;
    expect(expires_at - registered_at).toBe(HOUR);
    const again = await checked(served, 'PUT', out, { body });
    expect(again.body).toEqual({ ...first.body, changed: false });
    const got = await checked(served, 'GET', out);
    expect(got.body).toEqual(first.body.artifact);
    const etag = got.headers.get('etag')!;
    expect((await served.call('GET', out, { headers: { 'if-none-match': etag } })).status).toBe(304);

    // After the end, too; and nothing of it moves the run.
    await served.json('POST', `${RUN}/completed`, { body: { attempt: 1 } });
    const finished = (await served.json('GET', RUN)).body.finished_at;
    await checked(served, 'PUT', `${RUN}/artifacts/scan/console`, {
      body: { attempt: 1, uri: `${uri}.log` },
    });
    await checked(served, 'PUT', `${RUN}/artifacts/scan/statistics`, {
      body: { attempt: 1, statistics: { busy_ms: 12.5 } },
    });
    await checked(served, 'PUT', out, { body: { ...body, uri: `${uri}.2` } });
    const list = await checked(served, 'GET', `${RUN}/artifacts`);
    expect(list.body.artifacts).toMatchObject([
      { port: 'console', kind: 'console' },
      { port: 'out', uri: `${uri}.2`, replaced: false },
      { port: 'out', uri, replaced: true },
      { port: 'statistics', kind: 'statistics', uri: null, statistics: { busy_ms: 12.5 } },
    ]);
    const run = (await served.json('GET', RUN)).body;
    expect(run).toMatchObject({ finished_at: finished, status: 'SUCCEEDED', artifacts: list.body.artifacts });
    expect((await served.json('GET', RUNS, NOW)).body.runs[0].artifacts).toEqual({ count: 3, expires_at });

    const dropped = await checked(served, 'DELETE', `${out}?attempt=1`);
    expect(dropped.body.artifact.expires_at).toBeLessThanOrEqual(Date.now());
    expect((await checked(served, 'DELETE', `${out}?attempt=1`)).body.changed).toBe(false);
  });

  it('say what is wrong', async () => {
    const served = await serve();
    await served.json('POST', RUNS, { body: { run_id: 'r1' } });
    const out = `${RUN}/artifacts/scan/out`;
    const code = async (method: string, path: string, body?: object) => {
      const answer = await served.json(method, path, body === undefined ? {} : { body });
      return [answer.status, answer.body.code];
    };
    expect(await code('PUT', out, { attempt: 1, uri })).toEqual([409, 'RUN_NOT_STARTED']);
    await served.json('POST', `${RUN}/started`, { body: { attempt: 1 } });
    expect(await code('PUT', out, { attempt: 2, uri })).toEqual([409, 'ATTEMPT_STALE']);
    expect(await code('GET', out)).toEqual([404, 'ARTIFACT_NOT_FOUND']);
    expect(await code('DELETE', `${out}?attempt=1`)).toEqual([404, 'ARTIFACT_NOT_FOUND']);
    expect(await code('GET', `${RUNS}/none/artifacts`)).toEqual([404, 'RUN_NOT_FOUND']);
    expect(await code('PUT', `${RUNS}/none/artifacts/a/b`, { attempt: 1, uri })).toEqual([
      404,
      'RUN_NOT_FOUND',
    ]);
    await served.json('POST', `${RUN}/completed`, { body: { attempt: 1 } });
    await served.json('DELETE', RUN);
    expect(await code('GET', `${RUN}/artifacts`)).toEqual([410, 'RUN_NOT_FOUND']);
  });

  it('clients read what they wrote, from any replica, while others register', async () => {
    const store = new MemoryStore({});
    const replicas = [await serve({}, { store, seed: 1 }), await serve({}, { store, seed: 2 })];
    await begun(replicas[0]!);
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const [writer, reader] = [replicas[i % 2]!, replicas[(i + 1) % 2]!];
        const artifact = clientOf(writer).run('r1').artifact(`op${i}`, 'out');
        const put = await artifact.put({ attempt: 1, uri: `${uri}.${i}` });
        expect(put.artifact.uri).toBe(`${uri}.${i}`);
        expect(await clientOf(reader, 'reader').run('r1').artifact(`op${i}`, 'out').get()).toEqual(
          put.artifact,
        );
      }),
    );
    expect(await clientOf(replicas[0]!).run('r1').artifacts()).toHaveLength(12);
    const run = clientOf(replicas[1]!).run('r1');
    expect((await run.artifact('op3', 'out').drop({ attempt: 1 })).changed).toBe(true);
    await expect(run.artifact('op99', 'out').get()).rejects.toMatchObject({ code: 'ARTIFACT_NOT_FOUND' });
  });
});

describe('references', () => {
  it('the latest execution, the latest of a status, and what the latest success took', async () => {
    const served = await serve();
    const reference_id = 'airflow/daily "orders"';
    for (const run_id of ['good', 'bad', 'live']) await begun(served, run_id, { reference_id });
    await begun(served, 'other', { reference_id: 'other' });
    const good = `${RUNS}/good`;
    const task = (key: string, event: string, body: object = {}) =>
      served.json('POST', `${good}/tasks/${key}/${event}`, { body: { run_attempt: 1, attempt: 1, ...body } });
    await task('scan', 'started');
    await task('join', 'started');
    await new Promise((resolve) => setTimeout(resolve, 5));
    await task('scan', 'completed');
    const put = (place: string, body: object) =>
      served.json('PUT', `${good}/artifacts/${place}`, { body: { attempt: 1, ...body } });
    await put('scan/left', { uri: `${uri}.l`, rows: 3, bytes: 30 });
    await put('scan/right', { uri: `${uri}.r`, rows: 4 });
    await put('scan/statistics', { statistics: { busy_ms: 7, input_rows: 9 } });
    await put('sink/console', { uri: `${uri}.log` });
    await served.json('POST', `${good}/completed`, { body: { attempt: 1 } });
    await served.json('POST', `${RUNS}/bad/fail`, {
      body: { attempt: 1, error: { code: null, message: 'x' } },
    });
    await new Promise((resolve) => setTimeout(resolve, 2));
    await served.json('POST', `${RUNS}/live/cancel`, { body: {} });

    const query = `reference_id=${encodeURIComponent(reference_id)}`;
    const latest = async (more = '') =>
      (await checked(served, 'GET', `${BASE}/references/latest?${query}${more}`, NOW)).body.run_id;
    expect(await latest()).toBe('live');
    expect(await latest('&status=SUCCEEDED')).toBe('good');
    expect(await latest('&status=FAILED,SUCCEEDED')).toBe('bad');
    const { body } = await checked(served, 'GET', `${BASE}/references/statistics?${query}`, NOW);
    expect(body.run.run_id).toBe('good');
    expect(body.duration_ms).toBe(body.run.finished_at - body.run.started_at);
    expect(body.operators).toMatchObject([
      { operator: 'join', status: 'RUNNING', duration_ms: null, rows: null, statistics: null, artifacts: [] },
      {
        operator: 'scan',
        status: 'SUCCEEDED',
        rows: 7,
        bytes: 30,
        statistics: { busy_ms: 7, input_rows: 9 },
      },
      { operator: 'sink', status: null, artifacts: [{ port: 'console' }] },
    ]);
    const [, scan] = body.operators;
    expect(scan.duration_ms).toBe(scan.finished_at - scan.started_at);
    expect(scan.duration_ms).toBeGreaterThanOrEqual(4);

    const client = clientOf(served, 'reader');
    expect((await client.latestOf(reference_id, { status: 'FAILED' }, { maxAgeS: 0 })).run_id).toBe('bad');
    expect((await client.statisticsOf(reference_id, {}, { maxAgeS: 0 })).operators).toHaveLength(3);
    expect((await client.runs({ reference_id }, { maxAgeS: 0 })).runs).toHaveLength(3);
    expect((await (await served.world.read()).latestOf('other'))?.run_id).toBe('other');
    expect(await (await served.world.read()).latestOf('nobody')).toBeNull();

    for (const path of ['latest', 'statistics']) {
      const answer = await served.json('GET', `${BASE}/references/${path}?reference_id=nobody`, NOW);
      expect([answer.status, answer.body.code]).toEqual([404, 'REFERENCE_NOT_FOUND']);
    }
    // The index says it succeeded; by now it was deleted: the run before it is the latest.
    await served.world.session.recorder.apply(ORG, 'good', { type: 'delete' });
    const gone = await served.json('GET', `${BASE}/references/statistics?${query}`);
    expect(gone.status).toBe(404);
  });
});

describe('export', () => {
  async function filled(runs = 40) {
    const clock = new FakeClock();
    const served = await serve(
      {},
      { store: new MemoryStore({ clock }), world: { clock, limits: { headRowsMax: 10 } } },
    );
    const { recorder } = served.world.session;
    for (let i = 0; i < runs; i++) {
      const outputs = [{ namespace: 'db', name: `t${i % 3}` }];
      await recorder.create(ORG, { run_id: `r${i}`, outputs, kind: i === 0 ? '=cmd|"x"!A1' : 'job' });
      await recorder.apply(ORG, `r${i}`, { type: 'succeeded', attempt: 1, result: { uri: '', rows: i } });
    }
    await clock.advance(HOUR);
    await served.world.compact();
    await recorder.create(ORG, { run_id: 'tail', queue: 'a,"b"'.replace(/\W/g, '_') });
    const org = await served.world.read();
    expect(org.state.manifest!.parts.some(({ level }) => level > 0)).toBe(true);
    const expected: Projection[] = [];
    for await (const row of org.runs()) expected.push(row);
    expect(expected).toHaveLength(runs + 1);
    const fetched = async (format: string, more = '', headers: Record<string, string> = {}) => {
      const path = `${BASE}/export?format=${format}${more}`;
      const response = await served.call('GET', path, { headers: { ...NOW.headers, ...headers } });
      expect(response.status).toBe(200);
      touched.add('GET /v1/orgs/{org}/export');
      return response;
    };
    return { served, expected, fetched };
  }

  it('gives the same runs in every format, history included', async () => {
    const { expected, fetched } = await filled();
    const ndjson = await (await fetched('ndjson')).text();
    expect(
      ndjson
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(expected);
    const parquet = await fetched('parquet', '', { 'accept-encoding': 'gzip' });
    expect(parquet.headers.get('content-encoding')).toBeNull();
    expect(parquet.headers.get('content-disposition')).toBe('attachment; filename="runs.parquet"');
    const rows = await decodePart('export', new Uint8Array(await parquet.arrayBuffer()));
    expect(projectionsOf(rows)).toEqual(expected);
    const arrow = tableFromIPC(new Uint8Array(await (await fetched('arrow')).arrayBuffer()));
    expect([...arrow.getChild('run_id')!]).toEqual(expected.map(({ run_id }) => run_id));
    const csv = await (await fetched('csv')).text();
    const lines = csv.split('\r\n');
    expect(lines[0]).toMatch(/^run_id,org_id,kind,/);
    expect(lines).toHaveLength(expected.length + 2);
    expect(lines.find((line) => line.startsWith('r0,'))).toContain(`,"'=cmd|""x""!A1",`);
    expect(lines.find((line) => line.startsWith('r1,'))).toContain(',true,"",1,');
    expect(lines[1]).toMatch(/^tail,acme,job,,a__b_,QUEUED,1,1,2026-11-20T13:00:00.000Z,/);
  });

  it('of one table, of some statuses, of none at all; compressed as it flows', async () => {
    const { expected, fetched } = await filled();
    const idsOf = async (response: Response) =>
      (await response.text())
        .split('\r\n')
        .slice(1, -1)
        .map((line) => line.split(',')[0]);
    const ofTable = expected.filter(({ outputs }) => outputs[0]?.name === 't1').map(({ run_id }) => run_id);
    expect(await idsOf(await fetched('csv', '&namespace=db&name=t1'))).toEqual(ofTable);
    expect(await idsOf(await fetched('csv', '&namespace=db&name=t1&limit=5'))).toEqual(ofTable.slice(0, 5));
    expect(await idsOf(await fetched('csv', '&status=QUEUED'))).toEqual(['tail']);
    expect(await idsOf(await fetched('csv', '&queue=nobody'))).toEqual([]);
    expect(await (await fetched('ndjson', '&queue=nobody')).text()).toBe('');
    const empty = async (format: string) =>
      new Uint8Array(await (await fetched(format, '&queue=nobody')).arrayBuffer());
    expect(projectionsOf(await decodePart('export', await empty('parquet')))).toEqual([]);
    expect(tableFromIPC(await empty('arrow')).numRows).toBe(0);
    for (const encoding of ['gzip', 'zstd'] as const) {
      const packed = await fetched('ndjson', '', { 'accept-encoding': encoding });
      expect(packed.headers.get('content-encoding')).toBe(encoding);
      const { gunzipSync, zstdDecompressSync } = await import('node:zlib');
      const unpack = encoding === 'gzip' ? gunzipSync : zstdDecompressSync;
      const text = unpack(new Uint8Array(await packed.arrayBuffer())).toString();
      expect(text.trimEnd().split('\n')).toHaveLength(expected.length);
    }
  });

  it('holds as many at a time as it may, and lets go of those whose readers left', async () => {
    const { served } = await filled();
    const path = `${BASE}/export?format=ndjson`;
    const [a, b] = [await served.call('GET', path), await served.call('GET', path)];
    expect((await served.json('GET', path)).body.code).toBe('RATE_LIMITED');
    expect(served.service.admission).toMatchObject({ exports: 2, inFlight: 2 });
    await a.body!.cancel();
    expect(served.service.admission.exports).toBe(1);
    await b.text();
    await vi.waitFor(() => expect(served.service.admission).toMatchObject({ exports: 0, inFlight: 0 }));
  });

  it('what cannot be read is a problem where nothing was sent, and a broken connection afterwards', async () => {
    const { served } = await filled();
    const { store } = served.world.session;
    const { get } = store;
    store.get = async (key, options) => {
      if (options?.range !== undefined) throw new Error('history is away');
      return get.call(store, key, options);
    };
    const answer = await served.json('GET', `${BASE}/export?format=csv`, NOW);
    expect([answer.status, answer.body.code]).toEqual([500, 'INTERNAL']);
    expect(served.service.admission).toMatchObject({ exports: 0, inFlight: 0 });
  });

  it('the client reads it as it comes', async () => {
    const { served, expected } = await filled();
    const body = await clientOf(served, 'reader').export({ format: 'ndjson', limit: 7 }, { maxAgeS: 0 });
    const text = await new Response(body).text();
    expect(text.trimEnd().split('\n')).toHaveLength(7);
    expect(JSON.parse(text.split('\n', 1)[0]!)).toEqual(expected[0]);
    const refused = clientOf(served).export({ format: 'xlsx' as never });
    await expect(refused).rejects.toBeInstanceOf(ServiceError);
  });
});

afterAll(() => {
  expect(
    touched.untouched(({ tag, path }) => REGISTRY_TAGS.includes(tag) || path.endsWith('/export')),
  ).toEqual([]);
});
