import { describe, expect, it } from 'vitest';
import { percentiles, race, run } from '../../bench/write-path.ts';
import { WRITERS } from '../../bench/writers/index.ts';
import { LATENCY_PROFILES } from '../../src/store/latency.ts';

const profile = { latency: LATENCY_PROFILES.gcs, seed: 3, warmupMs: 1_000, windowMs: 4_000 };

describe.each(WRITERS.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  it.each([
    { writers: 1, callers: 5, orgs: 1 },
    { writers: 6, callers: 2, orgs: 1 },
    { writers: 5, callers: 1, orgs: 4 },
  ])('what it acknowledged can be read: %o', async (setup) => {
    const { store, acknowledged, bill } = await race(kind, setup, profile);
    expect(acknowledged.length).toBeGreaterThan(0);
    expect(bill.put).toBeGreaterThan(0);
    for (const orgId of new Set(acknowledged.map((one) => one.orgId))) {
      const rows = await kind.readBack(store, orgId);
      const found = new Set(rows.map(({ run_id }) => run_id));
      expect(found.size).toBe(rows.length);
      const lost = acknowledged.filter((one) => one.orgId === orgId && !found.has(one.runId));
      expect(lost).toEqual([]);
    }
  });
});

it('a name that takes one change a second bounds the JSON index, and nothing bounds runfold', async () => {
  const rate = async (name: string) => {
    const kind = WRITERS.find((one) => one.name === name)!;
    const { acknowledged } = await race(kind, { writers: 8, callers: 1, orgs: 1 }, profile);
    return acknowledged.length / 4;
  };
  expect(await rate('JSON index per org')).toBeLessThanOrEqual(1.25);
  expect(await rate('runfold')).toBeGreaterThan(20);
});

it('a percentile is a lower bound where waits that go on could move it', () => {
  const finished = Array.from({ length: 99 }, (_, i) => i + 1);
  expect(percentiles(finished, [3], [0.5, 0.99])).toEqual([
    { ms: 50, censored: false },
    { ms: 99, censored: true },
  ]);
  expect(percentiles([1, 2, 3, 4], [20, 25], [0.9])).toEqual([{ ms: 25, censored: true }]);
  expect(percentiles(finished, [], [0.99])).toEqual([{ ms: 99, censored: false }]);
});

it('a profile in which a PUT takes no time is refused, because its window would never close', async () => {
  const options = { latency: LATENCY_PROFILES.none } as Parameters<typeof run>[0];
  await expect(run(options)).rejects.toThrow('would never end');
});
