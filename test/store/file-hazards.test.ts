import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { CORRUPT_GENERATION, type FileStore, openFileStore } from '../../src/store/file.ts';
import { failed, inDoubt } from '../../src/store/file-errors.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { text, write } from './contract-kit.ts';
import { listPages } from './contract-list.ts';

let dir: string;
let store: FileStore;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runfold-hazards-'));
  store = await openFileStore(dir, { fsync: false });
});
afterEach(async () => {
  await store.close();
  await rm(dir, { recursive: true });
});

const keysOf = async (prefix: string) =>
  (await listPages(store, { prefix })).flatMap((page) => page.items.map((item) => item.key));

describe('file store: bytes on disk', () => {
  it('keeps the body below one line of header', async () => {
    const body = text('{"a":1}\nsecond line\n');
    await write(store, 'x/y.json', body, { contentType: 'application/json', metadata: { rf: 'a\nb"é' } });
    expect(new Uint8Array(execFileSync('tail', ['-n', '+2', join(dir, 'x/y.json')]))).toEqual(body);
    expect((await store.head('x/y.json'))?.metadata).toEqual({ rf: 'a\nb"é' });
  });

  it('law 8: every single flipped bit is reported, in the header and in the body', async () => {
    const meta = await write(store, 'k', 'the body', { ifGeneration: ABSENT, metadata: { rf: 'payload' } });
    const good = await readFile(join(dir, 'k'));
    const bodyStart = good.length - meta.sizeBytes;
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = Buffer.from(good);
      bad[bit >> 3]! ^= 1 << (bit & 7);
      await writeFile(join(dir, 'k'), bad);
      if (bit >> 3 < bodyStart) {
        await expect(store.get('k'), `bit ${bit}`).rejects.toMatchObject({ code: 'CORRUPT', key: 'k' });
      } else {
        const got = await store.get('k');
        expect(got.outcome === 'found' && crc32c(got.body) !== got.meta.crc32c, `bit ${bit}`).toBe(true);
      }
    }
  });

  it('reports truncated, grown, empty, foreign and misplaced files', async () => {
    await write(store, 'good', 'body');
    const good = await readFile(join(dir, 'good'));
    const bad: Record<string, Buffer> = {
      truncated: good.subarray(0, -1),
      headless: good.subarray(5),
      cut: good.subarray(0, 40),
      grown: Buffer.concat([good, good]),
      empty: Buffer.alloc(0),
      foreign: Buffer.from('not ours\n'),
      endless: Buffer.alloc(200_000, 'x'),
      misplaced: good,
    };
    for (const [key, bytes] of Object.entries(bad)) await writeFile(join(dir, key), bytes);
    for (const key of Object.keys(bad)) {
      const corrupt = { code: 'CORRUPT', key };
      await expect(store.get(key), key).rejects.toMatchObject(corrupt);
      await expect(store.head(key), key).rejects.toMatchObject(corrupt);
      await expect(store.put(key, text('x'), { ifGeneration: '1' }), key).rejects.toMatchObject(corrupt);
      expect(await store.put(key, text('x'), { ifGeneration: ABSENT })).toEqual({ outcome: 'conflict' });
      const call = store.delete(key, { ifGeneration: CORRUPT_GENERATION });
      await expect(call, key).rejects.toMatchObject(corrupt);
    }
    const { items } = await store.list({ prefix: '' });
    expect(items.map((item) => item.key)).toEqual([...Object.keys(bad), 'good'].sort());
    for (const { key, generation, crc32c: sum } of items) {
      expect(generation === CORRUPT_GENERATION && sum === -1, key).toBe(key !== 'good');
    }
    for (const key of Object.keys(bad)) await write(store, key, 'repaired', {});
    expect((await store.list({ prefix: '' })).items.some((item) => item.crc32c === -1)).toBe(false);
  });

  it('refuses files of a newer format, and lists them', async () => {
    await write(store, 'k', '');
    const line = (await readFile(join(dir, 'k'), 'utf8')).replace('{"runfold":1', '{"runfold":2');
    const sealed = line.slice(0, line.lastIndexOf(',"header_crc":'));
    await writeFile(join(dir, 'k'), `${sealed},"header_crc":${crc32c(text(sealed))}}\n`);
    await expect(store.get('k')).rejects.toMatchObject({ code: 'UNSUPPORTED_FORMAT' });
    expect((await store.list({ prefix: '' })).items).toMatchObject([
      { key: 'k', generation: CORRUPT_GENERATION },
    ]);
  });

  it('names the case-insensitive file system that serves A for a', async () => {
    await write(store, 'orgs/A');
    await cp(join(dir, 'orgs/A'), join(dir, 'orgs/a'));
    await expect(store.get('orgs/a')).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
  });
});

describe('file store: keys', () => {
  it('refuses keys that are no path below its directory', async () => {
    const long = 'x'.repeat(256);
    const bad = [
      '',
      '/',
      '/etc/passwd',
      'a/',
      'a//b',
      '.',
      '..',
      '../x',
      'a/../b',
      'a/.',
      'a\0b',
      'a\\b',
      'ä',
      'a b',
    ];
    for (const key of [...bad, '.runfold/tmp/x', '.runfold', `a/${long}`, `${long}/a`]) {
      const refused = { code: 'INVALID_INPUT' };
      await expect(store.get(key), key).rejects.toMatchObject(refused);
      await expect(store.head(key), key).rejects.toMatchObject(refused);
      await expect(store.put(key, text('x')), key).rejects.toMatchObject(refused);
      await expect(store.delete(key, { ifGeneration: '1' }), key).rejects.toMatchObject(refused);
    }
    await write(store, `a/${'y'.repeat(255)}`);
  });

  it('lists nothing outside its directory and nothing of its own', async () => {
    await write(store, 'a');
    await write(store, 'a2', 'x', {});
    await symlink('/etc', join(dir, 'etc'));
    expect(await keysOf('')).toEqual(['a', 'a2']);
    for (const prefix of ['../', '/', '/etc/', '.runfold/', '.runfold/locks/', './', 'a/../', '//']) {
      expect(await keysOf(prefix), prefix).toEqual([]);
    }
    expect(await keysOf('.')).toEqual([]);
  });

  it('refuses a key beside keys that continue it', async () => {
    await write(store, 'a/b');
    await write(store, 'f');
    const refused = { code: 'STORE_FAILED', retryable: false, hint: expect.stringContaining('slash') };
    for (const options of [{ ifGeneration: ABSENT }, {}] as const) {
      await expect(store.put('a', text('x'), options)).rejects.toMatchObject(refused);
      await expect(store.put('f/x', text('x'), options)).rejects.toMatchObject(refused);
    }
    expect(await store.get('a')).toMatchObject({ outcome: 'absent' });
    expect(await store.get('f/x')).toMatchObject({ outcome: 'absent' });
    expect(await keysOf('')).toEqual(['a/b', 'f']);
    expect(await readdir(join(dir, '.runfold/tmp'))).toEqual([]);
  });

  it('refuses more metadata than it states', async () => {
    const metadata = { rf: 'é'.repeat(4_096) };
    const call = store.put('k', text('x'), { metadata });
    await expect(call).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
    await write(store, 'k', 'x', { metadata: { rf: '\u0001'.repeat(8_190) } });
    expect((await store.head('k'))?.metadata.rf).toHaveLength(8_190);
    expect((await store.list({ prefix: 'k' })).items[0]?.metadata.rf).toHaveLength(8_190);
  });
});

describe('file store: directory', () => {
  it('opening removes old unfinished files and nothing else', async () => {
    await write(store, 'a/b');
    const tmp = join(dir, '.runfold/tmp');
    await writeFile(join(tmp, 'old'), 'x');
    await writeFile(join(tmp, 'new'), 'x');
    const old = new Date(Date.now() - 61 * 60_000);
    await utimes(join(tmp, 'old'), old, old);
    await utimes(join(dir, 'a/b'), old, old);
    const before = await readdir(dir, { recursive: true });
    await (await openFileStore(dir)).close();
    const after = await readdir(dir, { recursive: true });
    expect(after).toEqual(before.filter((name) => !name.endsWith('tmp/old')));
  });

  it('is not opened on a file', async () => {
    await writeFile(join(dir, 'file'), '');
    await expect(openFileStore(join(dir, 'file'))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('locks leave no bytes and no journals', async () => {
    for (let i = 0; i < 200; i++) {
      const { generation } = await write(store, `d${i}/k`, 'x', {});
      await store.delete(`d${i}/k`, { ifGeneration: generation });
    }
    const locks = await readdir(join(dir, '.runfold/locks'));
    expect(locks.length).toBeGreaterThan(10);
    for (const name of locks) {
      expect(name).toMatch(/^\d+\.sqlite$/);
      expect((await stat(join(dir, '.runfold/locks', name))).size).toBe(0);
    }
  });

  it('directories removed under it cost one retry', async () => {
    await write(store, 'a/b');
    await rm(join(dir, 'a'), { recursive: true });
    await expect(store.put('a/b', text('x'))).rejects.toMatchObject({ retryable: true });
    await write(store, 'a/b');
  });

  it.each(['gone', 'another one'])(
    'its own directory is %s: unavailable, and no new store in its place',
    async (now) => {
      const root = join(dir, 'deep/store');
      const opened = await openFileStore(root, { fsync: false });
      const { generation } = await write(opened, 'a/b', 'kept', {});
      await rename(root, `${root}.away`);
      if (now === 'another one') await mkdir(root);
      const unavailable = { code: 'STORE_UNAVAILABLE', message: expect.stringContaining(root) };
      // Twice: the first failure must not clear the way for the second.
      for (let round = 0; round < 2; round++) {
        for (const [name, call] of Object.entries({
          get: () => opened.get('a/b'),
          head: () => opened.head('a/b'),
          list: () => opened.list({ prefix: 'a/' }),
          listRoot: () => opened.list({ prefix: '' }),
          create: () => opened.put('a/c', text('x'), { ifGeneration: ABSENT }),
          createElsewhere: () => opened.put('new/c', text('x'), { ifGeneration: ABSENT }),
          overwrite: () => opened.put('a/b', text('x')),
          replace: () => opened.put('a/b', text('x'), { ifGeneration: generation }),
          delete: () => opened.delete('a/b', { ifGeneration: generation }),
        })) {
          await expect(call(), `${name}, round ${round}`).rejects.toMatchObject(unavailable);
        }
      }
      expect(existsSync(root)).toBe(now === 'another one');
      if (now === 'another one') expect(await readdir(root)).toEqual([]);
      await rm(root, { recursive: true, force: true });
      await rename(`${root}.away`, root);
      expect((await opened.head('a/b'))?.generation).toBe(generation);
      await write(opened, 'a/c');
      await opened.close();
    },
  );

  it('replaces and deletes need it to be open', async () => {
    const { generation } = await write(store, 'k');
    await store.close();
    await expect(store.delete('k', { ifGeneration: generation })).rejects.toMatchObject({
      code: 'STORE_FAILED',
    });
  });
});

describe('file store: listing', () => {
  it('shows a key written after the names of a quiet directory were kept', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `log/${100 + i}`);
    for (const name of names) await write(store, name);
    // As far as its mtime tells, the directory has been quiet; ctime cannot be set, so wait for that.
    await systemClock.sleep(2_100);
    for (let round = 0; round < 3; round++) {
      const expected = await keysOf('log/');
      const added = `log/${120 + round}x`;
      const pages = await listPages(store, { prefix: 'log/', limit: 10 }, async (before) => {
        if (before.length === 1) await write(store, added);
      });
      const keys = pages.flatMap((page) => page.items.map((item) => item.key));
      expect(keys).toEqual([...expected, added].sort());
    }
  });

  it('shows a key inserted right behind the last one of a page', async () => {
    for (const name of ['a', 'b', 'c']) await write(store, name);
    const pages = await listPages(store, { prefix: '', limit: 1 }, async (before) => {
      if (before.length === 1) await write(store, 'a!');
    });
    expect(pages.flatMap((page) => page.items.map((item) => item.key))).toEqual(['a', 'a!', 'b', 'c']);
  });

  it('groups only keys in range', async () => {
    for (const name of ['a/1', 'b/1', 'b/5', 'c/1', 'd']) await write(store, name);
    const groups = async (start: string, end?: string) => {
      const page = await store.list({ prefix: '', delimiter: '/', start, end });
      return [...page.prefixes, ...page.items.map((item) => item.key)];
    };
    expect(await groups('b/3')).toEqual(['b/', 'c/', 'd']);
    expect(await groups('b/6', 'c/1')).toEqual([]);
    expect(await groups('b/6', 'c/2')).toEqual(['c/']);
  });
});

describe('file store: failing disks', () => {
  it.each([
    ['ENOSPC', 'STORE_FAILED', false],
    ['EACCES', 'STORE_DENIED', false],
    ['EROFS', 'STORE_DENIED', false],
    ['EMFILE', 'STORE_UNAVAILABLE', true],
    ['EAGAIN', 'STORE_UNAVAILABLE', true],
    ['EWEIRD', 'STORE_FAILED', false],
  ])('%s is %s, retryable %s', (errno, code, retryable) => {
    const cause = Object.assign(new Error('no'), { code: errno, syscall: 'open' });
    expect(failed('write', 'k', cause)).toMatchObject({ code, retryable, cause });
    expect(inDoubt(cause)).toBe(false);
  });

  it('a failing disk while a name changes leaves the outcome unknown', () => {
    const error = (syscall: string) => Object.assign(new Error('no'), { code: 'EIO', syscall });
    for (const syscall of ['link', 'rename', 'unlink']) expect(inDoubt(error(syscall))).toBe(true);
    for (const syscall of ['open', 'fsync', 'write']) expect(inDoubt(error(syscall))).toBe(false);
  });
});
