import { describe, expect, it } from 'vitest';
import { archiveOrg } from '../../compactor/archive.ts';
import { createClient } from '../../src/client/client.ts';
import type { MemoryStore } from '../../src/store/memory.ts';
import { ORG } from '../support/runs.ts';
import { RUNS, type Served, serve, tokenFor } from './support.ts';

const TRACE = `${RUNS}/run-1/trace`;
const LOG = 'первая\nsecond\nthird 💥\n';
/** Everything may be archived at once. */
const SOON = { world: { limits: { traceSettleMs: 0 } } };

async function started(served: Served): Promise<void> {
  await served.world.session.recorder.create(ORG, { run_id: 'run-1' });
  await served.world.session.recorder.apply(ORG, 'run-1', { type: 'started', attempt: 1 });
}

async function write(served: Served, log = LOG, size = 5): Promise<void> {
  const bytes = Buffer.from(log);
  for (let offset = 0; offset < bytes.length; offset += size) {
    const { status } = await post(
      served,
      `attempt=1&offset=${offset}`,
      bytes.subarray(offset, offset + size),
    );
    expect(status).toBe(200);
  }
}

const post = async (served: Served, query: string, body: Uint8Array | string, token?: string) => {
  const response = await served.service.fetch(
    new Request(`http://runfold.test${TRACE}?${query}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token ?? (await tokenFor())}` },
      body: typeof body === 'string' ? body : new Uint8Array(body),
    }),
  );
  return { status: response.status, body: (await response.json()) as { code?: string } };
};

async function archive(served: Served) {
  await served.world.session.recorder.apply(ORG, 'run-1', { type: 'succeeded', attempt: 1 });
  return archiveOrg(served.world.compactor, ORG, served.world.session.recorder);
}

const ranged = (served: Served, range: string) => served.call('GET', TRACE, { headers: { range } });

describe('adding to a log', () => {
  it('is durable, and a repeat says so', async () => {
    const served = await serve();
    await started(served);
    expect(await post(served, 'attempt=1&offset=3', 'abc')).toEqual({
      status: 200,
      body: { next: 6, repeated: false },
    });
    expect(await post(served, 'attempt=1&offset=3', 'abc')).toEqual({
      status: 200,
      body: { next: 6, repeated: true },
    });
    const { body } = await served.json('GET', `${RUNS}/run-1`);
    expect(body.run_id).toBe('run-1');
    const runs = await served.json('GET', RUNS, { headers: { 'cache-control': 'max-age=0' } });
    expect(runs.body.runs[0].trace).toMatchObject({ status: 'live', attempt: 1 });
  });

  it('a worker does so for its own run and attempt only', async () => {
    const served = await serve();
    await started(served);
    const worker = await tokenFor({ role: 'worker', run: 'run-1', attempt: 1 });
    expect((await post(served, 'attempt=1&offset=0', 'a', worker)).status).toBe(200);
    expect((await post(served, 'attempt=2&offset=0', 'a', worker)).body.code).toBe('FORBIDDEN');
    const other = await tokenFor({ role: 'worker', run: 'run-2', attempt: 1 });
    expect((await post(served, 'attempt=1&offset=0', 'a', other)).body.code).toBe('RUN_NOT_FOUND');
    expect((await post(served, 'attempt=1&offset=0', 'a', await tokenFor({ role: 'reader' }))).status).toBe(
      403,
    );
  });

  it.each([
    ['attempt=1', 'a', 400, 'INVALID_INPUT'],
    ['attempt=0&offset=0', 'a', 400, 'INVALID_INPUT'],
    ['attempt=1&offset=-1', 'a', 400, 'INVALID_INPUT'],
    ['attempt=1&offset=0', '', 400, 'INVALID_INPUT'],
    ['attempt=1&offset=0.5', 'a', 400, 'INVALID_INPUT'],
    ['attempt=1&offset=', 'a', 400, 'INVALID_INPUT'],
    ['attempt=1&offset=1e2', 'a', 400, 'INVALID_INPUT'],
    ['attempt=0x1&offset=0', 'a', 400, 'INVALID_INPUT'],
    ['attempt=2&offset=0', 'a', 409, 'ATTEMPT_STALE'],
    ['attempt=1&offset=0', 'x'.repeat(101), 413, 'BODY_TOO_LARGE'],
    ['attempt=1&offset=995', 'abcdef', 413, 'LIMIT_EXCEEDED'],
  ])('%s with %j is refused', async (query, body, status, code) => {
    const served = await serve({}, { world: { limits: { traceChunkBytesMax: 100, traceBytesMax: 1_000 } } });
    await started(served);
    expect(await post(served, query, body)).toMatchObject({ status, body: { code } });
    const listed = await (served.world.store as MemoryStore).list({ prefix: 'traces/' });
    expect(listed.items).toEqual([]);
  });

  it('is over once the log was archived, and there is none of a run that is not', async () => {
    const served = await serve({}, SOON);
    await started(served);
    await write(served);
    await archive(served);
    // Another process: this one trusts for a minute that the log is open.
    const other = await serve({}, { store: served.world.store });
    expect((await post(other, 'attempt=1&offset=99', 'a')).body.code).toBe('TRACE_ARCHIVED');
    expect((await served.json('GET', `${RUNS}/nobody/trace`)).body.code).toBe('RUN_NOT_FOUND');
    await served.world.session.recorder.create(ORG, { run_id: 'quiet' });
    expect((await served.json('GET', `${RUNS}/quiet/trace`)).body.code).toBe('TRACE_NOT_FOUND');
  });
});

describe('the end that was declared', () => {
  it('stands: what lies past it is refused, repeats and what is missing before it are not', async () => {
    const served = await serve();
    await started(served);
    expect((await post(served, 'attempt=1&offset=20', 'early')).status).toBe(200);
    expect((await post(served, 'attempt=1&offset=4&end=true', 'last')).status).toBe(200);
    for (const query of ['offset=8', 'offset=6', 'offset=8&end=true', 'offset=500']) {
      const { status, body } = await post(served, `attempt=1&${query}`, 'more');
      expect([query, status, body.code]).toEqual([query, 409, 'TRACE_CLOSED']);
    }
    expect((await post(served, 'attempt=1&offset=20', 'early')).body).toMatchObject({ repeated: true });
    expect((await post(served, 'attempt=1&offset=4&end=true', 'last')).body).toMatchObject({
      repeated: true,
    });
    expect((await post(served, 'attempt=1&offset=0', 'abcd')).status).toBe(200);
  });
});

describe('reading a log', () => {
  it.each([100, 2_000_000, 10_000_000, 20_000_000, 134_217_727])(
    'tells of the gap before a chunk at %i, in the whole, a range, and where there is nothing',
    async (far) => {
      const served = await serve();
      await started(served);
      await post(served, 'attempt=1&offset=0', 'hello');
      await post(served, `attempt=1&offset=${far}`, 'x');
      const gap = `5-${far - 5}`;
      for (const range of [{}, { range: 'bytes=0-50' }, { range: 'bytes=2-' }, { range: 'bytes=-3' }]) {
        const answer = await served.call('GET', TRACE, { headers: range });
        expect([range, answer.headers.get('x-runfold-trace-gap')]).toEqual([range, gap]);
        await answer.text();
      }
      const before = await ranged(served, 'bytes=0-2');
      expect([before.status, before.headers.get('x-runfold-trace-gap')]).toEqual([206, null]);
      const none = await ranged(served, 'bytes=5-9');
      expect([none.status, none.headers.get('content-range')]).toEqual([416, 'bytes */5']);
      expect(await none.json()).toMatchObject({ ended: false, gap: { offset: 5, bytes: far - 5 } });
      const inside = await ranged(served, 'bytes=50-60');
      expect([inside.status, inside.headers.get('content-range')]).toEqual([416, 'bytes */5']);
    },
  );

  it('tells of a gap that the first slice does not reach', async () => {
    const served = await serve();
    await started(served);
    const piece = Buffer.alloc(4 * 1024 * 1024, 'a\n');
    for (const offset of [0, piece.length]) await post(served, `attempt=1&offset=${offset}`, piece);
    await post(served, `attempt=1&offset=${2 * piece.length + 7}`, 'x');
    const whole = await served.call('GET', TRACE);
    expect(whole.headers.get('x-runfold-trace-gap')).toBe(`${2 * piece.length}-7`);
    expect((await whole.arrayBuffer()).byteLength).toBe(2 * piece.length);
  });

  it.each([99_999, 99_999_999])('past its declared end, from %i, it says so and ends', async (from) => {
    const served = await serve({}, SOON);
    await started(served);
    await post(served, 'attempt=1&offset=0&end=true', 'a log...');
    for (const status of ['live', 'archived']) {
      if (status === 'archived') await archive(served);
      const beyond = await ranged(served, `bytes=${from}-`);
      expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, 'bytes */8']);
      expect(await beyond.json()).toMatchObject({ ended: true, gap: null });
      const last = { headers: { 'last-event-id': `1-${from}` } };
      for (const follow of [
        served.call('GET', `${TRACE}/follow?from=${from}`),
        served.call('GET', `${TRACE}/follow`, last),
      ]) {
        const data = JSON.stringify({ bytes: 8, status, attempt: 1 });
        expect(await (await follow).text()).toBe(`event: end\nid: 1-8\ndata: ${data}\n\n`);
      }
    }
  });

  it.each(['live', 'archived'])('%s: the whole and ranges are the same bytes', async (status) => {
    const served = await serve({}, SOON);
    await started(served);
    await write(served);
    if (status === 'archived') expect(await archive(served)).toMatchObject({ archived: 1 });
    const bytes = Buffer.from(LOG);
    const whole = await served.call('GET', TRACE);
    expect([whole.status, await whole.text()]).toEqual([200, LOG]);
    expect(whole.headers.get('x-runfold-trace-status')).toBe(status);
    const total = status === 'live' ? '*' : bytes.length;
    for (const [range, from, to] of [
      ['bytes=3-9', 3, 10],
      ['bytes=7-', 7, bytes.length],
      ['bytes=-4', bytes.length - 4, bytes.length],
      ['bytes=0-10000', 0, bytes.length],
    ] as const) {
      const part = await ranged(served, range);
      expect(part.status, range).toBe(206);
      expect(part.headers.get('content-range')).toBe(`bytes ${from}-${to - 1}/${total}`);
      expect(Buffer.from(await part.arrayBuffer()), range).toEqual(bytes.subarray(from, to));
    }
    const beyond = await ranged(served, `bytes=${bytes.length}-`);
    expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, `bytes */${bytes.length}`]);
    // Not understood, so passed over.
    expect((await ranged(served, 'bytes=5-2')).status).toBe(200);
  });

  it('whole logs have their places; ranges need none', async () => {
    const served = await serve({ traceReadsMax: 1 });
    await started(served);
    // More than is read ahead of a caller that is slow.
    const body = new Uint8Array(4 * 1024 * 1024).fill(0x61);
    for (const at of [0, 1, 2])
      await served.world.session.traces.append(ORG, 'run-1', { attempt: 1, offset: at * body.length, body });
    const first = await served.call('GET', TRACE);
    expect((await served.json('GET', TRACE)).body.code).toBe('RATE_LIMITED');
    expect((await ranged(served, 'bytes=0-3')).status).toBe(206);
    expect((await first.arrayBuffer()).byteLength).toBe(3 * body.length);
    const second = await served.call('GET', TRACE);
    expect(second.status).toBe(200);
    await second.body!.cancel();
    expect((await served.call('GET', TRACE)).status).toBe(200);
  });

  it('an operator may delete the run, and with it the log', async () => {
    const served = await serve({}, SOON);
    await started(served);
    await write(served);
    await archive(served);
    expect((await served.json('DELETE', `${RUNS}/run-1`)).status).toBe(200);
    expect((await served.world.store.list({ prefix: 'traces/orgs/acme/archives/' })).items).toEqual([]);
  });
});

describe('following a log', () => {
  it('shows what comes, goes on when it was archived meanwhile, and cuts no character', async () => {
    const served = await serve({ watchPauseMs: 5 }, SOON);
    await started(served);
    const client = clientOf(served);
    const { trace } = client.org(ORG).run('run-1');
    const bytes = Buffer.from(LOG);
    await trace.append({ attempt: 1, offset: 0, body: bytes.subarray(0, 7) });
    let text = '';
    for await (const piece of trace.follow()) {
      expect(piece.offset).toBe(Buffer.byteLength(text));
      text += piece.text;
      if (piece.offset === 0) {
        await trace.append({ attempt: 1, offset: 7, body: bytes.subarray(7) });
        await archive(served);
      }
    }
    expect(text).toBe(LOG);
  });

  it('ends with a log that said so, and a reconnect goes on where it was', async () => {
    const served = await serve({ watchPauseMs: 5, streamMs: 30 });
    await started(served);
    const { trace } = clientOf(served).org(ORG).run('run-1');
    await trace.append({ attempt: 1, offset: 0, body: 'one\n' });
    setTimeout(() => void trace.append({ attempt: 1, offset: 4, body: 'two\n', end: true }), 100);
    let text = '';
    for await (const piece of trace.follow()) text += piece.text;
    expect(text).toBe('one\ntwo\n');
    expect(await trace.read({ from: 4 })).toMatchObject({ offset: 4, status: 'live', ended: true });
    expect(await trace.read({ from: 8 })).toMatchObject({ bytes: new Uint8Array(), ended: true });
  });

  it('a browser that reconnects goes on behind the last event, of the same attempt', async () => {
    const served = await serve({ watchPauseMs: 5 });
    await started(served);
    await write(served, 'one\n\ufefftwo\n', 4);
    const { recorder, traces } = served.world.session;
    await recorder.apply(ORG, 'run-1', { type: 'failed', attempt: 1, error: { code: null, message: 'x' } });
    await recorder.apply(ORG, 'run-1', { type: 'retry', attempt: 1 });
    await recorder.apply(ORG, 'run-1', { type: 'started', attempt: 2 });
    const body = Buffer.from('second attempt\n');
    await traces.append(ORG, 'run-1', { attempt: 2, offset: 0, body, end: true });
    const follow = async (query: string, id?: string) => {
      const headers = id === undefined ? {} : { 'last-event-id': id };
      const answer = await served.call('GET', `${TRACE}/follow${query}`, { headers });
      const reader = answer.body!.getReader();
      const first = Buffer.from((await reader.read()).value!).toString();
      await reader.cancel();
      return first;
    };
    expect(await follow('?from=0', '1-4')).toBe(
      'event: text\nid: 1-11\ndata: {"offset":4,"text":"\ufefftwo\\n"}\n\n',
    );
    expect(await follow('?from=7')).toContain('id: 2-15\ndata: {"offset":7');
    expect(await follow('?attempt=2', '1-4')).toContain('id: 2-15\ndata: {"offset":0');
  });

  it('tells a gap, and does not say that the log has ended', async () => {
    const served = await serve({ watchPauseMs: 5 });
    await started(served);
    await write(served, 'one\n', 4);
    expect((await post(served, 'attempt=1&offset=9', 'three\n')).status).toBe(200);
    const gap = { offset: 4, bytes: 5 };
    expect(await clientOf(served).org(ORG).run('run-1').trace.read()).toMatchObject({ ended: false, gap });
    expect(await clientOf(served).org(ORG).run('run-1').trace.read({ from: 4 })).toMatchObject({ gap });
    const answer = await served.call('GET', `${TRACE}/follow`);
    let told = '';
    for await (const bytes of answer.body as unknown as AsyncIterable<Uint8Array>) {
      told += Buffer.from(bytes).toString();
      if (told.includes('event: gap')) break;
    }
    expect(told).toContain(`event: gap\ndata: ${JSON.stringify(gap)}\n\n`);
    expect(told).not.toContain('event: end');
  });

  it('has its places', async () => {
    const served = await serve({ followersMax: 1, watchPauseMs: 5 });
    await started(served);
    await write(served);
    const first = await served.call('GET', `${TRACE}/follow`);
    expect(first.status).toBe(200);
    expect((await served.json('GET', `${TRACE}/follow`)).body.code).toBe('RATE_LIMITED');
    await first.body!.cancel();
    const next = await served.call('GET', `${TRACE}/follow`);
    expect(next.status).toBe(200);
    await next.body!.cancel();
  });
});

function clientOf(served: Served) {
  return createClient({
    url: 'http://runfold.test',
    token: () => tokenFor(),
    fetch: (input, init) => served.service.fetch(new Request(input as string, init)),
  });
}
