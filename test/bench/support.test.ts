import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { run as compare, figuresOf } from '../../bench/compare.ts';
import { PARALLEL, Pool } from '../../bench/rivals/rival.ts';
import { SkippingClock } from '../../bench/support/clock.ts';
import { costOf } from '../../bench/support/meter.ts';
import { type ScenarioOptions, spread } from '../../bench/support/report.ts';
import { realisticRows } from '../../bench/support/rows.ts';
import { MemoryStore } from '../../src/store/memory.ts';

const dir = mkdtempSync(join(tmpdir(), 'runfold-bench-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe('the skipping clock', () => {
  it('waits without waiting, in order, and by as much as was asked', async () => {
    const clock = new SkippingClock({ computing: false });
    const woken: string[] = [];
    const sleeper = async (ms: number) => {
      await clock.sleep(ms);
      woken.push(`${ms} at ${clock.monotonic()}`);
    };
    await Promise.all([sleeper(3_600_000), sleeper(20), sleeper(20), sleeper(5), sleeper(0)]);
    expect(woken).toEqual(['0 at 0', '5 at 5', '20 at 20', '20 at 20', '3600000 at 3600000']);
  });

  it('does not jump while something can still run', async () => {
    const clock = new SkippingClock({ computing: false });
    const done = clock.sleep(1_000);
    for (let i = 0; i < 1_000; i++) await Promise.resolve();
    expect(clock.monotonic()).toBe(0);
    await done;
    expect(clock.monotonic()).toBe(1_000);
  });

  it('an aborted sleep rejects with the reason, and delays nobody', async () => {
    const clock = new SkippingClock({ computing: false });
    const controller = new AbortController();
    const long = clock.sleep(1e9, controller.signal);
    controller.abort(new Error('enough'));
    await expect(long).rejects.toThrow('enough');
    await clock.sleep(7);
    expect(clock.monotonic()).toBe(7);
  });

  it('keeps many sleepers in order', async () => {
    const clock = new SkippingClock({ computing: false });
    const woken: number[] = [];
    const times = Array.from({ length: 500 }, (_, i) => (i * 7_919) % 1_009);
    await Promise.all(times.map((ms) => clock.sleep(ms).then(() => woken.push(ms))));
    expect(woken).toEqual([...times].sort((a, b) => a - b));
  });
});

describe('the meter', () => {
  it('counts requests, and rounds as the longest chain', async () => {
    const store = new MemoryStore();
    await store.put('a', new Uint8Array(10));
    const cost = await costOf(store, async (slow) => {
      await Promise.all([
        slow.get('a'),
        slow.list({ prefix: '' }).then(() => slow.head('a')),
        slow.get('a').then(() => slow.get('a', { range: { start: 0, end: 4 } })),
      ]);
    });
    expect(cost).toMatchObject({ requests: 5, get: 3, list: 1, head: 1, rounds: 2, bytesRead: 24 + 1 });
  });

  it('says of a pool as many rounds as it has waves', async () => {
    const cost = await costOf(new MemoryStore(), async (slow) => {
      const pool = new Pool();
      for (let i = 0; i <= 2 * PARALLEL; i++) pool.start(async () => void (await slow.get('x')));
      await pool.done();
    });
    expect(cost.rounds).toBe(3);
  });
});

describe('rows made for benches', () => {
  it('are the same for the same profile, and active only where they may be', () => {
    const rows = realisticRows({ orgId: 'o', count: 500, seed: 3, tables: 7, activeAmong: 100 });
    expect(realisticRows({ orgId: 'o', count: 500, seed: 3, tables: 7, activeAmong: 100 })).toEqual(rows);
    expect(new Set(rows.map(({ payload }) => payload.target_table)).size).toBe(7);
    const isActive = ({ status }: { status: string }) => status === 'QUEUED' || status === 'RUNNING';
    expect(rows.slice(0, 400).some(isActive)).toBe(false);
  });
});

describe('comparing results', () => {
  it('finds figures by name, wherever they stand', () => {
    const one = {
      results: [
        { scenario: 's', rival: 'a', ms: { median: 1, min: 0, max: 9 } },
        { scenario: 's', rival: 'b', requests: 2 },
      ],
    };
    const other = { results: [...one.results].reverse() };
    expect(new Map(figuresOf(one))).toEqual(new Map(figuresOf(other)));
    expect(figuresOf(one).map(([, value]) => value)).toEqual([1, 2]);
  });

  it('tells lines of the same name apart by what was asked, and by their place only where nothing else does', () => {
    const lines = [
      { codec: 'a', rows: 10, ms: 1 },
      { codec: 'a', rows: 20, ms: 2 },
      { units: 4, seconds: 3 },
      { seconds: 4 },
    ];
    const names = (values: object[]) => figuresOf(values).map(([name]) => name);
    expect(names(lines)).toEqual([
      'a · rows 10 · rows',
      'a · rows 10 · ms',
      'a · rows 20 · rows',
      'a · rows 20 · ms',
      'units 4 · units',
      'units 4 · seconds',
      '3 · seconds',
    ]);
    expect(names(lines.slice(1, 3)).at(-1)).toBe('units 4 · seconds');
  });

  it('says which lines only one of two has, and warns of other machines and versions', async () => {
    const result = (rivals: string[], machine: string, version: string) => {
      const results = rivals.map((rival) => ({ scenario: 's', rival, requests: rival.length }));
      const path = join(dir, `${crypto.randomUUID()}.json`);
      const data = { versions: { slatedb: version }, results };
      writeFileSync(path, JSON.stringify({ scenario: 'rivals', measured_at: 'then', machine, data }));
      return path;
    };
    const args = [result(['a', 'gone'], 'old one', '1'), result(['a', 'new'], 'new one', '2')];
    const { rows, notes } = await compare({ args } as Partial<ScenarioOptions> as ScenarioOptions);
    expect(rows).toEqual([]);
    expect(notes).toEqual([
      'Of 1 figures that are in both, 0 differ: by 3 % or more, and what is counted exactly by anything.',
      'Only in the old, 1 figures: results · s · gone.',
      'Only in the new, 1 figures: results · s · new.',
      'Machines differ: old one; new one.',
      'slatedb was 1, and is 2.',
      'Not kept in both, so not compared: latency_profile, prices.',
    ]);
  });
});

it('a spread is median, least and most', () => {
  expect(spread([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 });
  expect(spread([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
});
