import { createHmac, generateKeyPairSync } from 'node:crypto';
import { connect } from 'node:net';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { exportJWK, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Listening, listen } from '../../src/service/listen.ts';
import { jwksVerifier, secretVerifier } from '../../src/service/tokens.ts';
import { ORG } from '../support/runs.ts';
import { AUDIENCE, ISSUER, RUNS, SECRET, type Served, serve, tokenFor } from './support.ts';

const TABLES = `/v1/orgs/${ORG}/tables`;
const key = new TextEncoder().encode(SECRET);
const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const soon = () => Math.floor(Date.now() / 1_000) + 600;
const claims = (changes: object = {}) => ({
  iss: ISSUER,
  aud: AUDIENCE,
  exp: soon(),
  orgs: [ORG],
  roles: ['operator'],
  ...changes,
});

function signed(payload: object, header: object = { alg: 'HS256', typ: 'JWT' }, secret = SECRET): string {
  const text = `${base64(header)}.${base64(payload)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

describe('tokens of every wrong kind are refused with 401', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string;
  const without = (name: string) => {
    const { [name]: _, ...rest } = claims() as Record<string, unknown>;
    return rest;
  };
  const rows: [string, () => string | Promise<string>][] = [
    ['no signature, alg none', () => `${base64({ alg: 'none', typ: 'JWT' })}.${base64(claims())}.`],
    ['alg none in another case', () => `${base64({ alg: 'nOnE' })}.${base64(claims())}.`],
    ['alg none with a signature', () => signed(claims(), { alg: 'none' })],
    ['no alg at all', () => signed(claims(), { typ: 'JWT' })],
    ['another secret', () => signed(claims(), undefined, `${SECRET}!`)],
    ['an empty secret', () => signed(claims(), undefined, ' ')],
    [
      'changed after signing',
      () => signed(claims()).replace(/\.[^.]+\./, `.${base64(claims({ orgs: ['other', ORG] }))}.`),
    ],
    ['signature cut off', () => signed(claims()).slice(0, -4)],
    [
      'HS512 instead of HS256',
      () => new SignJWT(claims()).setProtectedHeader({ alg: 'HS512' }).sign(new Uint8Array(64)),
    ],
    [
      'RS256 of an own key',
      () => new SignJWT(claims()).setProtectedHeader({ alg: 'RS256' }).sign(rsa.privateKey),
    ],
    ['HS256 with a public key as secret', () => signed(claims(), undefined, pem)],
    [
      'its own key in the header',
      async () => {
        const jwk = await exportJWK(rsa.publicKey);
        return new SignJWT(claims()).setProtectedHeader({ alg: 'RS256', jwk }).sign(rsa.privateKey);
      },
    ],
    [
      'a key set of its own in the header',
      () => signed(claims(), { alg: 'HS256', jku: 'http://127.0.0.1:1/keys' }, 'x'.repeat(32)),
    ],
    ['a critical extension', () => signed(claims(), { alg: 'HS256', crit: ['x'], x: 1 })],
    ['expired', () => signed(claims({ exp: soon() - 1_200 }))],
    ['no expiry', () => signed(without('exp'))],
    ['expiry that is text', () => signed(claims({ exp: '9999999999' }))],
    ['not valid yet', () => signed(claims({ nbf: soon() }))],
    ['another issuer', () => signed(claims({ iss: 'https://evil.test' }))],
    ['no issuer', () => signed(without('iss'))],
    ['another audience', () => signed(claims({ aud: 'other' }))],
    ['no audience', () => signed(without('aud'))],
    ['no org', () => signed(without('orgs'))],
    ['no orgs in the list', () => signed(claims({ orgs: [] }))],
    ['an org that is none', () => signed(claims({ orgs: ['../x'] }))],
    ['orgs that are one text of several', () => signed(claims({ orgs: `${ORG},other` }))],
    ['orgs that are a text that is no org', () => signed(claims({ orgs: '../x' }))],
    ['orgs that are an object', () => signed(claims({ orgs: { [ORG]: true } }))],
    ['every org in a text, for a writer', () => signed(claims({ orgs: '*', roles: 'writer' }))],
    ['every org for a writer', () => signed(claims({ orgs: ['*'], roles: ['writer'] }))],
    [
      'more orgs than allowed',
      () => signed(claims({ orgs: Array.from({ length: 201 }, (_, i) => `o${i}`) })),
    ],
    ['no role', () => signed(without('roles'))],
    ['a role that is none', () => signed(claims({ roles: ['admin'] }))],
    ['a worker without a run', () => signed(claims({ roles: ['worker'], attempt: 1 }))],
    ['a worker without an attempt', () => signed(claims({ roles: ['worker'], run: 'run-1' }))],
    [
      'a worker that is a writer, too',
      () => signed(claims({ roles: ['worker', 'writer'], run: 'run-1', attempt: 1 })),
    ],
    [
      'a worker of two orgs',
      () => signed(claims({ orgs: [ORG, 'b'], roles: ['worker'], run: 'run-1', attempt: 1 })),
    ],
    ['no JSON in it', () => `${base64({ alg: 'HS256' })}.bm90anNvbg.AAAA`],
    ['two parts', () => 'eyJhbGciOiJIUzI1NiJ9.e30'],
    ['five parts', () => 'a.b.c.d.e'],
    ['nothing but dots', () => '..'],
    ['a huge one', () => signed(claims({ note: 'x'.repeat(12_000) }))],
  ];

  let served: Served;
  beforeAll(async () => {
    served = await serve();
  });

  it.each(rows)('%s', async (_, make) => {
    const { status, body } = await served.json('GET', TABLES, { token: await make() });
    expect([status, body.code]).toEqual([401, 'UNAUTHENTICATED']);
  });

  it.each([
    ['another scheme', 'Basic YTpi'],
    ['no scheme', 'TOKEN'],
    ['two tokens', 'Bearer TOKEN, Bearer TOKEN'],
    ['an empty token', 'Bearer '],
    ['a token with a space', 'Bearer TOKEN x'],
  ])('a good token sent wrongly: %s', async (_, header) => {
    const authorization = header.replaceAll('TOKEN', await tokenFor());
    const { status } = await served.json('GET', TABLES, { token: null, headers: { authorization } });
    expect(status).toBe(401);
  });

  it('in the query, where logs would keep it', async () => {
    const { status } = await served.json('GET', `${TABLES}?access_token=${await tokenFor()}`, {
      token: null,
    });
    expect(status).toBe(401);
  });

  it('and the good one is accepted', async () => {
    expect((await served.json('GET', TABLES, { token: signed(claims()) })).status).toBe(200);
    expect((await served.json('GET', TABLES, { token: signed(claims({ orgs: ['*'] })) })).status).toBe(200);
    expect(
      (
        await served.json('GET', TABLES, {
          token: signed(claims({ orgs: undefined, org: ORG, roles: undefined, role: 'reader' })),
        })
      ).status,
    ).toBe(200);
    const hs = await new SignJWT(claims()).setProtectedHeader({ alg: 'HS256' }).sign(key);
    expect((await served.json('GET', TABLES, { token: hs })).status).toBe(200);
  });

  it('a secret that is too short, or a symmetric algorithm for a key set, is no configuration', () => {
    const rules = { issuer: ISSUER, audience: AUDIENCE };
    expect(() => secretVerifier({ ...rules, secret: 'short' })).toThrow(/32 are the least/);
    expect(() => secretVerifier({ ...rules, issuer: '', secret: SECRET })).toThrow(/issuer/);
    const jwks = 'https://issuer.test/keys';
    expect(() => jwksVerifier({ ...rules, jwks, algorithms: ['HS256'] })).toThrow(/HS256/);
    expect(() => jwksVerifier({ ...rules, jwks, algorithms: ['none'] })).toThrow(/none/);
    expect(() => jwksVerifier({ ...rules, jwks: 'http://issuer.test/keys' })).toThrow(/not a key set/);
  });
});

describe('ids, bodies and headers that mean harm are refused with 4xx, and nothing is stored', () => {
  const bomb = '0'.repeat(40 * 1024 * 1024);
  const post = (body: unknown, headers: Record<string, string> = {}) => ({
    method: 'POST',
    path: RUNS,
    init: { body: body as string, headers: { 'content-type': 'application/json', ...headers } },
  });
  const get = (path: string) => ({ method: 'GET', path, init: {} });
  const artifact = (place: string, changes: object = {}) => ({
    ...post(JSON.stringify({ attempt: 1, uri: 'gs://results/x', ...changes })),
    method: 'PUT',
    path: `${RUNS}/r/artifacts/${place}`,
  });
  const event = (path: string) => ({ ...post('{"attempt":1}'), path });

  const rows: [
    string,
    { method: string; path: string; init: { body?: string | Uint8Array; headers?: Record<string, string> } },
    number,
    string,
  ][] = [
    ['a run id that climbs', event(`${RUNS}/..%2f..%2fother%2frun/started`), 400, 'INVALID_INPUT'],
    ['a run id with a slash', event(`${RUNS}/a%2Fb/started`), 400, 'INVALID_INPUT'],
    ['a run id with a null byte', event(`${RUNS}/a%00b/started`), 400, 'INVALID_INPUT'],
    ['a run id with a backslash', event(`${RUNS}/a%5Cb/started`), 400, 'INVALID_INPUT'],
    ['a run id encoded twice', event(`${RUNS}/%252e%252e/started`), 400, 'INVALID_INPUT'],
    ['a run id of broken UTF-8', event(`${RUNS}/%ff%fe/started`), 400, 'INVALID_INPUT'],
    ['a run id that is too long', event(`${RUNS}/${'x'.repeat(129)}/started`), 400, 'INVALID_INPUT'],
    [
      'a task key that climbs',
      { ...post('{"attempt":1,"run_attempt":1}'), path: `${RUNS}/r/tasks/..%2f/started` },
      400,
      'INVALID_INPUT',
    ],
    ['an operator that climbs', artifact('..%2f..%2fother/out'), 400, 'INVALID_INPUT'],
    ['a port with a slash', artifact('scan/a%2Fb'), 400, 'INVALID_INPUT'],
    ['an operator of another entry', artifact('scan%232/out'), 400, 'INVALID_INPUT'],
    [
      'an artifact that is a script',
      artifact('scan/out', { uri: 'javascript:alert(1)' }),
      400,
      'INVALID_INPUT',
    ],
    [
      'an artifact in a file of this host',
      artifact('scan/out', { uri: '/etc/passwd' }),
      400,
      'INVALID_INPUT',
    ],
    ['an artifact of nothing', artifact('scan/out', { uri: undefined }), 400, 'INVALID_INPUT'],
    ['an artifact that expired before it was', artifact('scan/out', { ttl_ms: -1 }), 400, 'INVALID_INPUT'],
    [
      'an artifact of the clean-up',
      artifact('scan/out', { type: 'settle', removed: [] }),
      400,
      'INVALID_INPUT',
    ],
    ['an artifact at a place of its own', artifact('scan/out', { operator: 'x' }), 400, 'INVALID_INPUT'],
    [
      'more figures than allowed',
      artifact('scan/out', {
        statistics: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`f${i}`, i])),
      }),
      400,
      'INVALID_INPUT',
    ],
    [
      'a drop without an attempt',
      { ...get(`${RUNS}/r/artifacts/scan/out`), method: 'DELETE' },
      400,
      'INVALID_INPUT',
    ],
    ['an export of no format', get(`/v1/orgs/${ORG}/export`), 400, 'INVALID_INPUT'],
    ['an export of an unknown format', get(`/v1/orgs/${ORG}/export?format=xlsx`), 400, 'INVALID_INPUT'],
    ['a reference of none', get(`/v1/orgs/${ORG}/references/latest`), 400, 'INVALID_INPUT'],
    [
      'a reference that is too long',
      get(`/v1/orgs/${ORG}/references/statistics?reference_id=${'x'.repeat(3_000)}`),
      400,
      'INVALID_INPUT',
    ],
    ['a run id in the body that climbs', post('{"run_id":"../x"}'), 400, 'INVALID_INPUT'],
    ['a run key that climbs', post('{"run_id":"r","run_key":"../x"}'), 400, 'INVALID_INPUT'],
    ['no body', post(''), 400, 'INVALID_INPUT'],
    ['a body of null', post('null'), 400, 'INVALID_INPUT'],
    ['a body of a list', post('[]'), 400, 'INVALID_INPUT'],
    ['half a body', post('{"run_id":'), 400, 'INVALID_INPUT'],
    ['two bodies', post('{"run_id":"r"}{"run_id":"s"}'), 400, 'INVALID_INPUT'],
    ['not UTF-8', post(new Uint8Array([0x7b, 0xff, 0x7d])), 400, 'INVALID_INPUT'],
    ['half a surrogate pair', post('{"run_id":"r","kind":"\\ud800"}'), 400, 'INVALID_INPUT'],
    ['a field that is unknown', post('{"run_id":"r","admin":true}'), 400, 'INVALID_INPUT'],
    ['the prototype as a field', post('{"run_id":"r","__proto__":{"x":1}}'), 400, 'INVALID_INPUT'],
    ['a number that is none', post('{"run_id":"r","run_timeout_ms":1e400}'), 400, 'INVALID_INPUT'],
    ['a negative attempt', { ...post('{"attempt":-1}'), path: `${RUNS}/r/started` }, 400, 'INVALID_INPUT'],
    [
      'an event type smuggled in',
      { ...post('{"type":"delete"}'), path: `${RUNS}/r/cancel` },
      400,
      'INVALID_INPUT',
    ],
    [
      'deep nesting',
      post(`{"run_id":"r","payload":{"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}}`),
      400,
      'INVALID_INPUT',
    ],
    [
      'more datasets than allowed',
      post(
        `{"run_id":"r","inputs":[${Array.from({ length: 1_001 }, (_, i) => `{"namespace":"n","name":"t${i}"}`)}]}`,
      ),
      400,
      'INVALID_INPUT',
    ],
    [
      'a body that is too large',
      post(`{"run_id":"r","payload":{"x":"${'y'.repeat(1_100_000)}"}}`),
      413,
      'BODY_TOO_LARGE',
    ],
    ['a gzip bomb', post(gzipSync(bomb), { 'content-encoding': 'gzip' }), 413, 'BODY_TOO_LARGE'],
    ['a zstd bomb', post(zstdCompressSync(bomb), { 'content-encoding': 'zstd' }), 413, 'BODY_TOO_LARGE'],
    ['gzip that is none', post('{"run_id":"r"}', { 'content-encoding': 'gzip' }), 400, 'INVALID_INPUT'],
    [
      'an encoding nobody knows',
      post('{"run_id":"r"}', { 'content-encoding': 'br' }),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    [
      'encodings one in the other',
      post('{"run_id":"r"}', { 'content-encoding': 'gzip, gzip' }),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    [
      'a form',
      post('run_id=r', { 'content-type': 'application/x-www-form-urlencoded' }),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    ['text', post('{"run_id":"r"}', { 'content-type': 'text/plain' }), 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['another method', { ...post('{}'), method: 'PUT' }, 405, 'METHOD_NOT_ALLOWED'],
    ['a path nobody serves', get('/v1/orgs'), 404, 'NOT_FOUND'],
    ['a path that climbs', get(`/v1/orgs/${ORG}/../../etc/passwd`), 404, 'NOT_FOUND'],
    ['a parameter twice', get(`${RUNS}?queue=a&queue=b`), 400, 'INVALID_INPUT'],
    ['a parameter that is unknown', get(`${RUNS}?sql=1`), 400, 'INVALID_INPUT'],
    ['a limit of none', get(`${RUNS}?limit=0`), 400, 'INVALID_INPUT'],
    ['a limit beyond all', get(`${RUNS}?limit=1e9`), 400, 'INVALID_INPUT'],
    ['a status that is none', get(`${RUNS}?status=DONE`), 400, 'INVALID_INPUT'],
    ['a cursor that is none', get(`${RUNS}?cursor=AAAA`), 400, 'INVALID_INPUT'],
    [
      'a cursor of another list',
      get(`${TABLES}?cursor=${Buffer.from('[1,2,"x"]').toString('base64url')}`),
      400,
      'INVALID_INPUT',
    ],
    ['a changes cursor that is none', get(`/v1/orgs/${ORG}/changes?cursor=AAAA`), 400, 'INVALID_INPUT'],
    ['an address that is too long', get(`${RUNS}?queue=${'x'.repeat(9_000)}`), 431, 'HEADERS_TOO_LARGE'],
    [
      'a header flood',
      {
        ...get(TABLES),
        init: { headers: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-flood-${i}`, 'x'])) },
      },
      431,
      'HEADERS_TOO_LARGE',
    ],
    [
      'a header that is too large',
      { ...get(TABLES), init: { headers: { 'x-flood': 'x'.repeat(20_000) } } },
      431,
      'HEADERS_TOO_LARGE',
    ],
    [
      'an idempotency key that is too long',
      post('{}', { 'idempotency-key': 'k'.repeat(600) }),
      400,
      'INVALID_INPUT',
    ],
    ['an event of nothing', { ...post('{}'), path: '/api/v1/lineage' }, 400, 'INVALID_INPUT'],
    [
      'an event whose run climbs',
      {
        ...post(
          '{"eventTime":"2026-01-01T00:00:00Z","run":{"runId":"../x"},"job":{"namespace":"a","name":"b"}}',
        ),
        path: '/api/v1/lineage',
      },
      400,
      'INVALID_INPUT',
    ],
    [
      'a batch of too many events',
      { ...post(JSON.stringify(Array(10_001).fill(1))), path: '/api/v1/lineage/batch' },
      413,
      'LIMIT_EXCEEDED',
    ],
  ];

  let served: Served;
  beforeAll(async () => {
    served = await serve();
  });

  it.each(rows)('%s', async (_, { method, path, init }, status, code) => {
    const authorization = `Bearer ${await tokenFor({ role: 'operator' })}`;
    const response = await served.service.fetch(
      new Request(`http://runfold.test${path}`, {
        method,
        ...(init.body === undefined ? {} : { body: init.body as string }),
        headers: { authorization, ...init.headers },
      }),
    );
    const problem = (await response.json()) as { code: string };
    expect([response.status, problem.code]).toEqual([status, code]);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const stored = await served.world.store.list({ prefix: '' });
    expect(stored.items).toEqual([]);
  });

  it('logs hold no token and nothing of a body', async () => {
    const token = await tokenFor({ role: 'operator' });
    await served.json('POST', RUNS, { token, body: { run_id: 'r1', payload: { password: 'hunter2' } } });
    await served.json('POST', RUNS, { token, body: { run_id: 'r1', kind: 'hunter2' } });
    await served.json('GET', `${RUNS}?queue=hunter2`, { token });
    const log = served.log.lines.join('\n');
    expect(log).toContain('"route":"/v1/orgs/{org}/runs"');
    for (const secret of [token, token.split('.')[2]!, 'hunter2', 'Bearer'])
      expect(log).not.toContain(secret);
  });
});

describe('what only looks like a parameter', () => {
  let served: Served;
  beforeAll(async () => {
    served = await serve();
  });
  const NUMBERS = [
    `${RUNS}?limit=`,
    `${RUNS}?since=`,
    `${RUNS}?until=`,
    `${TABLES}?limit=`,
    `/v1/orgs/${ORG}/lineage?namespace=db&name=t&depth=`,
    `/v1/orgs/${ORG}/export?format=csv&limit=`,
    `/v1/orgs/${ORG}/changes?wait_ms=`,
    `${RUNS}/r1/trace?attempt=`,
  ];

  it.each(NUMBERS)('%s takes digits alone', async (path) => {
    for (const wrong of [
      '',
      '%20',
      '%2010',
      '1e3',
      '0x10',
      '1.0',
      '-1',
      '%2B1',
      'Infinity',
      '9'.repeat(16),
    ]) {
      const { status, body } = await served.json('GET', path + wrong);
      expect([status, body.code], `${path}${wrong}`).toEqual([400, 'INVALID_INPUT']);
    }
    expect((await served.call('GET', `${path}10`)).status, path).not.toBe(400);
  });

  it('a cursor with more behind it, or in another alphabet, is none', async () => {
    const changes = `/v1/orgs/${ORG}/changes`;
    const { cursor } = (await served.json('GET', changes)).body;
    expect((await served.json('GET', `${changes}?cursor=${cursor}`)).status).toBe(200);
    for (const junk of [
      `${cursor}!`,
      `${cursor}=`,
      `${cursor}%20`,
      `${cursor}.${cursor}`,
      `%20${cursor}`,
      `${cursor}!junk`,
    ]) {
      const { status, body } = await served.json('GET', `${changes}?cursor=${junk}`);
      expect([status, body.code], junk).toEqual([400, 'INVALID_INPUT']);
      expect(body.hint).toContain('as it came');
    }
  });
});

describe('on a real socket', () => {
  let listening: Listening;
  let token: string;
  let cursor: string;
  beforeAll(async () => {
    const { service, json } = await serve({ bodyDeadlineMs: 300, drainMs: 500 });
    cursor = (await json('GET', `/v1/orgs/${ORG}/changes`)).body.cursor;
    listening = await listen(service, { port: 0, host: '127.0.0.1' });
    token = await tokenFor();
  });
  afterAll(() => listening.close());

  /** Sends the chunks with a pause between, and gives all that came back until the server hung up. */
  function raw(chunks: readonly string[], pauseMs = 0): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(Number(new URL(listening.url).port), '127.0.0.1');
      let answer = '';
      socket.on('data', (data) => {
        answer += data;
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', (error: NodeJS.ErrnoException) =>
        error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(answer) : reject(error),
      );
      void (async () => {
        for (const chunk of chunks) {
          if (socket.destroyed) return;
          socket.write(chunk);
          await new Promise((next) => setTimeout(next, pauseMs));
        }
      })();
    });
  }

  const head = (more: string) =>
    `POST ${RUNS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\n${more}\r\n`;

  it('a body that comes a byte at a time is given up', async () => {
    const answer = await raw([head('content-length: 1000\r\n'), ...Array(60).fill(' ')], 25);
    expect(answer).toMatch(/^HTTP\/1.1 408 /);
    expect(answer).toContain('REQUEST_TIMEOUT');
  });

  it('a body that never comes is given up', async () => {
    expect(await raw([head('content-length: 1000\r\n')])).toMatch(/^HTTP\/1.1 408 /);
  });

  it('a chunked body without end is cut off at its limit', async () => {
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    const answer = await raw([head('transfer-encoding: chunked\r\n'), ...Array(40).fill(chunk)]);
    expect(answer).toMatch(/^HTTP\/1.1 413 /);
  });

  it.each([
    [
      'headers without end',
      () => [`GET ${TABLES} HTTP/1.1\r\nhost: x\r\n${'x-a: b\r\n'.repeat(5_000)}\r\n`],
      /^HTTP\/1.1 431 /,
    ],
    [
      'headers that come a line at a time',
      () => [`GET ${TABLES} HTTP/1.1\r\n`, ...Array(400).fill('x-a: b\r\n')],
      /^(HTTP\/1.1 408 .*)?/s,
    ],
    ['two lengths', () => [head('content-length: 5\r\ncontent-length: 6\r\n')], /^HTTP\/1.1 400 /],
    [
      'a length and chunks',
      () => [head('content-length: 5\r\ntransfer-encoding: chunked\r\n')],
      /^HTTP\/1.1 400 /,
    ],
    ['not HTTP', () => ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n'], /^HTTP\/1.1 400 /],
  ])('%s', async (_, chunks, expected) => {
    const answer = await raw(chunks(), 10);
    expect(answer).toMatch(expected);
    if (answer === '') return;
    // As every other refusal, though Node gave it up before it was a request.
    const [top = '', body = ''] = answer.split('\r\n\r\n');
    expect(top.toLowerCase()).toContain('content-type: application/problem+json');
    expect(top).toMatch(/x-request-id: [0-9a-f-]{36}/i);
    expect(JSON.parse(body)).toMatchObject({
      status: Number(answer.slice(9, 12)),
      code: expect.stringMatching(/^(HEADERS_TOO_LARGE|REQUEST_TIMEOUT|INVALID_INPUT)$/),
    });
  });

  it('nothing is written into an answer that is on its way', async () => {
    // The second request makes no sense while the first, a long poll, is still being answered.
    const first = `GET /v1/orgs/${ORG}/changes?wait_ms=2000&cursor=${cursor} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`;
    const answer = await raw([first, 'NONSENSE\r\n\r\n'], 50);
    expect(answer).not.toContain('problem+json');
  });

  it('and honest requests are served meanwhile', async () => {
    const slow = Array.from({ length: 50 }, () => raw([head('content-length: 1000\r\n')]));
    const response = await fetch(`${listening.url}${TABLES}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(response.status).toBe(200);
    for (const answer of await Promise.all(slow)) expect(answer).toMatch(/^HTTP\/1.1 408 /);
  });
});
