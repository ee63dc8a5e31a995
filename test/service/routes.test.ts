import { tableFromIPC } from 'apache-arrow';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createClient, UnreachableError } from '../../src/client/client.ts';
import { InputError } from '../../src/core/errors.ts';
import { ROUTES } from '../../src/service/routes/table.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ORG } from '../support/runs.ts';
import { type Answered, checkedCalls, NOW, REGISTRY_TAGS, RUNS, serve } from './support.ts';

const { checked, touched } = checkedCalls();

const error = { code: 'E1', message: 'it broke' };

describe('lifecycle', () => {
  it('a run from its creation to its end, each step twice: the repeat changes nothing', async () => {
    const served = await serve();
    const twice = async (path: string, body: object) => {
      const first = await checked(served, 'POST', path, { body });
      const second = await checked(served, 'POST', path, { body });
      expect([first.status, second.status, second.body.changed], path).toEqual([
        first.status < 300 ? first.status : 0,
        200,
        false,
      ]);
      expect({ ...second.body, changed: true }).toEqual({ ...first.body, changed: true });
      return first;
    };
    const created = await twice(RUNS, {
      run_id: 'r1',
      queue: 'q',
      payload: { target_namespace: 'db', target_table: 't', sql: 'select 1' },
    });
    expect(created.status).toBe(201);
    expect(created.headers.get('location')).toBe(`${RUNS}/r1`);
    expect((await served.json('POST', RUNS, { body: { run_id: 'r1', queue: 'other' } })).body.code).toBe(
      'RUN_ALREADY_EXISTS',
    );

    const run = `${RUNS}/r1`;
    expect((await served.json('POST', `${run}/heartbeat`, { body: { attempt: 1 } })).body).toMatchObject({
      code: 'RUN_NOT_STARTED',
      status: 409,
      run_status: 'QUEUED',
    });
    await twice(`${run}/started`, { attempt: 1, code_version: 'v1' });
    expect(
      (await checked(served, 'POST', `${run}/heartbeat`, { body: { attempt: 1 } })).body.cancel_requested,
    ).toBe(false);
    await twice(`${run}/tasks/extract/queued`, { run_attempt: 1 });
    const started = await twice(`${run}/tasks/extract/started`, { run_attempt: 1, attempt: 1 });
    expect(started.body.task).toEqual({ key: 'extract', status: 'RUNNING', attempt: 1 });
    await checked(served, 'POST', `${run}/tasks/extract/heartbeat`, { body: { run_attempt: 1, attempt: 1 } });
    await twice(`${run}/tasks/extract/fail`, { run_attempt: 1, attempt: 1, error });
    await twice(`${run}/tasks/extract/retry`, { run_attempt: 1, attempt: 1 });
    await twice(`${run}/tasks/extract/completed`, {
      run_attempt: 1,
      attempt: 2,
      outputs: [{ namespace: 'db', name: 't' }],
    });
    await twice(`${run}/tasks/load/started`, { run_attempt: 1, attempt: 1 });
    await twice(`${run}/tasks/load/cancelled`, { run_attempt: 1, attempt: 1 });
    expect(
      (await served.json('POST', `${run}/tasks/load/completed`, { body: { run_attempt: 1, attempt: 1 } }))
        .body.code,
    ).toBe('TASK_TERMINAL');

    const cancel = await twice(`${run}/cancel`, {});
    expect(cancel.body).toMatchObject({ status: 'CANCELLING', cancel_requested: true });
    expect(
      (await served.json('POST', `${run}/heartbeat`, { body: { attempt: 1 } })).body.cancel_requested,
    ).toBe(true);
    await twice(`${run}/cancelled`, { attempt: 1 });
    await twice(`${run}/retry`, { attempt: 1 });
    expect((await served.json('POST', `${run}/started`, { body: { attempt: 1 } })).body.code).toBe(
      'ATTEMPT_STALE',
    );
    await twice(`${run}/started`, { attempt: 2 });
    await twice(`${run}/fail`, { attempt: 2, error });
    await twice(`${run}/retry`, { attempt: 2 });
    await twice(`${run}/completed`, { attempt: 3, result: { rows: 5 } });

    const got = await checked(served, 'GET', run);
    expect(got.body).toMatchObject({
      status: 'SUCCEEDED',
      attempt: 3,
      result: { rows: 5 },
      payload: { sql: 'select 1' },
      tasks: [{ key: 'extract' }, { key: 'load' }],
    });
    expect(Object.keys(got.body)).not.toEqual(expect.arrayContaining(['fingerprint']));
    const again = await served.call('GET', run, { headers: { 'if-none-match': got.headers.get('etag')! } });
    expect(again.status).toBe(304);

    expect((await served.json('POST', `${RUNS}/r2/started`, { body: { attempt: 1 } })).body).toMatchObject({
      status: 404,
      code: 'RUN_NOT_FOUND',
    });
    expect((await served.json('GET', `${RUNS}/r2`)).status).toBe(404);
    await checked(served, 'DELETE', run);
    expect((await checked(served, 'DELETE', run)).body.changed).toBe(false);
    expect((await served.json('GET', run)).body).toMatchObject({ status: 410, code: 'RUN_NOT_FOUND' });
    expect((await served.json('POST', `${run}/started`, { body: { attempt: 3 } })).status).toBe(410);
  });

  it('what only operators do', async () => {
    const served = await serve();
    for (const run_id of ['a', 'b', 'c'])
      await served.json('POST', RUNS, { body: { run_id, run_timeout_ms: 1 } });
    await served.json('POST', `${RUNS}/a/started`, { body: { attempt: 1 } });
    expect((await checked(served, 'POST', `${RUNS}/a/force-cancel`)).body.status).toBe('CANCELLED');
    expect((await checked(served, 'POST', `${RUNS}/b/force-fail`, { body: { error } })).body.status).toBe(
      'FAILED',
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await checked(served, 'POST', `${RUNS}/c/time-out`)).body.status).toBe('TIMED_OUT');
  });

  it('an idempotency key stands in for the id: the same key, the same run', async () => {
    const served = await serve();
    const body = { payload: { target_table: 't' } };
    const create = (key: string, asked: object = body) =>
      served.json('POST', RUNS, { body: asked, headers: { 'idempotency-key': key } });
    const [first, repeat, other] = [await create('k1'), await create('k1'), await create('k2')];
    expect([first.status, repeat.status, other.status]).toEqual([201, 200, 201]);
    expect(repeat.body.run_id).toBe(first.body.run_id);
    expect(other.body.run_id).not.toBe(first.body.run_id);
    expect((await create('k1', { kind: 'else' })).body.code).toBe('RUN_ALREADY_EXISTS');
    expect((await served.json('POST', RUNS, { body })).body).toMatchObject({
      status: 400,
      code: 'INVALID_INPUT',
    });
  });
});

describe('catalog', () => {
  async function filled() {
    const served = await serve();
    const { recorder } = served.world.session;
    for (let i = 0; i < 25; i++) {
      const run_id = `r${String(i).padStart(2, '0')}`;
      const target_table = `t${i % 5}`;
      await recorder.create(ORG, {
        run_id,
        queue: i % 2 === 0 ? 'even' : 'odd',
        payload: { target_namespace: 'db', target_table },
        inputs: i % 5 === 0 ? [] : [{ namespace: 'db', name: `t${(i % 5) - 1}` }],
      });
      if (i >= 10) await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
    }
    return served;
  }

  const pages = async (served: Awaited<ReturnType<typeof serve>>, path: string, list: string) => {
    const all: unknown[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const { body }: Answered = await checked(
        served,
        'GET',
        `${path}${cursor === '' ? '' : `&cursor=${cursor}`}`,
        NOW,
      );
      all.push(...body[list]);
      cursor = body.next;
    }
    return all;
  };

  it('tables, one table, runs, active runs, lineage: as the library answers', async () => {
    const served = await filled();
    const org = await served.world.read();
    const base = `/v1/orgs/${ORG}`;
    expect((await checked(served, 'GET', `${base}/tables`, NOW)).body).toEqual({
      tables: org.tables(),
      next: null,
    });
    expect(await pages(served, `${base}/tables?limit=2`, 'tables')).toEqual(org.tables());
    expect((await checked(served, 'GET', `${base}/table?namespace=db&name=t3`, NOW)).body).toEqual(
      org.tables()[3],
    );
    expect((await served.json('GET', `${base}/table?namespace=db&name=t9`)).body.code).toBe(
      'TABLE_NOT_FOUND',
    );
    const all = [];
    for await (const row of org.runs()) all.push(row);
    expect(all).toHaveLength(25);
    expect(await pages(served, `${base}/runs?limit=4`, 'runs')).toEqual(all);
    expect(await pages(served, `${base}/runs?limit=2&namespace=db&name=t1`, 'runs')).toEqual(
      all.filter(({ payload }) => payload.target_table === 't1'),
    );
    expect(await pages(served, `${base}/runs?limit=3&status=SUCCEEDED,FAILED&queue=odd`, 'runs')).toEqual(
      all.filter(({ status, queue }) => status === 'SUCCEEDED' && queue === 'odd'),
    );
    expect(await pages(served, `${base}/active?queue=even&limit=2`, 'runs')).toEqual(
      org.active({ queue: 'even' }),
    );
    const table = { namespace: 'db', name: 't2' };
    expect(
      (await checked(served, 'GET', `${base}/lineage?namespace=db&name=t2&direction=upstream&depth=1`, NOW))
        .body,
    ).toEqual(org.lineage({ table, direction: 'upstream', depth: 1 }));
  });

  it('pages go through sealed history, too, each run once', async () => {
    const clock = new FakeClock();
    const limits = { headRowsMax: 10 };
    const served = await serve({}, { store: new MemoryStore({ clock }), world: { clock, limits } });
    const { recorder } = served.world.session;
    for (let i = 0; i < 40; i++) {
      await recorder.create(ORG, { run_id: `r${i}`, outputs: [{ namespace: 'db', name: 't' }] });
      await recorder.apply(ORG, `r${i}`, { type: 'succeeded', attempt: 1 });
    }
    await clock.advance(3_600_000);
    await served.world.compact();
    const org = await served.world.read();
    expect(org.state.manifest?.parts.some(({ groups }) => groups !== null)).toBe(true);
    const expected: string[] = [];
    for await (const { run_id } of org.runs()) expected.push(run_id);
    const got = (await pages(served, `${RUNS}?limit=7`, 'runs')) as { run_id: string }[];
    expect(got.map(({ run_id }) => run_id)).toEqual(expected);
    expect(new Set(expected).size).toBe(40);
  });

  it('Arrow, with the same rows', async () => {
    const served = await filled();
    const response = await served.call('GET', `${RUNS}?limit=10`, {
      headers: { ...NOW.headers, accept: 'application/vnd.apache.arrow.stream' },
    });
    expect(response.headers.get('content-type')).toBe('application/vnd.apache.arrow.stream');
    expect(response.headers.get('vary')).toContain('Accept');
    const table = tableFromIPC(new Uint8Array(await response.arrayBuffer()));
    const json = await served.json('GET', `${RUNS}?limit=10`);
    expect([...table.getChild('run_id')!]).toEqual(
      json.body.runs.map(({ run_id }: { run_id: string }) => run_id),
    );
    expect(response.headers.get('x-next-cursor')).toBe(json.body.next);
  });

  it('ETags: 304 while nothing changed, another after a change; compressed answers say so', async () => {
    const served = await filled();
    const first = await served.call('GET', RUNS, NOW);
    const etag = first.headers.get('etag')!;
    const conditional = { headers: { ...NOW.headers, 'if-none-match': etag } };
    expect((await served.call('GET', RUNS, conditional)).status).toBe(304);
    await served.json('POST', RUNS, { body: { run_id: 'new' } });
    expect((await served.call('GET', RUNS, conditional)).status).toBe(200);
    for (const encoding of ['gzip', 'zstd']) {
      const packed = await served.call('GET', RUNS, { headers: { 'accept-encoding': `br, ${encoding}` } });
      expect(packed.headers.get('content-encoding')).toBe(encoding);
      expect((await packed.arrayBuffer()).byteLength).toBeLessThan(5_000);
    }
    expect(
      (await served.call('GET', RUNS, { headers: { 'accept-encoding': 'gzip;q=0' } })).headers.get(
        'content-encoding',
      ),
    ).toBeNull();
  });
});

describe('changes', () => {
  const path = `/v1/orgs/${ORG}/changes`;

  it('tell every run that changed since the cursor, deletes included, also across a fold', async () => {
    const served = await serve();
    await served.json('POST', RUNS, { body: { run_id: 'old' } });
    const { body: start } = await checked(served, 'GET', path);
    expect(start).toMatchObject({ changes: [], more: false });
    const next = async (cursor: string, wait = 0) =>
      (await checked(served, 'GET', `${path}?cursor=${cursor}&wait_ms=${wait}`)).body;
    expect((await next(start.cursor)).changes).toEqual([]);

    await served.json('POST', RUNS, { body: { run_id: 'new' } });
    const one = await next(start.cursor);
    expect(one.changes).toMatchObject([{ run_id: 'new', run: { status: 'QUEUED' } }]);
    await served.json('POST', `${RUNS}/old/cancel`, { body: {} });
    await served.json('DELETE', `${RUNS}/old`);
    await served.json('POST', `${RUNS}/new/started`, { body: { attempt: 1 } });
    await served.world.compact();
    const two = await next(one.cursor);
    expect(two.changes).toHaveLength(2);
    expect(two.changes).toEqual(
      expect.arrayContaining([
        { run_id: 'old', run: null },
        { run_id: 'new', run: expect.objectContaining({ status: 'RUNNING' }) },
      ]),
    );
    // The older cursor still tells all of it.
    expect((await next(start.cursor)).changes).toHaveLength(3);
    expect((await next(two.cursor)).changes).toEqual([]);
  });

  it('wait until something changes', async () => {
    const served = await serve({ watchPauseMs: 20 });
    const { body: start } = await served.json('GET', path);
    const waiting = served.json('GET', `${path}?cursor=${start.cursor}&wait_ms=5000`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await served.json('POST', RUNS, { body: { run_id: 'r1' } });
    expect((await waiting).body.changes).toMatchObject([{ run_id: 'r1' }]);
    expect(served.service.admission.inFlight).toBe(0);
  });

  it('come as server-sent events, too', async () => {
    const served = await serve({ watchPauseMs: 20, streamMs: 2_000 });
    const response = await served.call('GET', path, { headers: { accept: 'text/event-stream' } });
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const first = await reader.read();
    expect(first.value).toMatch(/^event: cursor\nid: \S+\ndata: /);
    await served.json('POST', RUNS, { body: { run_id: 'r1' } });
    expect((await reader.read()).value).toMatch(
      /^event: change\ndata: {"run_id":"r1","run":{.*}}\n\nevent: cursor\nid: /,
    );
    await reader.cancel();
  });
});

describe('logs', () => {
  it('added to, read and followed: test/service/trace.test.ts has the details', async () => {
    const served = await serve({ watchPauseMs: 5 });
    await checked(served, 'POST', RUNS, { body: { run_id: 'r1' } });
    const trace = `${RUNS}/r1/trace`;
    const chunk = { body: 'a log\n', headers: { 'content-type': 'application/octet-stream' } };
    await checked(served, 'POST', `${trace}?attempt=1&offset=0&end=true`, chunk);
    const read = await served.call('GET', trace);
    expect([read.status, await read.text()]).toEqual([200, 'a log\n']);
    touched.add('GET /v1/orgs/{org}/runs/{run}/trace');
    const followed = await served.call('GET', `${trace}/follow`);
    expect(await followed.text()).toBe(
      'event: text\nid: 1-6\ndata: {"offset":0,"text":"a log\\n"}\n\n' +
        'event: end\nid: 1-6\ndata: {"bytes":6,"status":"live","attempt":1}\n\n',
    );
    touched.add('GET /v1/orgs/{org}/runs/{run}/trace/follow');
    const { body } = await checked(served, 'GET', `${RUNS}/r1`);
    expect(body.traces).toMatchObject([{ attempt: 1, status: 'live', bytes: null }]);
  });
});

describe('operations and documents', () => {
  it('probes, metrics, the page, the document', async () => {
    const served = await serve();
    expect(await (await served.call('GET', '/livez', { token: null })).text()).toBe('ok\n');
    touched.add('GET /livez');
    expect((await checked(served, 'GET', '/readyz', { token: null })).body.status).toBe('ready');
    await served.json('GET', RUNS);
    const metrics = await (await served.call('GET', '/metrics')).text();
    expect(metrics).toContain(
      'runfold_requests_total{method="GET",route="/v1/orgs/{org}/runs",status="200"} 1',
    );
    expect(metrics).not.toContain(ORG);
    for (const line of metrics.trim().split('\n')) {
      expect(line).toMatch(
        /^(# (HELP|TYPE) runfold_\w+ .+|runfold_\w+({[^}]*({org}|{run}|{task}|[^}])*})? -?[0-9.e+-]+)$/,
      );
    }
    touched.add('GET /metrics');
    const page = await served.call('GET', '/docs', { token: null });
    const html = await page.text();
    expect(html).toContain('/v1/orgs/{org}/lineage');
    expect(html).not.toMatch(/<script|src=|https?:\/\/(?!openlineage\.io)/);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
    touched.add('GET /docs');
    expect((await served.call('GET', '/', { token: null })).headers.get('location')).toBe('/docs');
    touched.add('GET /');
    const closed = await served.json('GET', '/metrics', { role: 'reader' });
    expect(closed.status).toBe(403);
    const open = await serve({}, { openMetrics: true });
    expect((await open.call('GET', '/metrics', { token: null })).status).toBe(200);
  });

  it('the document has every route, and every reference leads somewhere', async () => {
    const served = await serve();
    const { body } = await checked(served, 'GET', '/openapi.json', { token: null });
    const listed = Object.entries(body.paths as Record<string, object>).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(listed.sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
    const ids = Object.values(body.paths as Record<string, Record<string, { operationId: string }>>).flatMap(
      (operations) => Object.values(operations).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
    for (const [, name] of JSON.stringify(body).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
      expect(Object.keys(body.components.schemas)).toContain(name);
    }
    expect(JSON.stringify(body)).not.toContain('"$ref":"#/$defs');
    const run = body.paths['/v1/orgs/{org}/runs/{run}'].get;
    expect(Object.keys(run.responses)).toEqual(expect.arrayContaining(['404', '410', 'default']));
    for (const code of ['405', '408', '431', '500', '504']) {
      expect(run.responses.default.description).toContain(`${code} `);
    }
    expect(body.paths['/metrics'].get.security).toEqual([{ token: [] }]);
    const headersOf = ({ parameters }: { parameters: { name: string; in: string }[] }) =>
      parameters.filter((one) => one.in === 'header').map(({ name }) => name);
    expect(headersOf(body.paths['/v1/orgs/{org}/runs'].post)).toEqual(['Idempotency-Key']);
    expect(headersOf(body.paths['/v1/orgs/{org}/runs'].get)).toEqual(['Cache-Control', 'If-None-Match']);
    expect(headersOf(body.paths['/v1/orgs/{org}/changes'].get)).toEqual(['Last-Event-ID']);
  });

  it('an empty id is no path, also for the client', async () => {
    const served = await serve();
    for (const path of [`${RUNS}/`, `/v1/orgs/${ORG}/runs//started`, '/v1/orgs//tables']) {
      for (const method of ['GET', 'POST']) {
        const { status, body } = await served.json(method, path);
        expect([status, body.code], `${method} ${path}`).toEqual([404, 'NOT_FOUND']);
      }
    }
    expect((await served.json('DELETE', RUNS)).headers.get('allow')).toBe('POST, GET');
    const client = createClient({ url: 'http://runfold.test', token: 't' });
    for (const id of ['', '.', '..']) {
      expect(() => client.org(id)).toThrow(InputError);
      expect(() => client.org(ORG).run(id)).toThrow(InputError);
      expect(() => client.org(ORG).run('r1').artifact('join', id)).toThrow(InputError);
    }
  });

  it('a parameter that is missing, or no number, is told so', async () => {
    const served = await serve();
    const detailOf = async (query: string) =>
      (await served.json('POST', `${RUNS}/r1/trace?${query}`)).body.detail;
    expect(await detailOf('offset=0')).toBe('The query is not valid at attempt: it is missing.');
    expect(await detailOf('attempt=one&offset=0')).toBe(
      'The query is not valid at attempt: it must be a number.',
    );
    const { body } = await served.json('POST', `${RUNS}/r1/started`, { body: {} });
    expect(body.detail).toBe('The body is not valid at attempt: it is missing.');
  });

  it('Arrow: with ETag and age where it is on offer, 406 where it is not', async () => {
    const served = await serve();
    await served.call('POST', RUNS, { body: { run_id: 'r1' } });
    const arrow = 'application/vnd.apache.arrow.stream';
    const accept = (value: string, more = {}) => ({ headers: { accept: value, ...more } });
    const first = await served.call('GET', RUNS, accept(arrow, { 'cache-control': 'no-cache' }));
    expect(first.headers.get('content-type')).toBe(arrow);
    expect(first.headers.get('age')).toBe('0');
    const etag = first.headers.get('etag')!;
    expect(etag).not.toBe((await served.call('GET', RUNS)).headers.get('etag'));
    expect((await served.call('GET', RUNS, accept(arrow, { 'if-none-match': etag }))).status).toBe(304);
    for (const path of ['tables', 'table?namespace=a&name=b', 'lineage?namespace=a&name=b']) {
      const at = `/v1/orgs/${ORG}/${path}`;
      const { status, body } = await served.json('GET', at, accept(arrow));
      expect([status, body.code], path).toEqual([406, 'NOT_ACCEPTABLE']);
      expect(body.available, path).toEqual(['application/json']);
      expect((await served.call('GET', at, accept(`${arrow}, */*`))).status, path).not.toBe(406);
    }
  });

  it('the client tells of an answer that broke off, and asks for it again before', async () => {
    const reset = Object.assign(new Error('other side closed'), { code: 'UND_ERR_SOCKET' });
    const broken = new TypeError('terminated', { cause: reset });
    let tries = 0;
    const breaking = (times: number, whole: string) => async () => {
      const isBroken = ++tries <= times;
      const body = new ReadableStream<Uint8Array>({
        start(to) {
          to.enqueue(new TextEncoder().encode(isBroken ? whole.slice(0, 5) : whole));
          if (isBroken) to.error(broken);
          else to.close();
        },
      });
      return new Response(body, { headers: { 'content-type': 'application/json' } });
    };
    const org = (fetch: () => Promise<Response>) =>
      createClient({ url: 'http://x', token: 't', attemptsMax: 2, fetch }).org(ORG);
    expect(await org(breaking(1, '{"tables":[],"next":null}')).tables()).toEqual({ tables: [], next: null });
    expect(tries).toBe(2);
    const read = org(breaking(9, '{"tables":[],"next":null}')).tables();
    await expect(read).rejects.toMatchObject({
      code: 'UNREACHABLE',
      outcome: 'unchanged',
      cause: broken,
      message: 'The answer of http://x broke off: other side closed.',
    });
    const write = org(breaking(9, '{"run_id":"r"}')).create({ run_id: 'r' });
    await expect(write).rejects.toMatchObject({ code: 'UNREACHABLE', outcome: 'unknown', cause: broken });
    // A server that ends early without a word leaves half of the JSON.
    const half = org(async () => new Response('{"tables":')).tables();
    await expect(half).rejects.toBeInstanceOf(UnreachableError);
  });

  it('the client takes up a stream of a log that broke off, not for ever', async () => {
    const event = (from: number, text: string) =>
      `event: text\nid: 1-${from + text.length}\ndata: ${JSON.stringify({ offset: from, text })}\n\n`;
    const asked: string[] = [];
    const answers = [
      event(0, 'ab'),
      event(2, 'cd'),
      null,
      null,
      `${event(4, 'e')}event: end\nid: 1-5\ndata: {}\n\n`,
    ];
    const fetch = async (input: unknown) => {
      asked.push(new URL(String(input)).search);
      const text = answers.length > 1 ? answers.shift() : answers[0];
      const body = new ReadableStream<Uint8Array>({
        async pull(to) {
          if (text === null || text === undefined || asked.length > 90)
            return to.error(new TypeError('terminated'));
          to.enqueue(new TextEncoder().encode(text));
          await new Promise((next) => setTimeout(next, 5));
          to.error(new TypeError('terminated'));
        },
      });
      return new Response(body);
    };
    const { trace } = createClient({ url: 'http://x', token: 't', fetch: fetch as typeof globalThis.fetch })
      .org(ORG)
      .run('r');
    let text = '';
    for await (const piece of trace.follow()) text += piece.text;
    expect(text).toBe('abcde');
    expect(asked).toEqual(['?from=0', '?attempt=1&from=2', ...Array(3).fill('?attempt=1&from=4')]);
    answers.splice(0, 9, null);
    const never = (async () => {
      for await (const _ of trace.follow()) throw new Error('nothing was sent');
    })();
    await expect(never).rejects.toMatchObject({ code: 'UNREACHABLE', outcome: 'unchanged' });
  });

  it('the client tells what could not be reached, once it has tried', async () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    let tries = 0;
    const fetch = async () => {
      tries++;
      throw new TypeError('fetch failed', { cause: refused });
    };
    const at = { url: 'http://127.0.0.1:1/', token: 't', attemptsMax: 2 };
    const call = createClient({ ...at, fetch })
      .org(ORG)
      .tables();
    await expect(call).rejects.toBeInstanceOf(UnreachableError);
    await expect(call).rejects.toMatchObject({
      code: 'UNREACHABLE',
      url: 'http://127.0.0.1:1',
      message: 'No answer from http://127.0.0.1:1: connect ECONNREFUSED.',
    });
    expect(tries).toBe(2);
    await expect(createClient({ url: 'nowhere', token: 't' }).org(ORG).tables()).rejects.toBeInstanceOf(
      InputError,
    );
  });

  it('a request id of the caller comes back where it is harmless, from 1 to 128 characters', async () => {
    const served = await serve();
    const idOf = async (given: string) =>
      (await served.call('GET', '/livez', { headers: { 'x-request-id': given } })).headers.get(
        'x-request-id',
      );
    for (const good of ['7', 'a/b+c==', 'x'.repeat(128)]) expect(await idOf(good)).toBe(good);
    for (const bad of ['', 'a b', '"', 'x'.repeat(129)]) expect(await idOf(bad)).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('not ready while draining, and when the store is away; requests in flight are waited for', async () => {
    const served = await serve();
    let letGo = () => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const { store } = served.world.session;
    const { get } = store;
    store.get = async (key, options) => {
      await held;
      return get.call(store, key, options);
    };
    const inFlight = served.json('GET', `${RUNS}/r1`);
    await vi.waitFor(() => expect(served.service.admission.inFlight).toBe(1));
    let drained = false;
    const draining = served.service.drain().then(() => {
      drained = true;
    });
    expect((await served.json('GET', '/readyz')).body).toMatchObject({ status: 503, code: 'DRAINING' });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(drained).toBe(false);
    letGo();
    expect((await inFlight).status).toBe(404);
    await draining;

    const away = await serve();
    away.world.session.store.list = async () => {
      throw new Error('secret-bucket is away');
    };
    expect(await away.json('GET', '/readyz')).toMatchObject({
      status: 503,
      body: { code: 'STORE_UNAVAILABLE', store_ms: null },
    });
    const failed = await away.json('GET', RUNS);
    expect([failed.status, failed.body.code]).toEqual([500, 'INTERNAL']);
    expect(JSON.stringify(failed.body)).not.toContain('secret-bucket');
    expect(away.log.lines.join()).toContain('secret-bucket');
  });
});

describe('OpenLineage', () => {
  const event = (type: string, run = 1, at = '2026-01-01T00:00:00Z') => ({
    eventType: type,
    eventTime: at,
    run: { runId: `01900000-0000-7000-8000-00000000000${run}` },
    job: { namespace: 'etl', name: 'load' },
    outputs: [{ namespace: 'db', name: 'b' }],
  });

  it('one from the future is refused by itself, and a create that comes late takes the run over', async () => {
    const served = await serve();
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const { body } = await served.json('POST', '/api/v1/lineage/batch', {
      body: [event('START'), event('RUNNING', 1, soon)],
      role: 'writer',
    });
    expect(body).toMatchObject({
      status: 'partial_success',
      summary: { received: 2, successful: 1 },
      failed_events: [{ index: 1, reason: expect.stringContaining('300 s ahead of the server') }],
    });
    const run_id = event('START').run.runId;
    const create = () => served.json('POST', RUNS, { body: { run_id, queue: 'q' } });
    expect((await create()).body).toMatchObject({ run_id, status: 'RUNNING', changed: true });
    expect((await create()).body).toMatchObject({ status: 'RUNNING', changed: false });
    expect((await served.json('GET', `/v1/orgs/${ORG}/active?queue=q`, NOW)).body.runs).toHaveLength(1);
  });

  it('events and batches, in any order, in duplicate', async () => {
    const served = await serve();
    const post = (path: string, body: unknown) => served.call('POST', path, { body, role: 'writer' });
    expect((await post('/api/v1/lineage', event('COMPLETE', 1, '2026-01-01T00:01:00Z'))).status).toBe(201);
    expect((await post('/api/v1/lineage', event('START'))).status).toBe(201);
    expect((await post('/api/v1/lineage', event('START'))).status).toBe(201);
    touched.add('POST /api/v1/lineage');
    const batch = await checked(served, 'POST', '/api/v1/lineage/batch', {
      body: [
        event('START', 2),
        { eventTime: 'never' },
        event('FAIL', 2),
        { eventTime: '2026-01-01T00:00:00Z', dataset: { namespace: 'a', name: 'b' } },
      ],
    });
    expect(batch.body).toEqual({
      status: 'partial_success',
      summary: { received: 4, successful: 3, failed: 1, retriable: 0, non_retriable: 1 },
      failed_events: [{ index: 1, reason: expect.stringContaining('missing'), retriable: false }],
    });
    const { body } = await served.json('GET', RUNS, NOW);
    expect(body.runs.map(({ status }: { status: string }) => status).sort()).toEqual(['FAILED', 'SUCCEEDED']);
  });
});

afterAll(() => {
  // Those of the registry are in registry.test.ts.
  expect(
    touched.untouched(({ tag, path }) => !REGISTRY_TAGS.includes(tag) && !path.endsWith('/export')),
  ).toEqual([]);
});
