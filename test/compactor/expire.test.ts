import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Expired, expireOrg } from '../../compactor/expire.ts';
import { compactPass } from '../../compactor/pass.ts';
import { verifyOrg } from '../../compactor/verify.ts';
import { dueRuns } from '../../src/catalog/due.ts';
import { openResults, type ResultStore, resultKey } from '../../src/runs/results.ts';
import { runKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept, planting } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { expectLaw2, fakeWorld } from '../support/world.ts';

const MINUTE = 60_000;
const URL = 'gs://results/r';
const uriOf = (name: string, run = 'run-1', org = ORG) => `${URL}/${org}/${run}/${name}`;
const bytes = new TextEncoder().encode('rows');

type World = Awaited<ReturnType<typeof fakeWorld>>;
let world: World;
let objects: MemoryStore;

beforeEach(async () => {
  world = await fakeWorld();
  objects = new MemoryStore({ clock: world.clock });
});

const results = (store: ObjectStore = objects): ResultStore => ({ url: URL, store });
const keys = async () => (await objects.list({ prefix: '' })).items.map(({ key }) => key);
const write = (name: string, run = 'run-1', org = ORG) => objects.put(`${org}/${run}/${name}`, bytes);
const apply = (event: object, run = 'run-1') => world.session.recorder.apply(ORG, run, event as never);

async function begun(run_id = 'run-1') {
  await world.session.recorder.create(ORG, { run_id, outputs: [{ namespace: 'db', name: 't' }] });
  await apply({ type: 'started', attempt: 1 }, run_id);
}

async function leave(
  name: string,
  ttl_ms: number | null = MINUTE,
  uri = uriOf(name),
  run = 'run-1',
  attempt = 1,
) {
  const artifact = { type: 'put', operator: 'scan', port: name, uri, ttl_ms };
  await apply({ type: 'artifact', attempt, artifact }, run);
}

const end = (run = 'run-1', attempt = 1) => apply({ type: 'succeeded', attempt }, run);
const artifactsOf = async (run = 'run-1') =>
  Object.fromEntries(
    Object.entries((await world.session.runs.read(ORG, run))!.run.artifacts).map(([key, { status }]) => [
      key,
      status,
    ]),
  );
const sweep = (store: ResultStore | null = results(), options: object = {}): Promise<Expired> =>
  expireOrg(world.compactor, ORG, world.session.recorder, { results: store, ...options });
const outcomes = ({ artifacts }: Expired) =>
  Object.fromEntries(
    artifacts.map(({ port, outcome, reason }) => [port, reason === undefined ? outcome : reason]),
  );

describe('a URI that runfold owns', () => {
  it.each([
    [uriOf('a'), `${ORG}/run-1/a`],
    [uriOf('deep/er.parquet'), `${ORG}/run-1/deep/er.parquet`],
    [uriOf('a', 'run-2'), null],
    [uriOf('a', 'run-1', 'other'), null],
    [`${URL}/${ORG}/run-10/a`, null],
    [`${URL}/${ORG}/run-1`, null],
    [`${URL}/${ORG}/run-1/`, null],
    [`${URL}/${ORG}/run-1/../run-2/a`, null],
    [`${URL}/${ORG}/run-1/./a`, null],
    [`${URL}/${ORG}/run-1//a`, null],
    ['gs://results/rr/acme/run-1/a', null],
    ['gs://other/r/acme/run-1/a', null],
    ['GS://results/r/acme/run-1/a', null],
    [null, null],
  ])('%s: %s', (uri, key) => {
    expect(resultKey({ url: URL }, ORG, 'run-1', uri)).toBe(key);
  });

  it('lies apart from runs and catalogs, or nothing is deleted at all', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'runfold-results-'));
    const apartFrom = [`file:${dir}/catalog`, 'memory:'];
    for (const url of [`file:${dir}/catalog`, `file:${dir}`, `file://${dir}/catalog/results?fsync=off`])
      await expect(openResults(url, { apartFrom }), url).rejects.toThrow(/overlap/);
    const beside = await openResults(`file:${dir}/catalog-results`, { apartFrom });
    expect(resultKey(beside, ORG, 'run-1', `file://${dir}/catalog-results/${ORG}/run-1/a`)).toBe(
      `${ORG}/run-1/a`,
    );
    await rm(dir, { recursive: true });
    const apart = await openResults('memory:', { apartFrom });
    expect(resultKey(apart, ORG, 'run-1', `memory:${ORG}/run-1/a`)).toBe(`${ORG}/run-1/a`);
  });
});

describe('the clean-up', () => {
  it('deletes what is due and runfold’s own, marks the rest, and records both', async () => {
    await begun();
    for (const name of ['a', 'b', 'forever']) await write(name);
    await write('a', 'run-2');
    await leave('a');
    await leave('never-written');
    await leave('b', 10 * MINUTE);
    await leave('forever', null);
    await leave('elsewhere', MINUTE, 's3://theirs/a');
    await leave('foreign', MINUTE, uriOf('a', 'run-2'));
    await end();
    const before = (await world.read()).tables();
    await world.clock.advance(2 * MINUTE);

    const planned = await sweep(results(), { dryRun: true });
    const expected = { a: 'deleted', 'never-written': 'deleted', elsewhere: 'marked', foreign: 'marked' };
    expect(outcomes(planned)).toEqual(expected);
    expect(await keys()).toContain(`${ORG}/run-1/a`);
    expect(outcomes(await sweep())).toEqual(expected);
    expect(await keys()).toEqual([`${ORG}/run-1/b`, `${ORG}/run-1/forever`, `${ORG}/run-2/a`]);
    expect(await artifactsOf()).toEqual({
      'scan/a': 'DELETED',
      'scan/never-written': 'DELETED',
      'scan/b': 'PRESENT',
      'scan/forever': 'PRESENT',
      'scan/elsewhere': 'EXPIRED',
      'scan/foreign': 'EXPIRED',
    });

    const org = await world.read();
    const { run } = (await world.session.runs.read(ORG, 'run-1'))!;
    expect(org.state.overlay.facts.get('run-1')).toMatchObject({ row: { revision: run.revision } });
    expect(org.tables()).toEqual(before);
    await expectLaw2(world, org);
    expect(await sweep()).toMatchObject({ runs: 0, artifacts: [] });
    await world.clock.advance(20 * MINUTE);
    expect(outcomes(await sweep())).toEqual({ b: 'deleted' });
  });

  it('never looks at a run that is worked on, however long ago it was due', async () => {
    await begun();
    await write('a');
    await leave('a');
    await world.clock.advance(MINUTE * 600);
    expect(await sweep()).toMatchObject({ runs: 0 });
    // The index says ended, the run was retried: the canonical run decides.
    await apply({ type: 'failed', attempt: 1, error: { code: null, message: 'x' } });
    const stale = await world.read();
    expect(await dueRuns(stale, world.clock.now())).toEqual(['run-1']);
    const store = planting(
      objects,
      ({ operation }) => operation === 'head',
      () => apply({ type: 'retry', attempt: 1 }),
    );
    expect(outcomes(await sweep(results(store)))).toEqual({ a: 'the run changed meanwhile' });
    expect(await keys()).toEqual([`${ORG}/run-1/a`]);
    expect(await artifactsOf()).toEqual({ 'scan/a': 'PRESENT' });
  });

  it('what a new attempt writes under the old name, after the mark, stays', async () => {
    await begun();
    await write('a');
    await leave('a');
    await apply({ type: 'failed', attempt: 1, error: { code: null, message: 'x' } });
    await world.clock.advance(2 * MINUTE);
    const store = planting(
      objects,
      ({ operation }) => operation === 'delete',
      async () => {
        await apply({ type: 'retry', attempt: 1 });
        await apply({ type: 'started', attempt: 2 });
        await write('a');
        await leave('a', null, uriOf('a'), 'run-1', 2);
      },
    );
    expect(outcomes(await sweep(results(store)))).toEqual({ a: 'it was written anew' });
    expect(await keys()).toEqual([`${ORG}/run-1/a`]);
    expect(await artifactsOf()).toEqual({ 'scan/a': 'PRESENT' });
    await expectLaw2(world, await world.read());
  });

  it('an unknown outcome is kept for the next pass, and so is a store that fails', async () => {
    await begun();
    for (const name of ['a', 'b', 'c']) {
      await write(name);
      await leave(name);
    }
    await end();
    await world.clock.advance(2 * MINUTE);
    const shaky = intercept(objects, async ({ operation, key }, go) => {
      if (operation === 'head' && key.endsWith('/c')) throw new Error('no answer');
      if (operation !== 'delete') return go();
      // One took effect, one did not; nobody can tell.
      if (key.endsWith('/a')) await go();
      return { outcome: 'unknown', cause: new Error('cut off') };
    });
    expect(outcomes(await sweep(results(shaky)))).toEqual({ a: 'cut off', b: 'cut off', c: 'no answer' });
    expect(await artifactsOf()).toEqual({ 'scan/a': 'EXPIRING', 'scan/b': 'EXPIRING', 'scan/c': 'PRESENT' });
    // Without the result store nobody can go on with what was begun.
    expect(outcomes(await sweep(null))).toEqual({
      a: 'its result store is not configured',
      b: 'its result store is not configured',
      c: 'marked',
    });
    expect(outcomes(await sweep())).toEqual({ a: 'deleted', b: 'deleted' });
    expect(await keys()).toEqual([`${ORG}/run-1/c`]);
  });

  it.each(['head', 'expire', 'delete', 'settle', 'record'])(
    'a crash before %s is made good by the next',
    async (at) => {
      await begun();
      await write('a');
      await leave('a');
      await end();
      await world.clock.advance(2 * MINUTE);
      let writes = 0;
      const crash = async () => {
        throw new Error('killed');
      };
      const dying: typeof world.session.recorder = Object.create(world.session.recorder, {
        apply: {
          value: (...args: Parameters<typeof world.session.recorder.apply>) =>
            ['expire', 'settle'][writes++] === at ? crash() : world.session.recorder.apply(...args),
        },
        repeatRecord: {
          value: (...args: Parameters<typeof world.session.recorder.repeatRecord>) =>
            at === 'record' ? crash() : world.session.recorder.repeatRecord(...args),
        },
        now: { value: () => world.session.recorder.now() },
      });
      const stop = new AbortController();
      const store = intercept(objects, ({ operation }, go) => {
        if (operation !== at) return go();
        stop.abort();
        return crash();
      });
      const swept = expireOrg(world.compactor, ORG, dying, { results: results(store), signal: stop.signal });
      await expect(swept).rejects.toThrow();
      await sweep();
      expect(await keys()).toEqual([]);
      expect(await artifactsOf()).toEqual({ 'scan/a': 'DELETED' });
      const org = await world.read();
      expect(await dueRuns(org, world.clock.now())).toEqual([]);
      await expectLaw2(world, org);
    },
  );

  it('one broken run holds up no other', async () => {
    for (const run of ['run-1', 'run-2']) {
      await begun(run);
      await write('a', run);
      await leave('a', MINUTE, uriOf('a', run), run);
      await end(run);
    }
    await world.clock.advance(2 * MINUTE);
    await world.memory.put(runKey(ORG, 'run-1'), new TextEncoder().encode('{'));
    const swept = await sweep();
    expect(swept.artifacts).toMatchObject([{ run_id: 'run-2', outcome: 'deleted' }]);
    expect(swept.failed).toEqual([{ run_id: 'run-1', code: 'CORRUPT', message: expect.any(String) }]);
    expect(await keys()).toEqual([`${ORG}/run-1/a`]);
  });

  it('any number of them at once', async () => {
    for (let i = 0; i < 5; i++) {
      const run = `run-${i}`;
      await begun(run);
      await write('a', run);
      await leave('a', MINUTE, uriOf('a', run), run);
      await end(run);
    }
    await world.clock.advance(2 * MINUTE);
    await Promise.all([sweep(), sweep(), sweep()]);
    expect(await keys()).toEqual([]);
    for (let i = 0; i < 5; i++) expect(await artifactsOf(`run-${i}`)).toEqual({ 'scan/a': 'DELETED' });
    await world.compact();
    expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
    expect(await sweep()).toMatchObject({ runs: 0 });
  });

  it('finds its work in the head however much is sealed, and the rest with --history', async () => {
    world = await fakeWorld({ limits: { headRowsMax: 8 } });
    objects = new MemoryStore({ clock: world.clock });
    for (let i = 0; i < 40; i++) {
      const run = `run-${i}`;
      await begun(run);
      if (i < 6) await leave('a', MINUTE * 120 + i, uriOf('a', run), run);
      await end(run);
      await world.clock.advance(1_000);
    }
    await world.clock.advance(30 * MINUTE);
    await world.compact();
    const org = await world.read();
    expect(org.state.manifest!.parts.some(({ level }) => level > 0)).toBe(true);
    await world.clock.advance(180 * MINUTE);
    expect(await dueRuns(org, world.clock.now())).toEqual(['run-0', 'run-1', 'run-2', 'run-3']);
    expect(await sweep(results(), { history: true })).toMatchObject({ runs: 6 });
    expect(await sweep(results(), { history: true })).toMatchObject({ runs: 0 });
    await world.compact();
    expect((await verifyOrg(world.compactor, ORG)).problems).toEqual([]);
  });

  it('a pass does it for its orgs, before the fold', async () => {
    await begun();
    await write('a');
    await leave('a');
    await end();
    await world.clock.advance(2 * MINUTE);
    const { recorder } = world.session;
    const [result] = await compactPass(world.compactor, { expire: { recorder, results: results() } });
    expect(result).toMatchObject({ outcome: 'committed', expired: { artifacts: [{ outcome: 'deleted' }] } });
    expect((await world.read()).state.rows().time('artifacts_expire_at', 0)).toBeNull();
  });
});
