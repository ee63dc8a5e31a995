import { describe, expect, it } from 'vitest';
import { verifyOrg } from '../../compactor/verify.ts';
import { createClient, ServiceError } from '../../src/client/client.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ORG } from '../support/runs.ts';
import { expectLaw2 } from '../support/world.ts';
import { type Served, serve, tokenFor } from './support.ts';

/** A client whose calls go to the replicas by turns, as behind a load balancer, and whose answers may get lost. */
async function balanced(replicas: readonly Served[], lose: () => boolean = () => false) {
  let turn = 0;
  return createClient({
    url: 'http://runfold.test/',
    token: await tokenFor({ role: 'operator' }),
    attemptsMax: 8,
    async fetch(input, init) {
      const response = await replicas[turn++ % replicas.length]!.service.fetch(new Request(input, init));
      // What was done is done; only the answer does not arrive.
      if (lose()) throw new TypeError('fetch failed');
      return response;
    },
  });
}

describe('two replicas on one store', () => {
  it('lose nothing under concurrent callbacks, lost answers, OpenLineage events and folds', async () => {
    const store = new MemoryStore({});
    const replicas = [await serve({}, { store, seed: 1 }), await serve({}, { store, seed: 2 })];
    let calls = 0;
    const client = await balanced(replicas, () => ++calls % 7 === 0);
    const org = client.org(ORG);
    const ids = Array.from({ length: 24 }, (_, i) => `r${String(i).padStart(2, '0')}`);
    let folding = true;
    const folds = (async () => {
      while (folding) {
        await replicas[0]!.world.compact();
        await new Promise((resolve) => setTimeout(resolve, 15));
      }
    })();
    await Promise.all(
      ids.map(async (id, i) => {
        const run = org.run(id);
        await org.create({
          run_id: id,
          queue: 'q',
          payload: { target_namespace: 'db', target_table: `t${i % 4}` },
        });
        await run.started({ attempt: 1 });
        await Promise.all(
          ['a', 'b', 'c'].map(async (task) => {
            await run.task(task, 'started', { run_attempt: 1, attempt: 1 });
            await run.task(task, 'completed', {
              run_attempt: 1,
              attempt: 1,
              outputs: [{ namespace: 'db', name: `${task}${i % 4}` }],
            });
          }),
        );
        await run.heartbeat({ attempt: 1 });
        await client.lineage({
          eventType: 'RUNNING',
          eventTime: '2026-01-01T00:00:00Z',
          run: { runId: id },
          job: { namespace: 'etl', name: 'load' },
          inputs: [{ namespace: 'db', name: 'source' }],
        });
        if (i % 3 === 0) await run.completed({ attempt: 1, result: { rows: i } });
        if (i % 3 === 1) await run.fail({ attempt: 1, error: { code: null, message: 'it broke' } });
        if (i % 6 === 1) await run.retry({ attempt: 1 });
        if (i % 3 === 2) await run.cancel({});
      }),
    );
    folding = false;
    await folds;

    const { world } = replicas[1]!;
    const fresh = await world.read();
    await expectLaw2(world, fresh);
    const verified = await verifyOrg(world.compactor, ORG);
    expect(verified.problems).toEqual([]);
    expect(verified.checked.runs).toBe(ids.length);
    for await (const { run_id, outputs, inputs, status } of org.allRuns({}, { maxAgeS: 0 })) {
      const i = ids.indexOf(run_id);
      expect(outputs.map(({ name }) => name[0]).sort(), run_id).toEqual(['a', 'b', 'c']);
      expect(inputs.map(({ name }) => name)).toEqual(['source']);
      expect(status).toBe(
        i % 3 === 0 ? 'SUCCEEDED' : i % 6 === 1 ? 'QUEUED' : i % 3 === 1 ? 'FAILED' : 'CANCELLING',
      );
    }
    // Both say the same, ETags included.
    const tables = await Promise.all(
      replicas.map((replica) =>
        replica.json('GET', `/v1/orgs/${ORG}/tables`, { headers: { 'cache-control': 'max-age=0' } }),
      ),
    );
    expect(tables[0]!.body).toEqual(tables[1]!.body);
    expect(tables[0]!.headers.get('etag')).toBe(tables[1]!.headers.get('etag'));
  });

  it('events of one run, sent to both at once in every order, end the same', async () => {
    const store = new MemoryStore({});
    const replicas = [await serve({}, { store, seed: 1 }), await serve({}, { store, seed: 2 })];
    const client = await balanced(replicas);
    const event = (eventType: string, minute: number, name: string) => ({
      eventType,
      eventTime: `2026-01-01T00:0${minute}:00Z`,
      run: { runId: 'same' },
      job: { namespace: 'etl', name: 'load' },
      outputs: [{ namespace: 'db', name }],
    });
    const events = [
      event('COMPLETE', 5, 'c'),
      event('START', 0, 'a'),
      event('RUNNING', 2, 'b'),
      event('OTHER', 3, 'd'),
    ];
    await Promise.all([...events, ...events, ...events].map((one) => client.lineage(one)));
    const run = await client.org(ORG).run('same').get();
    expect(run).toMatchObject({
      status: 'SUCCEEDED',
      started_at: Date.UTC(2026, 0, 1),
      finished_at: Date.UTC(2026, 0, 1, 0, 5),
    });
    expect(run.outputs.map(({ name }) => name)).toEqual(['a', 'b', 'd', 'c']);
    expect((await verifyOrg(replicas[0]!.world.compactor, ORG)).problems).toEqual([]);
  });
});

describe('the client', () => {
  it('says what was refused, and does not repeat what no repeat can mend', async () => {
    const served = await serve();
    let calls = 0;
    const client = createClient({
      url: 'http://runfold.test',
      token: () => tokenFor({ role: 'writer' }),
      fetch: (input, init) => {
        calls++;
        return served.service.fetch(new Request(input, init));
      },
    });
    const org = client.org(ORG);
    const failed = await org
      .run('none')
      .started({ attempt: 1 })
      .catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(ServiceError);
    expect(failed).toMatchObject({
      status: 404,
      code: 'RUN_NOT_FOUND',
      hint: 'Check the org and the run id, or create the run first.',
    });
    expect(calls).toBe(1);
    const made = await org.create({ payload: { target_table: 't', target_namespace: 'db' } });
    expect(made.changed).toBe(true);
    expect((await org.table({ namespace: 'db', name: 't' }, { maxAgeS: 0 })).latest_run.run_id).toBe(
      made.run_id,
    );
    const { cursor } = await org.changes();
    await org.run(made.run_id).cancel({});
    expect((await org.changes({ cursor })).changes).toMatchObject([
      { run_id: made.run_id, run: { status: 'CANCELLED' } },
    ]);
    expect((await org.lineage({ table: { namespace: 'db', name: 't' } })).nodes).toHaveLength(1);
    const tables = [];
    for await (const { name } of org.allTables()) tables.push(name);
    expect(tables).toEqual(['t']);
    expect((await org.active()).runs).toEqual([]);
    expect((await client.lineageBatch([{}])).status).toBe('partial_success');
  });

  it('waits as long as the service asks, and gives up after its attempts', async () => {
    const waits: number[] = [];
    const client = createClient({
      url: 'http://runfold.test',
      token: 't',
      attemptsMax: 3,
      clock: { now: () => 0, monotonic: () => 0, sleep: async (ms) => void waits.push(ms) },
      fetch: async () => new Response('busy', { status: 503, headers: { 'retry-after': '7' } }),
    });
    await expect(client.org(ORG).tables()).rejects.toMatchObject({ status: 503, code: 'UNKNOWN' });
    expect(waits).toEqual([7_000, 7_000]);
  });
});
