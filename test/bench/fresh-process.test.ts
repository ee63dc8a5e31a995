import { describe, expect, it, onTestFinished } from 'vitest';
import { onFiles } from '../../bench/cold-refresh/place.ts';
import { freshProcesses } from '../../bench/cold-refresh/spawn.ts';
import { FLAT_PREFIX, flatScan, strangers } from '../../bench/rivals/flat-scan.ts';
import { jsonIndex } from '../../bench/rivals/json-index.ts';
import { runfold } from '../../bench/rivals/runfold.ts';
import { SkippingClock } from '../../bench/support/clock.ts';
import { datasetOf } from '../../bench/support/dataset.ts';
import { withKeyspace } from '../../bench/support/keyspace.ts';
import { costOf } from '../../bench/support/meter.ts';
import { prepareOn } from '../../bench/support/prepare.ts';
import { errorMessage } from '../../src/core/errors.ts';
import { LATENCY_PROFILES } from '../../src/store/latency.ts';
import { MemoryStore } from '../../src/store/memory.ts';

const ORG = 'org';

it('a process that has just begun answers with all rows, and takes longer than its refresh', async () => {
  const data = datasetOf(ORG, { totalRuns: 60, orgRuns: 30, tables: 5, tailEntries: 10 }, 3);
  const memory = new MemoryStore();
  for (const rival of [runfold, jsonIndex]) await prepareOn(memory, rival, data);
  const place = await onFiles(memory, LATENCY_PROFILES.lan, 'no Go');
  onTestFinished(() => place.close());
  expect(place.about).toContain('no Go');
  const begun: number[] = [];
  const entrants = [
    ['runfold', 'runfold'],
    ['json-index', 'jsonIndex'],
  ].map(([module, rival]) => ({
    name: rival!,
    asked: (round: number) => ({
      module: module!,
      rival: rival!,
      orgId: ORG,
      ...place.asked(round + 10),
    }),
    before: async (round: number) => void begun.push(round),
  }));
  for (const { rows, totalMs, refreshMs } of await freshProcesses(entrants, data.current, 1, {
    onStep: () => undefined,
    onFailed: (name, error) => expect.fail(`${name}: ${error}`),
  })) {
    expect(rows).toBe(data.current.length);
    expect(refreshMs).toHaveLength(1);
    expect(totalMs[0]).toBeGreaterThan(refreshMs[0]!);
  }
  // Two to warm up, and the round; each for both.
  expect(begun).toEqual([-2, -2, -1, -1, 0, 0]);
  const fewer = data.current.slice(1);
  const failed: [string, string][] = [];
  const onFailed = (name: string, error: unknown) => void failed.push([name, errorMessage(error)]);
  expect(await freshProcesses(entrants, fewer, 1, { onStep: () => undefined, onFailed })).toEqual([]);
  expect(failed.map(([name]) => name)).toEqual(['runfold', 'jsonIndex']);
  for (const [, why] of failed) expect(why).toContain('gave other rows');
});

describe('a keyspace', () => {
  const others = strangers(2_500, 1);
  const keyspace = {
    prefix: FLAT_PREFIX,
    count: 2_500,
    body: (n: number) => others[n % others.length]!.body,
  };

  it('is read like objects that were stored', async () => {
    const store = withKeyspace(new MemoryStore(), keyspace);
    const cost = await costOf(store, (slow, clock) => flatScan.refresh(slow, ORG, clock));
    expect(cost).toMatchObject({ list: 3, get: 2_500 });
    expect((await flatScan.refresh(store, 'others', new SkippingClock())).rows).toBe(2_500);
    expect(await store.head(`${FLAT_PREFIX}000002499`)).not.toBeNull();
    expect(await store.head(`${FLAT_PREFIX}000002500`)).toBeNull();
  });

  it('costs a reader of another prefix nothing', async () => {
    const memory = new MemoryStore({ clock: new SkippingClock() });
    const data = datasetOf(ORG, { totalRuns: 30, orgRuns: 30, tables: 5, tailEntries: 5 }, 3);
    await prepareOn(memory, runfold, data);
    const refresh = (store: typeof memory | ReturnType<typeof withKeyspace>) =>
      costOf(store, (slow, clock) => runfold.refresh(slow, ORG, clock));
    expect(await refresh(withKeyspace(memory, keyspace))).toEqual(await refresh(memory));
  });
});
