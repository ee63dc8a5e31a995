import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { crc32c, crc32cToBase64 } from '../../src/core/crc32c.ts';
import { openGcsStore } from '../../src/store/gcs.ts';
import { GcsHttp } from '../../src/store/gcs-http.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';
import {
  type FakeGcs,
  fakeGcs,
  json,
  mediaHeaders,
  resource,
  type SeenRequest,
} from '../support/fake-gcs.ts';

const FIELDS = 'name,generation,size,crc32c,timeCreated,metadata';
const GENERATION = '1777369647609324';
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

/** Exactly one request, and no credentials in it. */
function theRequest() {
  expect(server.seen).toHaveLength(1);
  const request = server.seen[0]!;
  expect(request.headers).not.toHaveProperty('authorization');
  return request;
}

/** The two parts of a `multipart/related` body, checked by the boundary that the header names. */
function parts(request: SeenRequest) {
  const boundary = /^multipart\/related; boundary=(\S+)$/.exec(request.headers['content-type'] ?? '')?.[1];
  const text = request.body.toString('latin1');
  const [before, resource, media, after] = text.split(`--${boundary}`);
  expect([before, after]).toEqual(['', '--\r\n']);
  const cut = (part: string) => part.slice(part.indexOf('\r\n\r\n') + 4, -2);
  return {
    resource: JSON.parse(Buffer.from(cut(resource!), 'latin1').toString()),
    media: Buffer.from(cut(media!), 'latin1'),
    mediaHead: media!,
  };
}

describe('what put sends', () => {
  it('creates with generation 0, checksum, metadata and cache control in one upload', async () => {
    const body = bytes('{"a":1}');
    server.answer((response) =>
      json(response, resource('base/a/ü%41.json', body, { metadata: { rf: 'x' } })),
    );
    const put = await store.put('a/ü%41.json', body, {
      ifGeneration: ABSENT,
      metadata: { rf: 'x' },
      contentType: 'application/json',
      cacheControl: 'no-store',
    });
    expect(put).toEqual({
      outcome: 'written',
      meta: {
        key: 'a/ü%41.json',
        generation: GENERATION,
        sizeBytes: 7,
        crc32c: crc32c(body),
        createdAt: Date.parse('2026-04-28T09:47:27.612Z'),
        metadata: { rf: 'x' },
      },
    });
    const request = theRequest();
    expect([request.method, request.path]).toEqual(['POST', '/upload/storage/v1/b/bk/o']);
    expect(request.query).toEqual({ uploadType: 'multipart', ifGenerationMatch: '0', fields: FIELDS });
    expect(request.headers['content-length']).toBe(String(request.body.length));
    const { resource: sent, media, mediaHead } = parts(request);
    expect(sent).toEqual({
      name: 'base/a/ü%41.json',
      contentType: 'application/json',
      cacheControl: 'no-store',
      metadata: { rf: 'x' },
      crc32c: crc32cToBase64(crc32c(body)),
    });
    expect(media).toEqual(Buffer.from(body));
    expect(mediaHead).toContain('content-type: application/json\r\n');
  });

  it('replaces one generation, or whatever is there', async () => {
    server.answer((response) => json(response, resource('base/k', bytes('x'))));
    await store.put('k', bytes('x'), { ifGeneration: '42' });
    expect(theRequest().query.ifGenerationMatch).toBe('42');
    server.seen.length = 0;
    await store.put('k', bytes('x'));
    expect(theRequest().query).not.toHaveProperty('ifGenerationMatch');
  });

  it('sends large bodies whole', async () => {
    const body = Uint8Array.from({ length: 300_000 }, (_, i) => i * 31);
    server.answer((response) => json(response, resource('base/k', body)));
    await store.put('k', body, { ifGeneration: ABSENT });
    expect(parts(theRequest()).media.equals(body)).toBe(true);
  });
});

describe('what the others send', () => {
  it('get: media, range, condition', async () => {
    server.answer((response) => {
      response.writeHead(206, { ...mediaHeaders(bytes('0123456789')), 'x-goog-meta-rf': 'x' });
      response.end('234');
    });
    const got = await store.get('a/b', { range: { start: 2, end: 5 }, ifGenerationNot: '42' });
    expect(got).toMatchObject({
      outcome: 'found',
      body: bytes('234'),
      meta: {
        key: 'a/b',
        generation: GENERATION,
        sizeBytes: 10,
        crc32c: crc32c(bytes('0123456789')),
        createdAt: Date.parse('2026-04-28T09:47:27Z'),
        metadata: { rf: 'x' },
      },
    });
    const request = theRequest();
    expect(request.url).toBe('/storage/v1/b/bk/o/base%2Fa%2Fb?alt=media&ifGenerationNotMatch=42');
    expect(request.headers).toMatchObject({ range: 'bytes=2-4', 'accept-encoding': 'gzip' });
  });

  it('get: a body that looks like gzip comes verbatim', async () => {
    const body = new Uint8Array(gzipSync('hello'));
    server.answer((response) => {
      response.writeHead(200, { ...mediaHeaders(body), 'content-type': 'application/gzip' });
      response.end(body);
    });
    expect(await store.get('k')).toMatchObject({ outcome: 'found', body });
  });

  it('get: a server that ignores the range', async () => {
    server.answer((response) => {
      response.writeHead(200, mediaHeaders(bytes('0123456789')));
      response.end('0123456789');
    });
    expect(await store.get('k', { range: { start: 2, end: 5 } })).toMatchObject({ body: bytes('234') });
  });

  it('head: the fields it needs and no media', async () => {
    server.answer((response) => json(response, resource('base/k', bytes('x'))));
    expect(await store.head('k')).toMatchObject({ key: 'k', generation: GENERATION, metadata: {} });
    expect(theRequest().url).toBe(`/storage/v1/b/bk/o/base%2Fk?fields=${FIELDS}`);
  });

  it('delete: always with a generation', async () => {
    server.answer((response) => response.writeHead(204).end());
    expect(await store.delete('k', { ifGeneration: '42' })).toEqual({ outcome: 'deleted' });
    const request = theRequest();
    expect([request.method, request.url]).toEqual([
      'DELETE',
      '/storage/v1/b/bk/o/base%2Fk?ifGenerationMatch=42',
    ]);
  });

  it('list: bounds under the prefix, a fields mask, keys without the prefix', async () => {
    server.answer((response) =>
      json(response, {
        items: [resource('base/log/b', bytes('x'))],
        prefixes: ['base/log/c/'],
        nextPageToken: 't2',
      }),
    );
    const page = await store.list({
      prefix: 'log/',
      start: 'log/b',
      end: 'log/d',
      delimiter: '/',
      pageToken: 't1',
      limit: 5_000,
    });
    expect(page).toMatchObject({ items: [{ key: 'log/b' }], prefixes: ['log/c/'], next: 't2' });
    const request = theRequest();
    expect([request.method, request.path]).toEqual(['GET', '/storage/v1/b/bk/o']);
    expect(request.query).toEqual({
      prefix: 'base/log/',
      startOffset: 'base/log/b',
      endOffset: 'base/log/d',
      delimiter: '/',
      pageToken: 't1',
      maxResults: '1000',
      fields: `nextPageToken,prefixes,items(${FIELDS})`,
    });
  });

  it('list: server time is the Date header less the time the request took', async () => {
    let monotonic = 0;
    const clock: Clock = { ...systemClock, monotonic: () => (monotonic += 1_234.5) };
    const slow = await openGcsStore({ bucket: 'bk', endpoint: server.endpoint, clock });
    server.answer((response) => json(response, {}, 200, { date: 'Tue, 28 Apr 2026 09:47:27 GMT' }));
    const page = await slow.list({ prefix: '' });
    expect(page.serverTime).toBe(Date.parse('2026-04-28T09:47:27Z') - 1_235);
    await slow.close();
  });
});

describe('credentials', () => {
  it('without an endpoint, the SDK says where to and whether to authenticate', async () => {
    vi.stubEnv('STORAGE_EMULATOR_HOST', server.endpoint);
    const configured = await openGcsStore({ bucket: 'bk' });
    vi.unstubAllEnvs();
    server.answer((response) => json(response, {}));
    await configured.list({ prefix: '' });
    expect(theRequest().path).toBe('/storage/v1/b/bk/o');
    await configured.close();
  });

  const exchange = async (authorize: () => Promise<Iterable<[string, string]>>, signal?: AbortSignal) => {
    const http = new GcsHttp(new URL(server.endpoint), authorize, systemClock);
    return await http.exchange({ method: 'GET', path: '/', signal }).finally(() => http.close());
  };
  const fail = (properties: object) => () => Promise.reject(Object.assign(new Error('no token'), properties));

  it("the SDK's headers go with every request", async () => {
    server.answer((response) => response.end());
    await exchange(async () => new Headers({ authorization: 'Bearer t', 'x-goog-user-project': 'p' }));
    expect(server.seen[0]?.headers).toMatchObject({ authorization: 'Bearer t', 'x-goog-user-project': 'p' });
  });

  it.each([
    ['none found', {}, 'STORE_DENIED', false],
    ['their file is missing', { code: 'ENOENT' }, 'STORE_DENIED', false],
    ['refused by the token server', { config: {}, status: 400, code: 400 }, 'STORE_DENIED', false],
    ['the token server is down', { config: {}, status: 503, code: 503 }, 'STORE_UNAVAILABLE', true],
    ['the token server cannot be reached', { config: {}, code: 'ENOTFOUND' }, 'STORE_UNAVAILABLE', true],
  ])('%s: nothing is sent', async (_, properties, code, retryable) => {
    await expect(exchange(fail(properties))).rejects.toMatchObject({ code, retryable });
    expect(server.seen).toEqual([]);
  });

  it('waiting for a token ends with the signal', async () => {
    const never = () => new Promise<never>(() => {});
    const controller = new AbortController();
    const call = exchange(never, controller.signal);
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
