import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { CorruptError } from '../../src/core/errors.ts';
import { openSession } from '../../src/session.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { intercept, recording, type StoreCall } from '../support/intercept.ts';
import { ORG } from '../support/runs.ts';
import { fakeWorld } from '../support/world.ts';
import {
  archive,
  chunkKeys,
  ended,
  MINUTE,
  readAll,
  SETTLED,
  started,
  type TraceWorld,
  text,
  write,
} from './support.ts';

const chunk = (offset: number, body: string) => ({ attempt: 1, offset, body: Buffer.from(body) });

/** The traces of another process. */
const tracesOn = (world: TraceWorld, store: ObjectStore) =>
  openSession(store, { clock: world.clock, limits: world.compactor.limits }).traces;

describe('a live log', () => {
  it('costs one put per chunk, and a look at the run a minute', async () => {
    const world = await fakeWorld();
    await started(world, 'run-1');
    const calls: StoreCall[] = [];
    const traces = tracesOn(world, recording(world.memory, calls));
    const append = async (offset: number) => {
      calls.length = 0;
      await traces.append(ORG, 'run-1', chunk(offset, 'line\n'));
      return calls.map(({ operation }) => operation);
    };
    // The first marks the run: read, write, record (and the dirty marker beside it).
    expect((await append(0)).filter((operation) => operation !== 'put')).toEqual(['get']);
    expect(await append(5)).toEqual(['put']);
    await world.clock.advance(59_000);
    expect(await append(10)).toEqual(['put']);
    await world.clock.advance(2_000);
    expect(await append(15)).toEqual(['get', 'put']);
    expect(await append(20)).toEqual(['put']);
  });

  it('is marked before its first chunk: a crash between leaves a mark, never an unlisted chunk', async () => {
    const world = await fakeWorld();
    await started(world, 'run-1');
    const order: string[] = [];
    const store = intercept(world.memory, (call, go) => {
      if (call.operation === 'put')
        order.push(call.key.split('/')[0] === 'traces' ? 'chunk' : call.key.split('/')[1]!);
      return go();
    });
    await tracesOn(world, store).append(ORG, 'run-1', chunk(0, 'line\n'));
    expect(order.filter((one) => one !== 'dirty')).toEqual(['runs', 'orgs', 'chunk']);
  });

  it('stops at a gap, tells it, and goes on when it closes', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await traces.append(ORG, 'run-1', chunk(8, 'three\n'));
    const slice = await traces.read(ORG, 'run-1');
    expect([text(slice.body), slice.state.gap]).toEqual(['one\n', { offset: 4, bytes: 4 }]);
    expect(text((await traces.read(ORG, 'run-1', { from: 8 })).body)).toBe('three\n');
    await traces.append(ORG, 'run-1', chunk(4, 'two\n'));
    expect(await readAll(world, 'run-1')).toBe('one\ntwo\nthree\n');
  });

  it('reads up to a broken chunk, and then tells the remedy for logs', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await traces.append(ORG, 'run-1', chunk(4, 'two\n'));
    const broken = (await chunkKeys(world))[1]!;
    const hint = /`runfold trace verify`.*`partial`/;
    const store = intercept(world.memory, async (call, go) => {
      if (call.operation === 'get' && call.key === broken) throw new CorruptError(broken, 'it has rotted');
      return go();
    });
    const refused = tracesOn(world, store);
    expect(text((await refused.read(ORG, 'run-1')).body)).toBe('one\n');
    await expect(refused.read(ORG, 'run-1', { from: 4 })).rejects.toMatchObject({
      code: 'CORRUPT',
      hint: expect.stringMatching(hint),
    });
    await world.memory.put(broken, Buffer.from('rot\n'));
    let seen = '';
    const whole = async () => {
      for await (const { body } of traces.stream(ORG, 'run-1')) seen += text(body);
    };
    await expect(whole()).rejects.toMatchObject({ code: 'CORRUPT', hint: expect.stringMatching(hint) });
    expect(seen).toBe('one\n');
  });

  it('has not ended while acknowledged bytes lie behind a gap, however long the gap is', async () => {
    const world = await fakeWorld({ limits: { traceChunkBytesMax: 100 } });
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await traces.append(ORG, 'run-1', chunk(5_000, 'far\n'));
    await ended(world, 'run-1');
    await world.clock.advance(5 * MINUTE);
    for (const from of [0, 4])
      expect((await traces.read(ORG, 'run-1', { from, to: 100 })).state).toMatchObject({
        ended: false,
        gap: { offset: 4, bytes: 4_996 },
      });
    expect((await traces.read(ORG, 'run-1', { from: 5_000 })).state).toMatchObject({
      ended: true,
      gap: null,
    });
  });

  it('of an earlier attempt ends, though the run goes on', async () => {
    const world = await fakeWorld();
    const { traces, recorder } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await recorder.apply(ORG, 'run-1', { type: 'failed', attempt: 1, error: { code: null, message: 'x' } });
    await recorder.apply(ORG, 'run-1', { type: 'retry', attempt: 1 });
    await recorder.apply(ORG, 'run-1', { type: 'started', attempt: 2 });
    expect((await traces.read(ORG, 'run-1', { attempt: 1 })).state.ended).toBe(false);
    await world.clock.advance(5 * MINUTE);
    const slices: string[] = [];
    for await (const { body } of traces.follow(ORG, 'run-1', { attempt: 1 })) slices.push(text(body));
    expect(slices.join('')).toBe('one\n');
  });

  it('reads a range from chunks that begin before it', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await write(world, 'run-1', '0123456789abcdefghij', { size: 7 });
    for (const [from, to] of [
      [0, 3],
      [5, 9],
      [6, 20],
      [13, 15],
      [19, 30],
      [20, 25],
    ] as const) {
      const { body } = await traces.read(ORG, 'run-1', { from, to });
      expect(text(body)).toBe('0123456789abcdefghij'.slice(from, to));
    }
  });

  it('output is taken for a while after the end, then refused', async () => {
    const world = await fakeWorld();
    const { traces } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await ended(world, 'run-1');
    await world.clock.advance(2 * MINUTE);
    await traces.append(ORG, 'run-1', chunk(4, 'two\n'));
    await world.clock.advance(2 * MINUTE);
    await expect(traces.append(ORG, 'run-1', chunk(8, 'three\n'))).rejects.toMatchObject({
      code: 'TRACE_CLOSED',
    });
    expect(await chunkKeys(world)).toHaveLength(2);
  });

  it('a chunk that took too long is not acknowledged before the run was looked at again', async () => {
    const world = await fakeWorld();
    await started(world, 'run-1');
    await write(world, 'run-1', 'one\n');
    // The process is stopped in the middle of a put, while the run ends and is archived.
    let stopped = false;
    const store = intercept(world.memory, async (call, go) => {
      if (call.operation === 'put' && call.key.includes('/chunks/') && !stopped) {
        stopped = true;
        await ended(world, 'run-1');
        await world.clock.advance(SETTLED);
        expect(await archive(world)).toMatchObject({ archived: 1 });
      }
      return go();
    });
    const append = tracesOn(world, store).append(ORG, 'run-1', chunk(4, 'two\n'));
    await expect(append).rejects.toMatchObject({ code: 'TRACE_ARCHIVED' });
    expect(await readAll(world, 'run-1')).toBe('one\n');
  });

  it('takes up no more than a bound, whatever a worker sends, and costs no request until an eighth of it', async () => {
    const limits = { traceStoredBytesMax: 800, traceChunksMax: 1_000 };
    const world = await fakeWorld({ limits });
    await started(world, 'run-1');
    await write(world, 'run-1', 'one\n');
    const calls: StoreCall[] = [];
    const traces = tracesOn(world, recording(world.memory, calls));
    const lists = () => calls.filter(({ operation }) => operation === 'list').length;
    // Ten bytes that contradict each other, always at the same offset.
    const contradict = (i: number) => traces.append(ORG, 'run-1', chunk(4, String(i).padStart(10, '0')));
    for (let i = 0; i < 10; i++) await contradict(i);
    expect(lists()).toBe(0);
    let i = 10;
    const refused = await (async () => {
      for (; i < 200; i++) {
        await world.clock.advance(1_000);
        await contradict(i);
      }
    })().catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: 'LIMIT_EXCEEDED',
      hint: expect.stringContaining('what was acknowledged stays'),
      details: { limit_bytes: 800, limit_chunks: 1_000 },
    });
    expect(i).toBe(79);
    expect(lists()).toBeLessThanOrEqual(9);
    // A repeat is answered as ever; what is new costs one look at whether it is there.
    expect(await contradict(3)).toEqual({ next: 14, repeated: true });
    calls.length = 0;
    for (const _ of [1, 2]) await expect(contradict(500)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(calls.map(({ operation }) => operation)).toEqual(['head', 'head']);
    // Another process finds out within an eighth.
    const other = tracesOn(world, world.memory);
    let more = 0;
    for (; more < 200; more++) {
      const appended = other.append(ORG, 'run-1', chunk(4, `x${more}`.padStart(10, '0')));
      if (
        !(await appended.then(
          () => true,
          () => false,
        ))
      )
        break;
    }
    expect(more).toBeLessThanOrEqual(10);
    await ended(world, 'run-1');
    await world.clock.advance(SETTLED);
    expect(await archive(world)).toMatchObject({ archived: 1 });
  });

  it('has no more chunks than a bound; repeats are none', async () => {
    const world = await fakeWorld({ limits: { traceChunksMax: 8 } });
    const { traces } = world.session;
    await started(world, 'run-1');
    for (let n = 0; n < 40; n++) await traces.append(ORG, 'run-1', chunk(n % 8, 'x'));
    await expect(traces.append(ORG, 'run-1', chunk(8, 'x'))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    expect(await chunkKeys(world)).toHaveLength(8);
  });

  it('is gone for a writer whose run was deleted, once it looks', async () => {
    const world = await fakeWorld();
    const { traces, recorder } = world.session;
    await started(world, 'run-1');
    await traces.append(ORG, 'run-1', chunk(0, 'one\n'));
    await ended(world, 'run-1');
    await recorder.apply(ORG, 'run-1', { type: 'delete' });
    await world.clock.advance(2 * MINUTE);
    await expect(traces.append(ORG, 'run-1', chunk(4, 'two\n'))).rejects.toMatchObject({
      code: 'RUN_NOT_FOUND',
    });
  });
});

describe('docs/RELIABILITY.md', () => {
  it('names a test for every fault', async () => {
    const doc = await readFile(new URL('../../docs/RELIABILITY.md', import.meta.url), 'utf8');
    const section = /## Traces\n([\s\S]*?)\n## /.exec(doc)![1]!;
    const named = [...section.matchAll(/^\|.*\| ([^|]+) \|$/gm)].map((match) => match[1]!.trim()).slice(1);
    const here = new URL('./', import.meta.url);
    const files = (await readdir(here)).filter((name) => name.endsWith('.test.ts'));
    const tests = await Promise.all(files.map((name) => readFile(new URL(name, here), 'utf8')));
    const all = tests.join('\n');
    expect(named.length).toBeGreaterThan(15);
    // The first three are told apart by what goes wrong: `the call %s`.
    expect(named.filter((name) => !all.includes(name.replace(/^the call (is|takes)/, '$1')))).toEqual([]);
  });
});
