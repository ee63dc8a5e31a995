import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { crc32c } from '../../src/core/crc32c.ts';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { type FileStore, openFileStore } from '../../src/store/file.ts';
import { FileLocks } from '../../src/store/file-locks.ts';
import { FileRoot } from '../../src/store/file-root.ts';
import { ABSENT } from '../../src/store/object-store.ts';
import { listPages } from './contract-list.ts';
import { counterBody } from './file-worker.ts';

const WORKERS = 4;
const worker = new URL('./file-worker.ts', import.meta.url).pathname;

let dir: string;
let store: FileStore;
const running = new Set<Worker>();

async function open(parent: string) {
  dir = await mkdtemp(join(parent, 'runfold-processes-'));
  store = await openFileStore(dir);
}
afterEach(async () => {
  await Promise.all([...running].map((each) => each.kill()));
  await store.close();
  await rm(dir, { recursive: true });
});

class Worker {
  reports = '';
  errors = '';
  readonly process: ChildProcess;
  readonly exited: Promise<void>;

  constructor(mode: string, arg: number) {
    this.process = spawn(process.execPath, [worker, dir, mode, String(arg)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout!.on('data', (data) => {
      this.reports += data;
    });
    this.process.stderr!.on('data', (data) => {
      this.errors += data;
    });
    this.exited = new Promise((resolve) => this.process.on('close', () => resolve()));
    running.add(this);
  }

  count(what: string): number {
    return this.reports.split(what).length - 1;
  }

  async reported(what: string): Promise<void> {
    while (this.count(what) === 0) {
      if (this.process.exitCode !== null) throw new Error(`worker ended: ${this.errors}`);
      await sleep(2);
    }
  }

  async done(): Promise<void> {
    await this.exited;
    running.delete(this);
    expect({ code: this.process.exitCode, errors: this.errors }).toEqual({ code: 0, errors: '' });
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
    running.delete(this);
  }
}

const total = (workers: readonly Worker[], what: string) =>
  workers.reduce((sum, each) => sum + each.count(what), 0);

async function readCounter(): Promise<{ value: number; generation: string }> {
  const got = await store.get('counter');
  if (got.outcome !== 'found') throw new Error(`the counter is ${got.outcome}`);
  const value = Number.parseInt(Buffer.from(got.body).toString(), 10);
  expect(crc32c(got.body)).toBe(got.meta.crc32c);
  expect(Buffer.compare(got.body, counterBody(value))).toBe(0);
  return { value, generation: got.meta.generation };
}

function abortAfter(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

async function expectLocksUntouched(): Promise<void> {
  const locks = join(dir, '.runfold', 'locks');
  for (const name of await readdir(locks)) {
    expect(name).toMatch(/^\d+\.sqlite$/);
    expect((await stat(join(locks, name))).size).toBe(0);
  }
}

describe('file store, several processes', () => {
  beforeEach(() => open(tmpdir()));

  it('every name has exactly one creator', async () => {
    const names = 150;
    const workers = Array.from({ length: WORKERS }, () => new Worker('create', names));
    await Promise.all(workers.map((each) => each.done()));
    expect(total(workers, 'w')).toBe(names);
    expect(total(workers, 'c')).toBe(names * (WORKERS - 1));
    const pages = await listPages(store, { prefix: 'race/' });
    expect(pages.flatMap((page) => page.items)).toHaveLength(names);
    expect(await readdir(join(dir, '.runfold', 'tmp'))).toEqual([]);
  });

  it('no compare-and-swap increment is lost or counted twice', async () => {
    const times = 100;
    await store.put('counter', counterBody(0), { ifGeneration: ABSENT });
    const workers = Array.from({ length: WORKERS }, () => new Worker('increment', times));
    await Promise.all(workers.map((each) => each.done()));
    expect((await readCounter()).value).toBe(WORKERS * times);
    expect(await readdir(join(dir, '.runfold', 'tmp'))).toEqual([]);
    await expectLocksUntouched();
  });

  it('kill -9 loses no acknowledged increment, tears no object, leaves no lock behind', async () => {
    const seed = Date.now() >>> 0;
    const random = seededRandom(seed);
    await store.put('counter', counterBody(0), { ifGeneration: ABSENT });
    const all: Worker[] = [];
    const start = () => {
      const each = new Worker('increment', Number.MAX_SAFE_INTEGER);
      all.push(each);
      return each;
    };
    const live = Array.from({ length: WORKERS }, start);
    let kills = 0;
    let last = 0;
    for (const until = Date.now() + 5_000; Date.now() < until; ) {
      await sleep(uniform(random) * 40);
      const { value } = await readCounter();
      expect(value).toBeGreaterThanOrEqual(last);
      last = value;
      const victim = random.u32() % WORKERS;
      if (live[victim]!.count('k') === 0) continue;
      await live[victim]!.kill();
      kills++;
      live[victim] = start();
    }
    await Promise.all(live.map((each) => each.kill()));

    const { value, generation } = await readCounter();
    const facts = `seed ${seed}, ${kills} kills, value ${value}`;
    expect(total(all, 't'), facts).toBe(0);
    expect(value, facts).toBeGreaterThanOrEqual(total(all, 'k'));
    expect(value, facts).toBeLessThanOrEqual(total(all, 'a'));
    // Each killed process had at most one increment under way.
    expect(value, facts).toBeLessThanOrEqual(total(all, 'k') + all.length);
    expect(kills, facts).toBeGreaterThan(5);
    for (const each of all) expect(each.errors, facts).toBe('');

    const put = await store.put('counter', counterBody(value + 1), { ifGeneration: generation });
    expect(put.outcome).toBe('written');
    await expectLocksUntouched();
    await expectLeftoversHarmless();
  });

  async function expectLeftoversHarmless() {
    const tmp = join(dir, '.runfold', 'tmp');
    const page = await store.list({ prefix: '' });
    expect(page.items.map((item) => item.key)).toEqual(['counter']);
    const longAgo = new Date(Date.now() - 2 * 3_600_000);
    for (const name of await readdir(tmp)) await utimes(join(tmp, name), longAgo, longAgo);
    await (await openFileStore(dir)).close();
    expect(await readdir(tmp)).toEqual([]);
  }

  it('a stopped lock holder makes others fail in time, and only where they need the lock', async () => {
    const impatient = await openFileStore(dir, { lockWaitMsMax: 200 });
    const put = await impatient.put('counter', counterBody(0), { ifGeneration: ABSENT });
    if (put.outcome !== 'written') throw new Error(put.outcome);
    const { generation } = put.meta;
    const holder = new Worker('hold', new FileLocks(new FileRoot(dir), dir).lockOf(''));
    await holder.reported('h');
    holder.process.kill('SIGSTOP');

    const timedOut = { code: 'DEADLINE_EXCEEDED', retryable: true, hint: expect.stringContaining('lsof') };
    const replace = () => impatient.put('counter', counterBody(1), { ifGeneration: generation });
    await expect(replace()).rejects.toMatchObject(timedOut);
    await expect(impatient.delete('counter', { ifGeneration: generation })).rejects.toMatchObject(timedOut);
    // However late a busy machine fires the timers: here the abort is what ends the wait, never the deadline.
    const patient = await openFileStore(dir, { lockWaitMsMax: 600_000 });
    for (const [signal, reason] of [
      [AbortSignal.timeout(50), { name: 'TimeoutError' }],
      [abortAfter(50), { code: 'CANCELLED' }],
    ] as const) {
      const call = patient.delete('counter', { ifGeneration: generation, signal });
      await expect(call).rejects.toMatchObject(reason);
    }
    await patient.close();
    expect((await readCounter()).value).toBe(0);
    expect(await impatient.put('other', counterBody(0), { ifGeneration: ABSENT })).toMatchObject({
      outcome: 'written',
    });
    expect(await readdir(join(dir, '.runfold', 'tmp'))).toEqual([]);

    await holder.kill();
    expect(await replace()).toMatchObject({ outcome: 'written' });
    expect((await readCounter()).value).toBe(1);
    await impatient.close();
  });
});

/** Memory file systems move a directory entry when it is replaced: a plain readdir misses some there. */
const parents = [tmpdir(), '/dev/shm'].filter((parent) => existsSync(parent));

describe.each(parents)('file store below %s, several processes', (parent) => {
  beforeEach(() => open(parent));

  it('a list misses no object that is replaced meanwhile', async () => {
    // More than one getdents call returns, or the kernel's own lock would hide the race.
    const names = 3_000;
    const filler = await openFileStore(dir, { fsync: false });
    for (let i = 0; i < names; i++) await filler.put(`busy/${1000 + i}`, new Uint8Array(10));
    await filler.close();
    const workers = [new Worker('replace', names), new Worker('replace', names)];
    await Promise.all(workers.map((each) => each.reported('k')));
    for (const until = Date.now() + 1_500; Date.now() < until; ) {
      const pages = await listPages(store, { prefix: 'busy/' });
      expect(pages.flatMap((page) => page.items)).toHaveLength(names);
    }
    await Promise.all(workers.map((each) => each.kill()));
  });
});
