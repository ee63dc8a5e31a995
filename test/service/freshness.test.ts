import { describe, expect, it, vi } from 'vitest';
import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { secretVerifier } from '../../src/service/tokens.ts';
import { maxAgeOf } from '../../src/service/view.ts';
import { entryKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { FakeClock, settle } from '../support/fake-clock.ts';
import { gate } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { AUDIENCE, ISSUER, NOW, RUNS, SECRET, serve, tokenFor } from './support.ts';

/** A service whose time the test moves, and how often the store was listed. */
async function counted() {
  const clock = new FakeClock();
  const store = new MemoryStore({ clock });
  let lists = 0;
  const { list } = store;
  store.list = (options) => {
    lists++;
    return list.call(store, options);
  };
  const served = await serve(
    {},
    {
      store,
      clock,
      world: { clock },
      verifier: secretVerifier({ issuer: ISSUER, audience: AUDIENCE, secret: SECRET, clock }),
    },
  );
  const tokens = { reader: await tokenFor({ role: 'reader', now: clock.now(), ttlMs: 1e9 }) };
  const get = async (headers: Record<string, string> = {}) => {
    const { body, headers: sent } = await served.json('GET', RUNS, { headers, token: tokens.reader });
    return { runs: body.runs.map(({ run_id }: { run_id: string }) => run_id), age: Number(sent.get('age')) };
  };
  const create = (run_id: string) => served.world.session.recorder.create(ORG, { run_id });
  return { ...served, clock, get, create, lists: () => lists };
}

describe('freshness', () => {
  it('fresh: as it is; stale: as it is, and refreshed behind the back; too old: refreshed first', async () => {
    const { clock, get, create, lists } = await counted();
    expect((await get()).runs).toEqual([]);
    await create('r1');
    const before = lists();
    await clock.advance(900);
    expect((await get()).runs).toEqual([]);
    expect(lists()).toBe(before);
    await clock.advance(2_000);
    expect(await get()).toEqual({ runs: [], age: 2 });
    await settle();
    expect(lists()).toBe(before + 1);
    expect((await get()).runs).toEqual(['r1']);
    await create('r2');
    await clock.advance(5_001);
    expect((await get()).runs).toEqual(['r2', 'r1']);
  });

  it('the caller may ask for less, never for more', async () => {
    const { clock, get, create } = await counted();
    await get();
    await create('r1');
    expect((await get({ 'cache-control': 'max-age=0' })).runs).toEqual(['r1']);
    await create('r2');
    expect((await get({ 'cache-control': 'no-cache' })).runs).toEqual(['r2', 'r1']);
    await create('r3');
    await clock.advance(3_000);
    expect((await get({ 'cache-control': 'max-age=4' })).runs).toHaveLength(2);
    expect((await get({ 'cache-control': 'max-age=2' })).runs).toHaveLength(3);
    await create('r4');
    await clock.advance(6_000);
    expect((await get({ 'cache-control': 'max-age=86400' })).runs).toHaveLength(4);
    expect(maxAgeOf('private, max-age=7')).toBe(7_000);
    expect(maxAgeOf('s-maxage=7')).toBeNull();
  });

  it('a hundred readers of a cold org, and then of a warm one, cost one refresh each', async () => {
    const { get, create, lists, clock } = await counted();
    await create('r1');
    const before = lists();
    const cold = await Promise.all(Array.from({ length: 100 }, () => get()));
    expect(cold.every(({ runs }) => runs.length === 1)).toBe(true);
    expect(lists() - before).toBe(1);
    await clock.advance(60_000);
    await Promise.all(Array.from({ length: 100 }, () => get()));
    expect(lists() - before).toBe(2);
  });

  it('orgs beyond the bytes of the cache are forgotten, and read again', async () => {
    const { service, world } = await serve({ orgCacheBytesMax: 100_000 });
    const signal = new AbortController().signal;
    for (let i = 0; i < 50; i++) await service.orgs.get(`org-${i}`, null, signal);
    expect(service.orgs.bytes).toBeLessThanOrEqual(100_000);
    expect(service.orgs.orgs).toBeLessThan(10);
    await world.session.recorder.create('org-0', { run_id: 'r1' });
    const { state } = await service.orgs.get('org-0', null, signal);
    expect(state.rowCount).toBe(1);
  });

  it('an answer is made once as long as nothing changes, and never for another org', async () => {
    const served = await serve();
    for (const org of [ORG, 'other'])
      await served.world.session.recorder.create(org, { run_id: `of-${org}` });
    const both = await tokenFor({ orgs: [ORG, 'other'], role: 'reader' });
    for (const org of [ORG, 'other', ORG, 'other']) {
      const { body } = await served.json('GET', `/v1/orgs/${org}/runs`, { ...NOW, token: both });
      expect(body.runs.map(({ run_id }: { run_id: string }) => run_id)).toEqual([`of-${org}`]);
    }
    expect(served.service.views.size).toBe(2);
  });
});

describe('damage', () => {
  it('is told with the answer that lacks something because of it, and in the log', async () => {
    const served = await serve();
    await served.world.session.recorder.create(ORG, { run_id: 'r1' });
    expect((await served.json('GET', RUNS, NOW)).headers.get('x-runfold-incomplete')).toBeNull();
    const name = uuidv7(Date.now(), seededRandom(7));
    await served.world.store.put(entryKey(ORG, name), new TextEncoder().encode('{"broken'));
    const corrupt = await served.json('GET', RUNS, NOW);
    expect(corrupt.body).toMatchObject({ status: 500, code: 'CORRUPT', detail: 'Stored bytes are corrupt' });
    expect(JSON.stringify(corrupt.body)).not.toContain(name);
    expect(served.log.lines.join()).toContain(name);
    await served.world.compact();
    const { status, body, headers } = await (await serve({}, { store: served.world.store })).json(
      'GET',
      RUNS,
      NOW,
    );
    expect([status, body.runs.length]).toEqual([200, 1]);
    expect(headers.get('x-runfold-incomplete')).toBe('1 entry is quarantined');
  });
});

describe('load', () => {
  it('an org that sends too much is told when to come again; others are not touched', async () => {
    const served = await serve({ orgRequestsPerSecond: 2, orgBurst: 5 });
    const answers = await Promise.all(Array.from({ length: 12 }, () => served.json('GET', RUNS)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    const refused = answers.find(({ status }) => status === 429)!;
    expect(refused.body.code).toBe('RATE_LIMITED');
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    const token = await tokenFor({ orgs: ['other'] });
    expect((await served.json('GET', '/v1/orgs/other/runs', { token })).status).toBe(200);
    const batch = await serve({ orgRequestsPerSecond: 2, orgBurst: 5 });
    const post = () =>
      batch.json('POST', '/api/v1/lineage/batch', { body: Array(200).fill({}), role: 'writer' });
    // Ten events count as a request: the next has to wait until the batch is paid for.
    const [first, second] = [await post(), await post()];
    expect([first.status, second.status]).toEqual([200, 429]);
    expect(Number(second.headers.get('retry-after'))).toBeGreaterThanOrEqual(8);
  });

  it('requests of one org wait for each other, within bounds, and leave the others their place', async () => {
    const served = await serve({ orgInFlightMax: 2, orgWaitingMax: 3 });
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { store } = served.world.session;
    const { get } = store;
    store.get = async (key, options) => {
      if (key.includes('/acme/')) await gate;
      return get.call(store, key, options);
    };
    const flood = Array.from({ length: 9 }, () => served.json('GET', `${RUNS}/r1`));
    await vi.waitFor(() => expect(served.service.admission.waiting).toBe(3));
    const other = await tokenFor({ orgs: ['other'] });
    expect((await served.json('GET', '/v1/orgs/other/runs/r1', { token: other })).status).toBe(404);
    open();
    const statuses = (await Promise.all(flood)).map(({ status }) => status).sort();
    expect(statuses).toEqual([404, 404, 404, 404, 404, 429, 429, 429, 429]);
    expect(served.service.admission.inFlight).toBe(0);
    expect(served.service.admission.waiting).toBe(0);
  });

  it("an org's flood shares its refreshes, and another's refresh passes it by", async () => {
    const served = await serve({ orgInFlightMax: 4, orgWaitingMax: 8 });
    for (const org of [ORG, 'other'])
      await served.world.session.recorder.create(org, { run_id: `of-${org}` });
    const held = gate();
    const asked: string[] = [];
    const { store } = served.world.session;
    const { list } = store;
    store.list = async (options) => {
      asked.push(options.prefix);
      if (options.prefix.includes(`/${ORG}/`)) await held.opened;
      return list.call(store, options);
    };
    const flood = Array.from({ length: 200 }, () => served.json('GET', RUNS, NOW));
    await vi.waitFor(() => expect(served.service.admission.waiting).toBe(8));
    const other = await tokenFor({ orgs: ['other'] });
    const answer = await served.json('GET', '/v1/orgs/other/runs', { ...NOW, token: other });
    expect(answer.body.runs).toMatchObject([{ run_id: 'of-other' }]);
    // The flood is still where it was, and has cost the store one request.
    expect(served.service.admission.waiting).toBe(8);
    expect(asked.filter((prefix) => prefix.includes(`/${ORG}/`))).toHaveLength(1);
    held.open();
    const statuses = (await Promise.all(flood)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(12);
    expect(statuses.filter((status) => status === 429)).toHaveLength(188);
    expect(asked.filter((prefix) => prefix.includes(`/${ORG}/`)).length).toBeLessThan(12);
  });

  it('a full process sheds; a request that takes too long is answered, a write as unknown', async () => {
    const served = await serve({ inFlightMax: 2, requestDeadlineMs: 400 });
    const { store } = served.world.session;
    store.get = (_, options) =>
      new Promise((_, reject) => {
        options?.signal?.addEventListener('abort', () => reject(options.signal!.reason));
      });
    const read = served.json('GET', `${RUNS}/r1`);
    const write = served.json('POST', `${RUNS}/r1/started`, { body: { attempt: 1 } });
    await vi.waitFor(() => expect(served.service.admission.inFlight).toBe(2));
    expect((await served.json('GET', RUNS)).body).toMatchObject({ status: 503, code: 'OVERLOADED' });
    expect((await read).body).toMatchObject({ status: 504, code: 'DEADLINE_EXCEEDED' });
    const unknown = await write;
    expect(unknown.body).toMatchObject({
      status: 503,
      code: 'OUTCOME_UNKNOWN',
      hint: expect.stringContaining('Repeat the same request'),
    });
    expect(unknown.headers.get('retry-after')).toBe('1');
  });
});
