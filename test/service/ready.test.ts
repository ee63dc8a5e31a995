import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { foldLagOf, sampleFoldLag } from '../../compactor/lag.ts';
import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import { intentOf } from '../../src/runs/record.ts';
import { listen } from '../../src/service/listen.ts';
import { openFileStore } from '../../src/store/file.ts';
import { entryKey } from '../../src/store/keys.ts';
import { tempDir } from '../cli/support.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { ORG, runOf } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import { NOW, RUNS, serve } from './support.ts';

const MINUTE = 60_000;
const ready = { token: null };

/** A service in a world whose time the test moves. */
async function aged() {
  const world = await fakeWorld();
  const calls: StoreCall[] = [];
  const served = await serve(
    {},
    { store: recording(world.memory, calls), clock: world.clock, world: { clock: world.clock } },
  );
  const { recorder } = world.session;
  return {
    ...served,
    clock: world.clock,
    calls,
    compact: world.compact,
    create: (orgId: string, run_id: string) => recorder.create(orgId, { run_id }),
    lag: async () => (await served.json('GET', '/readyz', ready)).body,
  };
}

describe('the end of a service', () => {
  it('is told by /readyz while connections and requests are still taken, and only then', async () => {
    const { service } = await serve({ drainDelayMs: 300 });
    const { url, close } = await listen(service, { port: 0, host: '127.0.0.1' });
    const status = async (path: string) =>
      (await fetch(`${url}${path}`, { headers: { connection: 'close' } })).status;
    expect(await status('/readyz')).toBe(200);
    const closed = close();
    const answer = await fetch(`${url}/readyz`, { headers: { connection: 'close' } });
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([503, 'DRAINING']);
    expect(await status('/livez')).toBe(200);
    await closed;
    await expect(status('/livez')).rejects.toThrow('fetch failed');
  });
});

describe('a file store whose directory is gone', () => {
  it('is unavailable everywhere, is not made again, and is there again once it is back', async () => {
    const dir = tempDir();
    const root = join(dir, 's');
    const store = await openFileStore(root, { fsync: false });
    const { json } = await serve({ readyProbeMs: 0 }, { store });
    expect((await json('POST', RUNS, { body: { run_id: 'r1' } })).status).toBe(201);
    renameSync(root, `${root}.away`);
    for (const [method, path, given] of [
      ['GET', '/readyz', ready],
      ['GET', `/v1/orgs/${ORG}/tables`, NOW],
      ['GET', `${RUNS}/r1`, {}],
      ['POST', RUNS, { body: { run_id: 'r2' } }],
    ] as const) {
      const { status, body } = await json(method, path, given);
      expect([status, body.code], `${method} ${path}`).toEqual([503, 'STORE_UNAVAILABLE']);
      expect(JSON.stringify(body)).not.toContain(dir);
    }
    expect(readdirSync(dir)).toEqual(['s.away']);
    renameSync(`${root}.away`, root);
    expect((await json('GET', '/readyz', ready)).status).toBe(200);
    expect((await json('POST', RUNS, { body: { run_id: 'r2' } })).status).toBe(201);
  });
});

describe('the fold lag', () => {
  it('is the age of the oldest entry that came after the last commit; none without one', async () => {
    const { clock, memory, session, compact } = await fakeWorld();
    const context = { store: memory, limits: session.limits, random: seededRandom(1) };
    const lag = () => foldLagOf(context, ORG);
    expect(await lag()).toBe(0);
    await session.recorder.create(ORG, { run_id: 'r1' });
    await clock.advance(10 * MINUTE);
    expect(await lag()).toBe(10 * MINUTE);
    await compact();
    // What the fold took stays in the log for its grace, and is not late.
    expect(await lag()).toBe(0);
    await session.recorder.create(ORG, { run_id: 'r2' });
    await clock.advance(3 * MINUTE);
    expect(await lag()).toBe(3 * MINUTE);
  });

  it('does not count what waits in the log for another reason than late folds', async () => {
    const { clock, memory, session, compact } = await fakeWorld();
    const key = entryKey(ORG, uuidv7(clock.now(), seededRandom(4)));
    await memory.put(key, encodeEntry({ org_id: ORG, records: [intentOf(runOf({ run_id: 'never' }))] }));
    await clock.advance(10 * MINUTE);
    await session.recorder.create(ORG, { run_id: 'r1' });
    await compact();
    await clock.advance(3 * MINUTE);
    // Collects what the first one folded; the intent stays.
    await compact();
    await clock.advance(60 * MINUTE);
    expect(await memory.head(key)).not.toBeNull();
    expect(await foldLagOf({ store: memory, limits: session.limits, random: seededRandom(1) }, ORG)).toBe(0);
  });

  it('is looked at for a bounded number of orgs, over time for all of them', async () => {
    const { clock, memory, session } = await fakeWorld();
    for (let i = 0; i < 30; i++) await session.recorder.create(`org-${i}`, { run_id: 'r1' });
    await session.close();
    await clock.advance(MINUTE);
    const calls: StoreCall[] = [];
    const store = recording(memory, calls);
    const random = seededRandom(2);
    const seen = new Set<string>();
    for (let look = 0; look < 40; look++) {
      calls.splice(0);
      expect(await sampleFoldLag({ store, limits: session.limits, random }, 4)).toEqual(
        Array(4).fill(MINUTE),
      );
      expect(calls.length).toBeLessThanOrEqual(2 + 2 * 4);
      for (const { operation, key } of calls) if (operation === 'head') seen.add(key);
    }
    expect(seen.size).toBe(30);
  });
});

describe('/readyz', () => {
  it('says no while folds are behind, which bound it is, and yes again after the fold', async () => {
    const { create, clock, compact, json, lag, service } = await aged();
    await create(ORG, 'r1');
    expect(await lag()).toMatchObject({ status: 'ready', fold_lag_ms: 0 });
    // Ten minutes until it is due, and fifteen behind that.
    await clock.advance(25 * MINUTE);
    expect(await lag()).toMatchObject({ status: 'ready', fold_lag_ms: 25 * MINUTE });
    await clock.advance(MINUTE);
    const late = await json('GET', '/readyz', ready);
    expect(late.headers.get('content-type')).toBe('application/problem+json');
    expect(late).toMatchObject({
      status: 503,
      body: { code: 'FOLD_LAG_EXCEEDED', fold_lag_ms: 26 * MINUTE, fold_lag_max_ms: 25 * MINUTE },
    });
    expect(JSON.stringify(late.body)).not.toContain(ORG);
    expect(service.metrics.text()).toContain('runfold_ready_lag_seconds 1560');
    await compact();
    await clock.advance(2 * MINUTE);
    expect(await lag()).toMatchObject({ status: 'ready', fold_lag_ms: 0 });
  });

  it('one org whose folds fail does not take the service from the others', async () => {
    const { create, clock, compact, lag } = await aged();
    for (const org of [ORG, 'b', 'c']) await create(org, 'r1');
    await clock.advance(26 * MINUTE);
    for (const org of ['b', 'c']) await compact(org);
    expect(await lag()).toMatchObject({ status: 'ready' });
    await create('b', 'r2');
    await clock.advance(26 * MINUTE);
    expect(await lag()).toMatchObject({ code: 'FOLD_LAG_EXCEEDED' });
  });

  it('costs the same however many ask, and can leave the lag out', async () => {
    const { create, calls, json, clock } = await aged();
    await create(ORG, 'r1');
    calls.splice(0);
    await Promise.all(Array.from({ length: 50 }, () => json('GET', '/readyz', ready)));
    const first = calls.length;
    expect(first).toBeLessThanOrEqual(1 + 2 + 2);
    await clock.advance(2_000);
    await json('GET', '/readyz', ready);
    expect(calls.length).toBe(first + 1);
    const careless = await serve({ foldLagMaxMs: Number.POSITIVE_INFINITY });
    expect((await careless.json('GET', '/readyz', ready)).body).toMatchObject({
      status: 'ready',
      fold_lag_ms: null,
    });
  });
});
