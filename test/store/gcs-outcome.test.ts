import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/core/errors.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';
import { type FakeGcs, fakeGcs, json, mediaHeaders, refuse } from '../support/fake-gcs.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

let server: FakeGcs;
let store: ObjectStore;

beforeAll(async () => {
  server = await fakeGcs();
  store = await openGcsStore({ bucket: 'bk', prefix: 'base', endpoint: server.endpoint });
});
afterAll(async () => {
  await store.close();
  await server.close();
});
beforeEach(() => {
  server.seen.length = 0;
});

describe('outcomes', () => {
  const put = () => store.put('k', bytes('x'), { ifGeneration: ABSENT });
  const remove = () => store.delete('k', { ifGeneration: '42' });

  it('412 is a conflict', async () => {
    server.answer((response) =>
      refuse(response, 412, 'At least one of the pre-conditions you specified did not hold.'),
    );
    expect(await put()).toEqual({ outcome: 'conflict' });
    expect(await remove()).toEqual({ outcome: 'conflict' });
    expect(server.seen).toHaveLength(2);
  });

  it('304 is unchanged', async () => {
    server.answer((response) => response.writeHead(304).end());
    const got = await store.get('k', { ifGenerationNot: '42' });
    expect(got).toEqual({ outcome: 'unchanged', serverTime: expect.any(Number) });
  });

  it('404 of the object is absent, in JSON as in plain text', async () => {
    server.answer((response) => refuse(response, 404, 'No such object: bk/base/k', { reason: 'notFound' }));
    expect(await remove()).toEqual({ outcome: 'absent' });
    expect(await store.head('k')).toBeNull();
    server.answer((response) => response.writeHead(404).end('No such object: bk/base/k'));
    expect(await store.get('k')).toMatchObject({ outcome: 'absent' });
  });

  it.each(['json', 'text'])('404 of the bucket is an error, never absence (%s)', async (form) => {
    const message = 'The specified bucket does not exist.';
    server.answer((response) => {
      if (form === 'json') refuse(response, 404, message, { reason: 'notFound' });
      else response.writeHead(404).end(message);
    });
    const missing = { code: 'STORE_FAILED', retryable: false, message: expect.stringContaining(message) };
    await expect(store.get('k')).rejects.toMatchObject(missing);
    await expect(store.head('k')).rejects.toMatchObject(missing);
    await expect(put()).rejects.toMatchObject({ ...missing, hint: expect.stringContaining('bucket') });
    await expect(remove()).rejects.toMatchObject(missing);
    await expect(store.list({ prefix: '' })).rejects.toMatchObject(missing);
    expect(server.seen).toHaveLength(5);
  });

  it('a key that quotes the message of a missing bucket is only absent', async () => {
    const message = 'No such object: bk/base/The specified bucket does not exist.';
    server.answer((response) => refuse(response, 404, message));
    expect(await store.head('The specified bucket does not exist.')).toBeNull();
  });

  it.each([
    ['seconds', '7', 7_000],
    ['a date', 'Tue, 28 Apr 2026 09:47:30 GMT', 3_000],
    ['nothing', undefined, undefined],
  ])('429 is throttled, once, with %s as Retry-After', async (_, retryAfter, retryAfterMs) => {
    const headers = {
      date: 'Tue, 28 Apr 2026 09:47:27 GMT',
      ...(retryAfter && { 'retry-after': retryAfter }),
    };
    server.answer((response) => refuse(response, 429, 'slow down', { reason: 'rateLimitExceeded', headers }));
    const throttled = { code: 'STORE_THROTTLED', retryable: true, retryAfterMs };
    for (const call of [put, remove, () => store.get('k'), () => store.list({ prefix: '' })]) {
      server.seen.length = 0;
      await expect(call()).rejects.toMatchObject(throttled);
      expect(server.seen).toHaveLength(1);
    }
  });

  it('403 for a rate limit is throttled as well', async () => {
    server.answer((response) => refuse(response, 403, 'slow down', { reason: 'userRateLimitExceeded' }));
    await expect(put()).rejects.toMatchObject({ code: 'STORE_THROTTLED', retryable: true });
  });

  it.each([401, 403])('%i is denied, with a hint, and not retryable', async (status) => {
    server.answer((response) => refuse(response, status, 'no', { reason: 'forbidden' }));
    const denied = { code: 'STORE_DENIED', retryable: false, hint: expect.stringContaining('gcloud auth') };
    for (const call of [put, remove, () => store.get('k')])
      await expect(call()).rejects.toMatchObject(denied);
  });

  it('other 4xx failed, and are retryable only when the bytes were damaged on the way', async () => {
    server.answer((response) => refuse(response, 400, 'Metadata too large.'));
    await expect(put()).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
    server.answer((response) =>
      refuse(response, 400, `Provided CRC32C "AAAAAA==" doesn't match calculated CRC32C`),
    );
    await expect(put()).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: true });
  });

  it.each([408, 500, 502, 503, 504])('%i leaves a write in doubt and fails a read', async (status) => {
    server.answer((response) => refuse(response, status, 'oops', { headers: { 'retry-after': '2' } }));
    const cause = { code: 'STORE_UNAVAILABLE', retryable: true, retryAfterMs: 2_000 };
    for (const call of [put, remove]) {
      server.seen.length = 0;
      const outcome = await call();
      expect(outcome).toMatchObject({ outcome: 'unknown', cause });
      expect(server.seen).toHaveLength(1);
    }
    await expect(store.get('k')).rejects.toMatchObject(cause);
    await expect(store.list({ prefix: '' })).rejects.toMatchObject(cause);
  });

  it('a 200 that cannot be read leaves a put in doubt', async () => {
    server.answer((response) => response.end('<html>'));
    expect(await put()).toMatchObject({ outcome: 'unknown' });
    await expect(store.list({ prefix: '' })).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('a download without its headers is an error, not an object', async () => {
    server.answer((response) => response.end('hello'));
    await expect(store.get('k')).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
  });
});

describe('broken connections', () => {
  const put = (signal?: AbortSignal) => store.put('k', bytes('x'), { ifGeneration: ABSENT, signal });
  const remove = (signal?: AbortSignal) => store.delete('k', { ifGeneration: '42', signal });

  it('a reset after the request leaves a write in doubt and fails a read, without a second try', async () => {
    server.answer((response) => response.socket?.resetAndDestroy());
    for (const call of [put, remove]) {
      server.seen.length = 0;
      expect(await call()).toMatchObject({ outcome: 'unknown', cause: { code: 'ECONNRESET' } });
      expect(server.seen).toHaveLength(1);
    }
    server.seen.length = 0;
    await expect(store.get('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
    expect(server.seen).toHaveLength(1);
  });

  it('an answer cut short is no answer', async () => {
    server.answer((response) => {
      response.writeHead(200, { ...mediaHeaders(bytes('0123456789')), 'content-length': '10' });
      response.write('01234', () => response.destroy());
    });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
    expect(await put()).toMatchObject({ outcome: 'unknown' });
  });

  it('nobody listening: nothing was sent, so a write definitely had no effect', async () => {
    const gone = await fakeGcs();
    await gone.close();
    const unreachable = await openGcsStore({ bucket: 'bk', endpoint: gone.endpoint });
    const refused = { code: 'STORE_UNAVAILABLE', retryable: true, cause: { code: 'ECONNREFUSED' } };
    await expect(unreachable.put('k', bytes('x'))).rejects.toMatchObject(refused);
    await expect(unreachable.delete('k', { ifGeneration: '1' })).rejects.toMatchObject(refused);
    await expect(unreachable.get('k')).rejects.toMatchObject(refused);
    await unreachable.close();
  });

  it('no such host: the same', async () => {
    const nowhere = await openGcsStore({ bucket: 'bk', endpoint: 'http://nowhere.invalid' });
    await expect(nowhere.put('k', bytes('x'))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryable: true,
    });
    await nowhere.close();
  });

  it('aborted in flight: a write is in doubt, a read rejects with the reason, the connection is gone', async () => {
    const reason = new StoreError('DEADLINE_EXCEEDED', 'too slow', { retryable: true });
    for (const call of [put, remove]) {
      const { aborter, closed } = hang();
      const outcome = await call(aborter(reason));
      expect(outcome).toEqual({ outcome: 'unknown', cause: reason });
      await closed;
    }
    const { aborter, closed } = hang();
    await expect(store.get('k', { signal: aborter(reason) })).rejects.toBe(reason);
    await closed;
    const plain = hang();
    await expect(store.list({ prefix: '', signal: plain.aborter() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });

  it('aborted in the middle of the answer', async () => {
    const controller = new AbortController();
    server.answer((response) => {
      response.writeHead(200, { ...mediaHeaders(bytes('0123456789')), 'content-length': '10' });
      response.write('01234', () => controller.abort());
    });
    await expect(store.get('k', { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('aborted before: rejects, and nothing is sent', async () => {
    const signal = AbortSignal.abort();
    await expect(put(signal)).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(remove(signal)).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(store.get('k', { signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(server.seen).toEqual([]);
  });

  it('one connection serves one call after another', async () => {
    const sockets = new Set<unknown>();
    server.answer((response) => {
      sockets.add(response.socket);
      json(response, {});
    });
    for (let i = 0; i < 5; i++) await store.list({ prefix: '' });
    expect(sockets.size).toBe(1);
  });

  /** The server never answers; the signal aborts once the request has arrived. */
  function hang() {
    const controller = new AbortController();
    let reason: unknown;
    const closed = new Promise<void>((resolve) => {
      server.answer((response) => {
        response.on('close', resolve);
        controller.abort(reason);
      });
    });
    const aborter = (why?: unknown) => {
      reason = why;
      return controller.signal;
    };
    return { aborter, closed };
  }
});
