import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Result, run } from '../../bench/cost.ts';
import { dollarsOf, type Prices, readPrices } from '../../bench/support/prices.ts';
import type { ScenarioOptions } from '../../bench/support/report.ts';
import { LATENCY_PROFILES } from '../../src/store/latency.ts';

const prices = readPrices();

async function small(prices: Prices): Promise<Result> {
  const options: ScenarioOptions = {
    quick: true,
    full: false,
    profile: false,
    latency: LATENCY_PROFILES.gcs,
    prices,
    seed: 1,
    args: [],
    child: null,
    onProgress: () => undefined,
  };
  return ((await run(options)).data as { results: Result[] }).results[0]!;
}

describe('the cost model', () => {
  it('follows from requests that were counted', async () => {
    const { slice, month, ...result } = await small(prices);
    // One GET beside one LIST, whatever the org holds.
    expect(result.dollarsPerMillionColdRefreshes).toBeCloseTo(5.4, 9);
    expect(slice.coldRefreshes.bill).toMatchObject({ get: 60, list: 60, put: 0, delete: 0 });
    const { count, bill } = slice.transitions;
    // A creation is three PUTs, any other transition two; markers come on top.
    expect(bill.put / count).toBeGreaterThan(7 / 3 - 0.2);
    expect(bill.put / count).toBeLessThan(4);
    expect(slice.folds.count).toBeGreaterThan(10);
    expect(slice.folds.bill.put).toBeGreaterThan(0);
    const { total, ...shares } = month;
    expect(total).toBeCloseTo(
      Object.values(shares).reduce((sum, dollars) => sum + dollars, 0),
      9,
    );
  });

  it('takes another price table', async () => {
    const dear: Prices = {
      ...prices,
      per_1000_requests: { get: 1, head: 1, put: 0, delete: 0, list: 0 },
      per_gib_month: 0,
    };
    const { dollarsPerMillionColdRefreshes, month } = await small(dear);
    expect(dollarsPerMillionColdRefreshes).toBeCloseTo(1_000, 9);
    expect(month.storage).toBe(0);
    expect(dollarsOf({ get: 3, list: 5 }, dear)).toBeCloseTo(0.003, 12);
  });
});

describe('a price table', () => {
  function file(text: string): string {
    const dir = mkdtempSync(join(tmpdir(), 'runfold-prices-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const path = join(dir, 'prices.json');
    writeFileSync(path, text);
    return path;
  }

  it('says where it is from and of when', () => {
    expect(prices.source).toContain('https://');
    expect(readPrices(file(JSON.stringify(prices)))).toEqual(prices);
  });

  it.each([
    ['nothing', '', 'is no JSON'],
    ['a price too few', JSON.stringify({ ...prices, per_gib_month: undefined }), 'per_gib_month'],
    ['a negative price', JSON.stringify({ ...prices, per_gib_month: -1 }), 'per_gib_month'],
    ['an unknown field', JSON.stringify({ ...prices, per_gb: 1 }), 'per_gb'],
  ])('with %s is refused by name', (_, text, named) => {
    const path = file(text);
    expect(() => readPrices(path)).toThrow(named);
    expect(() => readPrices(path)).toThrow(path);
  });
});
