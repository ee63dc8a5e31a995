import { describe, expect, it } from 'vitest';
import { foldPolicy } from '../../compactor/due.ts';
import { compactPass, type PassOptions } from '../../compactor/pass.ts';
import { systemClock } from '../../src/core/clock.ts';
import { limits as limitsOf } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { Telemetry } from '../../src/core/telemetry.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry } from '../../src/log/entry.ts';
import { recordOf } from '../../src/runs/record.ts';
import { dirtyKey, entryKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { resilient } from '../../src/store/resilient.ts';
import { metering } from '../../src/telemetry/meter.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { METRICS, type MetricDefinition, type MetricName } from '../../src/telemetry/table.ts';
import { NOW, RUNS, type Served, serve, tokenFor } from '../service/support.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { intercept } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';

/** Longer than the grace of entries. */
const LATER_MS = 180_000;

/** Sums over all labels, by metric; of histograms the count. */
function figuresOf(text: string): Map<string, number> {
  const figures = new Map<string, number>();
  for (const line of text.split('\n')) {
    const match = /^(runfold_\w+?)(?:_count)?(?:{.*})? (-?[\d.e+-]+)$/.exec(line);
    if (match === null || /_(bucket|sum)$/.test(match[1]!)) continue;
    figures.set(match[1]!, (figures.get(match[1]!) ?? 0) + Number(match[2]));
  }
  return figures;
}

/** A log, and the two passes that it takes: one fails. */
async function archiveTwice({ session, compactor }: Served['world'], clock: FakeClock): Promise<void> {
  const { recorder, traces } = session;
  await recorder.create(ORG, { run_id: 'r3' });
  await traces.append(ORG, 'r3', { attempt: 1, offset: 0, body: new Uint8Array([10]) });
  await recorder.apply(ORG, 'r3', { type: 'succeeded', attempt: 1 });
  for (let i = 0; i < 2; i++) {
    await clock.advance(660_000);
    await compactPass(compactor, { orgs: [ORG], archive: recorder });
  }
}

describe('metrics', () => {
  it('each one moves when what it counts happens, and none knows of an org', async () => {
    const telemetry = new Telemetry();
    const clock = new FakeClock();
    const limits = { attemptsMax: 2, backoffBaseMs: 1, backoffMaxMs: 2 };
    let doubtful = 0;
    // The log of org `away` never answers; that of ORG does not answer once.
    const memory = new MemoryStore({ clock });
    let rotten = 1;
    const shaky = intercept(memory, async (call, go) => {
      // The first archive of a log is not stored as it was sent.
      if (call.operation === 'put' && call.key.includes('/archives/') && rotten-- > 0)
        return memory.put(call.key, new Uint8Array(3), call.put);
      const isEntry = call.operation === 'put' && call.key.includes('/log/');
      if (isEntry && call.key.includes('/away/'))
        return { outcome: 'unknown', cause: new Error('no answer') };
      if (isEntry && doubtful-- > 0) return { outcome: 'unknown', cause: new Error('no answer') };
      return go();
    });
    const store = resilient(shaky, {
      clock: systemClock,
      random: seededRandom(3),
      limits: limitsOf(limits),
      onRetry: (operation) => telemetry.tell('retry', { operation }),
    });
    const metrics = new Metrics(['service', 'store', 'compactor']);
    const served = await serve({}, { store, clock, metrics, world: { clock, telemetry, limits } });
    const { world } = served;
    const random = seededRandom(9);
    const put = (body: Uint8Array) => store.put(entryKey(ORG, uuidv7(clock.now(), random)), body);

    await world.session.recorder.create(ORG, { run_id: 'r1' });
    const { run } = await world.session.recorder.create(ORG, { run_id: 'r2' });
    doubtful = 2;
    await served.json('POST', `${RUNS}/r1/started`, { body: { attempt: 1 } });
    const away = await tokenFor({ orgs: ['away'] });
    expect(
      (await served.json('POST', '/v1/orgs/away/runs', { token: away, body: { run_id: 'r1' } })).status,
    ).toBe(503);
    await served.json('GET', RUNS, NOW);
    await served.json('GET', RUNS);

    // Two versions of the software write one state.
    const other = { ...run, kind: 'another' };
    await put(encodeEntry({ org_id: ORG, records: [recordOf(other)] }));
    await put(new TextEncoder().encode('{"broken'));
    expect((await served.json('GET', RUNS, NOW)).status).toBe(500);
    await served.call('GET', '/readyz', { token: null });
    await compactPass(world.compactor);
    const fresh = await serve({}, { store, clock, metrics, world: { clock, telemetry, limits } });
    await fresh.json('GET', RUNS, NOW);
    await clock.advance(LATER_MS);
    await compactPass(world.compactor, { orgs: [ORG] });
    await archiveTwice(world, clock);
    await store.put(dirtyKey(ORG), new Uint8Array());

    const text = metrics.text();
    const figures = figuresOf(text);
    const silent = (Object.entries(METRICS) as [MetricName, MetricDefinition][]).filter(([name, { type }]) =>
      type === 'gauge' ? !figures.has(name) : !((figures.get(name) ?? 0) > 0),
    );
    expect(silent.map(([name]) => name)).toEqual([]);
    expect(figures.get('runfold_fold_ties_total')).toBe(1);
    expect(figures.get('runfold_quarantined_total')).toBe(1);
    expect(figures.get('runfold_quarantine')).toBe(1);
    expect(figures.get('runfold_entry_repeats_total')).toBeGreaterThan(0);
    expect(figures.get('runfold_traces_waiting')).toBe(0);
    expect(text).not.toMatch(new RegExp(`${ORG}|away|r[123]`));
    expect([...figures.keys()].filter((name) => !Object.hasOwn(METRICS, name))).toEqual([]);
  });

  it('garbage is counted while it waits, and no more once it is collected', async () => {
    const metrics = new Metrics(['compactor']);
    const clock = new FakeClock();
    const served = await serve({}, { store: new MemoryStore({ clock }), clock, metrics, world: { clock } });
    const { world } = served;
    const waiting = () => figuresOf(metrics.text()).get('runfold_garbage_waiting');
    for (const run_id of ['r1', 'r2']) await world.session.recorder.create(ORG, { run_id });
    const sums = () => {
      const figures = figuresOf(metrics.text());
      return ['folds_total', 'fold_seconds', 'fold_lag_seconds', 'deferred_entries'].map(
        (name) => figures.get(`runfold_${name}`) ?? 0,
      );
    };
    // No fold, and so none that was quick or in time.
    await compactPass(world.compactor, { fold: foldPolicy(world.compactor.limits) });
    expect(sums()).toEqual([1, 0, 0, 4]);
    expect(metrics.text()).toContain('runfold_folds_total{outcome="deferred"} 1');
    await compactPass(world.compactor);
    expect(sums()).toEqual([2, 1, 1, 0]);
    // Two entries of each create.
    expect(waiting()).toBe(4);
    await compactPass(world.compactor);
    expect(waiting()).toBe(4);
    await clock.advance(LATER_MS);
    await compactPass(world.compactor);
    expect(waiting()).toBe(0);
    expect(figuresOf(metrics.text()).get('runfold_collected_total')).toBe(4);
  });

  it('what waits in an org stands, and ages, until the org is looked at again', async () => {
    const metrics = new Metrics(['compactor']);
    const clock = new FakeClock();
    const telemetry = new Telemetry();
    const store = new MemoryStore({ clock });
    const served = await serve({}, { store, clock, metrics, world: { clock, telemetry } });
    const { session, compactor } = served.world;
    const { recorder, traces } = session;
    const gauges = () => {
      const figures = figuresOf(metrics.text());
      const names = ['traces_waiting', 'traces_due', 'trace_oldest_seconds', 'garbage_waiting'];
      return names.map((name) => Math.round(figures.get(`runfold_${name}`) ?? -1));
    };
    const pass = (options: PassOptions = {}) => compactPass(compactor, { archive: recorder, ...options });
    await recorder.create(ORG, { run_id: 'r1' });
    await traces.append(ORG, 'r1', { attempt: 1, offset: 0, body: new Uint8Array([10]) });
    await recorder.apply(ORG, 'r1', { type: 'succeeded', attempt: 1 });
    await pass();
    const [waiting, due, oldest, garbage] = gauges() as [number, number, number, number];
    expect([waiting, due, garbage > 0]).toEqual([1, 0, true]);
    // Somebody who archives nothing takes the marker: no pass but a full one comes here.
    await clock.advance(LATER_MS);
    const marker = (await store.head(dirtyKey(ORG)))!;
    await store.delete(marker.key, { ifGeneration: marker.generation });
    for (const options of [{}, { orgs: [] }]) {
      await pass(options);
      expect(gauges()).toEqual([1, 0, Math.round(oldest + LATER_MS / 1_000), garbage]);
    }
    await clock.advance(3_600_000);
    expect(gauges()[2]).toBeGreaterThan(3_600);
    // A full pass looks at it, and marks it for those that follow.
    await pass({ orgs: 'all', archive: undefined });
    expect([gauges()[0], await store.head(dirtyKey(ORG))]).toEqual([1, null]);
    let broken = true;
    const rotten = intercept(store, async (call, go) => {
      if (broken && call.operation === 'put' && call.key.includes('/archives/'))
        return store.put(call.key, new Uint8Array(3), call.put);
      return go();
    });
    const shaky = { ...compactor, store: rotten };
    await compactPass(shaky, { orgs: 'all', archive: recorder });
    expect([gauges()[0], (await store.head(dirtyKey(ORG))) !== null]).toEqual([1, true]);
    broken = false;
    await clock.advance(660_000);
    await pass();
    expect(gauges().slice(0, 3)).toEqual([0, 0, 0]);
  });

  it("an org that is gone, or is another shard's, is forgotten at a full pass", async () => {
    const metrics = new Metrics(['compactor']);
    const telemetry = new Telemetry().add(metering(metrics, new FakeClock()));
    const look = (org: string) =>
      telemetry.run('archive', { org }, async (note) => note({ waiting: 2, due: 1, oldest_age_ms: 5_000 }));
    const waiting = () => figuresOf(metrics.text()).get('runfold_traces_waiting');
    const pass = (full: boolean, orgs: string[], reached: string[] = []) =>
      telemetry.run('pass', {}, async (note) => {
        for (const org of reached) telemetry.tell('reached', { org });
        for (const org of orgs) await look(org);
        note({ full });
      });
    await pass(false, ['a', 'b', 'c']);
    expect(waiting()).toBe(6);
    await pass(false, []);
    expect(waiting()).toBe(6);
    // What fails in an org that is there tells nothing of what waits.
    await pass(true, ['a'], ['a', 'b']);
    expect(waiting()).toBe(4);
    await pass(true, []);
    expect(waiting()).toBe(0);
  });
});
