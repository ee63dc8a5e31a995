import { describe, expect, it } from 'vitest';
import { authorize, type Principal, type Role } from '../../src/service/access.ts';
import { ROUTES } from '../../src/service/routes/table.ts';
import { ORG } from '../support/runs.ts';
import { serve, tokenFor } from './support.ts';

const filled = (path: string, org = ORG, run = 'run-1') =>
  path
    .replace('{org}', org)
    .replace('{run}', run)
    .replace('{task}', 'extract')
    .replace('{operator}', 'scan')
    .replace('{port}', 'out');

const hasBody = (method: string) => method === 'POST' || method === 'PUT';
const guarded = ROUTES.filter(({ rule }) => rule.access === 'token');
const inPath = guarded.filter(({ path }) => path.includes('{org}'));

describe('every route has a rule', () => {
  it('what the app serves is the route table, and each of it names who may', async () => {
    const { service } = await serve();
    const served = service.app.routes.map(({ method, path }) => `${method} ${path}`).sort();
    const declared = ROUTES.map(
      ({ method, path }) => `${method} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
    ).sort();
    expect(served).toEqual(declared);
    for (const { method, path, rule } of ROUTES) {
      expect(rule, `${method} ${path}`).toHaveProperty('access');
      if (rule.access === 'token') expect(rule.roles.length, `${method} ${path}`).toBeGreaterThan(0);
    }
  });

  it('public are only those that tell nothing about anybody', () => {
    const open = ROUTES.filter(({ rule }) => rule.access === 'public').map(({ path }) => path);
    expect(open.sort()).toEqual(['/', '/docs', '/livez', '/openapi.json', '/readyz']);
  });

  it('only an operator may what no worker can answer for', () => {
    const operators = guarded.filter(({ rule }) => rule.access === 'token' && rule.roles.length === 1);
    expect(operators.map(({ method, path }) => `${method} ${path}`).sort()).toEqual([
      'DELETE /v1/orgs/{org}/runs/{run}',
      'POST /v1/orgs/{org}/runs/{run}/force-cancel',
      'POST /v1/orgs/{org}/runs/{run}/force-fail',
      'POST /v1/orgs/{org}/runs/{run}/time-out',
    ]);
  });
});

describe('callers', () => {
  it('without a token get 401 from every guarded route, before anything else is looked at', async () => {
    const { json } = await serve();
    for (const { method, path } of [...guarded, ROUTES.find((route) => route.path === '/metrics')!]) {
      const { status, body, headers } = await json(method, filled(path, '..%2F', 'a%2Fb'), { token: null });
      expect([status, body.code], `${method} ${path}`).toEqual([401, 'UNAUTHENTICATED']);
      expect(headers.get('www-authenticate')).toMatch(/^Bearer/);
    }
  });

  it('of another org get the same 404 from every route, whatever their role and whether the org exists', async () => {
    const { json, world } = await serve();
    await world.session.recorder.create('other', { run_id: 'run-1' });
    const bodies = new Set<string>();
    for (const role of ['reader', 'operator'] as const) {
      const token = await tokenFor({ role });
      for (const { method, path } of inPath) {
        for (const org of ['other', 'nobody', '..', '%2e%2e', 'a%2Fb', '*', 'x'.repeat(500)]) {
          const { status, body } = await json(method, filled(path, org), {
            token,
            ...(hasBody(method) ? { body: '{' } : {}),
          });
          expect(status, `${method} ${path} ${org}`).toBe(404);
          // A path with dots is another path, which nobody serves.
          if (body.code !== 'NOT_FOUND') bodies.add(JSON.stringify(body));
        }
      }
    }
    expect([...bodies]).toEqual([
      JSON.stringify({
        type: '/docs#ORG_NOT_FOUND',
        title: 'There is no such org',
        status: 404,
        code: 'ORG_NOT_FOUND',
        detail: 'There is no such org for this token.',
      }),
    ]);
  });

  it('cost a foreign org nothing: no request to the store, and none of its rate', async () => {
    const served = await serve({ orgRequestsPerSecond: 1, orgBurst: 1 });
    const requests: string[] = [];
    const { store } = served.world.session;
    const { list, get } = store;
    store.list = (options) => {
      requests.push(options.prefix);
      return list.call(store, options);
    };
    store.get = (key, options) => {
      requests.push(key);
      return get.call(store, key, options);
    };
    for (let i = 0; i < 20; i++) await served.json('GET', '/v1/orgs/other/tables');
    expect(requests).toEqual([]);
    const other = await tokenFor({ orgs: ['other'] });
    expect((await served.json('GET', '/v1/orgs/other/tables', { token: other })).status).toBe(200);
  });

  it('with a role that does not suffice get 403, workers for other runs the 404 of a run that is not', async () => {
    const { json } = await serve();
    for (const { method, path, rule } of inPath) {
      if (rule.access !== 'token') continue;
      for (const role of ['reader', 'writer', 'operator'] as const) {
        if (rule.roles.includes(role)) continue;
        const { status, body } = await json(method, filled(path), {
          role,
          ...(hasBody(method) ? { body: {} } : {}),
        });
        expect([status, body.code], `${role} ${method} ${path}`).toEqual([403, 'FORBIDDEN']);
      }
      const token = await tokenFor({ role: 'worker', run: 'run-1', attempt: 1 });
      const { status, body } = await json(method, filled(path, ORG, 'run-2'), {
        token,
        ...(hasBody(method) ? { body: {} } : {}),
      });
      expect([status, body.code], `worker ${method} ${path}`).toEqual(
        rule.worker === true ? [404, 'RUN_NOT_FOUND'] : [403, 'FORBIDDEN'],
      );
    }
  });

  it('that work on a run do so for their own attempt only', async () => {
    const { json, world } = await serve();
    await world.session.recorder.create(ORG, { run_id: 'run-1' });
    const token = await tokenFor({ role: 'worker', run: 'run-1', attempt: 1 });
    const run = `/v1/orgs/${ORG}/runs/run-1`;
    expect((await json('POST', `${run}/started`, { token, body: { attempt: 2 } })).body.code).toBe(
      'FORBIDDEN',
    );
    expect((await json('POST', `${run}/started`, { token, body: { attempt: 1 } })).status).toBe(200);
    expect((await json('GET', run, { token })).body.status).toBe('RUNNING');
    const task = { run_attempt: 2, attempt: 1 };
    expect((await json('POST', `${run}/tasks/t/started`, { token, body: task })).body.code).toBe('FORBIDDEN');
    expect(
      (await json('POST', `${run}/tasks/t/started`, { token, body: { ...task, run_attempt: 1 } })).status,
    ).toBe(200);
    const artifact = `${run}/artifacts/t/out`;
    const body = { attempt: 1, uri: 'gs://results/x' };
    expect((await json('PUT', artifact, { token, body: { ...body, attempt: 2 } })).body.code).toBe(
      'FORBIDDEN',
    );
    expect((await json('DELETE', `${artifact}?attempt=2`, { token })).body.code).toBe('FORBIDDEN');
    expect((await json('PUT', artifact, { token, body })).status).toBe(200);
    expect((await json('GET', `${run}/artifacts`, { token })).body.artifacts).toHaveLength(1);
    expect((await json('PUT', artifact.replace('run-1', 'run-2'), { token, body })).body.code).toBe(
      'RUN_NOT_FOUND',
    );
    expect((await json('GET', artifact.replace('run-1', 'run-2'), { token })).body.code).toBe(
      'RUN_NOT_FOUND',
    );
  });
});

describe('authorize', () => {
  const principal = (changes: Partial<Principal>): Principal => ({
    subject: null,
    orgs: new Set([ORG]),
    roles: new Set<Role>(['writer']),
    bound: null,
    expiresAt: 0,
    ...changes,
  });

  it('takes the org from a token of one org, and lets nobody choose among several', () => {
    const rule = { access: 'token', org: 'token', roles: ['writer'] } as const;
    expect(authorize(rule, principal({}), {})).toBe(ORG);
    expect(() => authorize(rule, principal({ orgs: new Set([ORG, 'b']) }), {})).toThrow(/more than one/);
    expect(() => authorize(rule, principal({ orgs: '*' }), {})).toThrow(/no org/);
  });
});
