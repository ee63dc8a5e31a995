import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { holding } from '../../bench/external/hold.ts';
import { postgresEntrants } from '../../bench/external/postgres.ts';
import { PythonWorker } from '../../bench/external/python.ts';
import { PYTHON_RIVALS, pythonEntrant } from '../../bench/external/python-rivals.ts';
import { othersOf, writeRows } from '../../bench/external/rows.ts';
import { EVEN, EVEN_MS, makeBucket, roundsOf, startGateway } from '../../bench/external/stack.ts';
import { SkippingClock } from '../../bench/support/clock.ts';
import { datasetOf } from '../../bench/support/dataset.ts';
import { errorMessage } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/core/random.ts';
import { LATENCY_PROFILES, latency } from '../../src/store/latency.ts';
import { MemoryStore } from '../../src/store/memory.ts';

const gcs = inject('gcs');

/** The gateway in front of the test run's own emulator, and a bucket of its own. */
async function gateway(bucket = `bench-${crypto.randomUUID()}`) {
  const { url, counted, stop } = await startGateway(gcs.endpoint!);
  onTestFinished(stop);
  await makeBucket(url, bucket);
  await counted();
  return { url: `${url}/${bucket}`, counted };
}

describe.skipIf(gcs.endpoint === null)('the gateway in front of the emulator', () => {
  it('stores what the XML API puts, honours its preconditions, and counts', async () => {
    const { url, counted } = await gateway();
    const put = (body: string, headers = {}) => fetch(`${url}/a/b`, { method: 'PUT', body, headers });
    const created = await put('one', { 'x-goog-if-generation-match': '0' });
    expect(created.status).toBe(200);
    expect((await put('two', { 'x-goog-if-generation-match': '0' })).status).toBe(412);
    const generation = created.headers.get('x-goog-generation')!;
    expect((await put('two!', { 'x-goog-if-generation-match': generation })).status).toBe(200);
    expect(await (await fetch(`${url}/a/b`)).text()).toBe('two!');
    expect(await (await fetch(`${url}?list-type=2&prefix=a/`)).text()).toContain('<Key>a/b</Key>');
    expect((await fetch(`${url}/a/b`, { method: 'DELETE' })).status).toBeLessThan(300);
    expect((await fetch(`${url}/a/b`)).status).toBe(404);
    const counts = await counted();
    expect(counts).toMatchObject({ put: 3, get: 2, list: 1, delete: 1, head: 0 });
    expect(counts.arrivals).toHaveLength(7);
    expect(await counted()).toMatchObject({ put: 0, get: 0, arrivals: [] });
  });

  it('holds back what comes to its slow port: the first byte by operation, and a LIST by its items', async () => {
    const bucket = `bench-${crypto.randomUUID()}`;
    const { slow, url, draw, stop } = await startGateway(gcs.endpoint!);
    onTestFinished(stop);
    await makeBucket(url, bucket);
    const took = async (path: string, method = 'GET') => {
      const began = performance.now();
      const answer = await fetch(`${slow}/${bucket}${path}`, { method, body: method === 'PUT' ? 'x' : null });
      await answer.text();
      expect(answer.status).toBeLessThan(300);
      return performance.now() - began;
    };
    const ms = (value: number) => ({ p50: value, p99: value });
    await draw({
      profile: {
        ...LATENCY_PROFILES.none,
        first_byte_ms: { get: ms(60), head: ms(20), put: ms(90), delete: ms(40), list: ms(30) },
        list_item_ms: 50,
      },
      seed: 1,
    });
    // Timers may be early by a ms.
    expect(await took('/a', 'PUT')).toBeGreaterThan(88);
    expect(await took('/a')).toBeGreaterThan(58);
    expect(await took('/a', 'HEAD')).toBeGreaterThan(18);
    expect(await took('?list-type=2')).toBeGreaterThan(78);
    await draw({ profile: LATENCY_PROFILES.none, seed: 1 });
    expect(await took('/a')).toBeGreaterThan(0);
  });

  it('puts parts of an upload together in their order', async () => {
    const { url } = await gateway();
    const begun = await (await fetch(`${url}/big?uploads`, { method: 'POST' })).text();
    const id = /<UploadId>(.*)<\/UploadId>/.exec(begun)![1]!;
    for (const [number, body] of [
      [2, 'world'],
      [1, 'hello '],
    ]) {
      const part = await fetch(`${url}/big?partNumber=${number}&uploadId=${id}`, {
        method: 'PUT',
        body: String(body),
      });
      expect(part.status).toBe(200);
    }
    expect((await fetch(`${url}/big?uploadId=${id}`, { method: 'POST', body: '<xml/>' })).status).toBe(200);
    expect(await (await fetch(`${url}/big`)).text()).toBe('hello world');
  });
});

describe('what holds requests back', () => {
  it('draws by the law of the latency store', async () => {
    const profile = { ...LATENCY_PROFILES.lan, name: 'test' };
    const clock = new SkippingClock({ computing: false });
    const first = async (seed: number) => {
      const began = clock.monotonic();
      await holding(profile, seed, clock)('get', async () => ({ items: 0 }));
      return clock.monotonic() - began;
    };
    const store = latency(new MemoryStore({ clock }), { profile, clock, random: seededRandom(3) });
    const began = clock.monotonic();
    await store.get('x');
    const expected = clock.monotonic() - began;
    expect(await first(3)).toBeCloseTo(expected, 6);
    expect(await first(3)).toBeCloseTo(expected, 6);
    expect(await first(4)).not.toBeCloseTo(expected, 6);
  });

  it('does its effect midway, and passes errors on', async () => {
    const clock = new SkippingClock({ computing: false });
    const hold = holding(EVEN, 1, clock);
    const began = clock.monotonic();
    let effectAt = 0;
    await hold('put', async () => {
      effectAt = clock.monotonic() - began;
      return { items: 0 };
    });
    expect([effectAt, clock.monotonic() - began]).toEqual([EVEN_MS / 2, EVEN_MS]);
    await expect(hold('get', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  });
});

describe('rounds from arrivals', () => {
  it('are as many as can have waited for each other', () => {
    expect(roundsOf([], 50)).toBe(0);
    expect(roundsOf([0, 1, 2], 50)).toBe(1);
    expect(roundsOf([0, 1, 51, 52, 103], 50)).toBe(3);
    expect(roundsOf([0, 40, 51], 50)).toBe(2);
    // A client that needs some time for each of its waves, more for one part of it, sends no more of them.
    const waves = Array.from({ length: 17 }, (_, wave) => [wave * 260, wave * 273]).flat();
    expect(
      roundsOf(
        waves.sort((a, b) => a - b),
        250,
      ),
    ).toBe(17);
  });
});

/** Rivals from outside give exactly the rows of the data set where they are installed: bench/external/python.ts. */
describe('rivals from outside', () => {
  const ORG = 'org';
  const data = datasetOf(ORG, { totalRuns: 1_300, orgRuns: 90, tables: 5, tailEntries: 20 }, 5);

  it.skipIf(gcs.endpoint === null)(
    'in Python give exactly the rows, and tell when they do not',
    async ({ skip }) => {
      const worker = await PythonWorker.start().catch((error: unknown) => skip(errorMessage(error)));
      onTestFinished(() => worker.stop());
      const folder = await mkdtemp(join(tmpdir(), 'runfold-external-'));
      onTestFinished(() => rm(folder, { recursive: true }));
      await writeRows(folder, data);
      const { url, stop } = await startGateway(gcs.endpoint!);
      onTestFinished(stop);
      const bucket = `bench-${crypto.randomUUID()}`;
      await makeBucket(url, bucket);
      const entrants = PYTHON_RIVALS.map((rival) =>
        pythonEntrant(rival, worker, { direct: url, slow: url, bucket }, { folder, org: ORG }),
      );
      for (const entrant of entrants) {
        await entrant.prepare();
        expect([entrant.name, await entrant.check()]).toEqual([entrant.name, null]);
        expect(await entrant.refresh()).toMatchObject({ rows: data.current.length });
      }
      await writeRows(folder, { ...data, current: data.current.slice(1) });
      for (const entrant of entrants) expect(await entrant.check()).toContain('rows instead of');
    },
  );

  it('in PostgreSQL give exactly the rows', async ({ skip }) => {
    const direct = { slow: async (_: string, upstream: string) => Number(upstream.split(':').at(-1)) };
    const entrants = await postgresEntrants(direct, data, () => othersOf(data)).catch((error: unknown) =>
      skip(errorMessage(error)),
    );
    onTestFinished(() => entrants[0].close!());
    for (const entrant of entrants) {
      await entrant.prepare();
      expect(await entrant.check()).toBeNull();
      expect(await entrant.refresh()).toMatchObject({ rows: data.current.length });
    }
  });
});
