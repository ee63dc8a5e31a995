/**
 * A process of file-processes.test.ts. It reports by synchronous one-byte writes to its standard output, which
 * survive its own SIGKILL: what the parent has read did happen, in that order.
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32c } from '../../src/core/crc32c.ts';
import { openFileStore } from '../../src/store/file.ts';
import { FileLocks } from '../../src/store/file-locks.ts';
import { FileRoot } from '../../src/store/file-root.ts';
import { ABSENT, type ObjectStore } from '../../src/store/object-store.ts';

const report = (what: string) => writeSync(1, what);
const [dir, mode, arg] = process.argv.slice(2) as [string, string, string];

/** The size varies, so that a torn write could not hide. */
export function counterBody(value: number): Uint8Array {
  return new TextEncoder().encode(`${value}\n${'x'.repeat((value * 7919) % 90_000)}`);
}

async function create(store: ObjectStore, names: number) {
  for (let i = 0; i < names; i++) {
    const body = new TextEncoder().encode(String(process.pid));
    const put = await store.put(`race/${i % 7}/${i}`, body, { ifGeneration: ABSENT });
    report(put.outcome === 'written' ? 'w' : put.outcome === 'conflict' ? 'c' : '?');
  }
}

async function increment(store: ObjectStore, times: number) {
  for (let done = 0; done < times; ) {
    const got = await store.get('counter');
    if (got.outcome !== 'found') throw new Error(`the counter is ${got.outcome}`);
    if (crc32c(got.body) !== got.meta.crc32c) return report('t');
    const value = Number.parseInt(Buffer.from(got.body).toString(), 10);
    report('a');
    const put = await store.put('counter', counterBody(value + 1), { ifGeneration: got.meta.generation });
    if (put.outcome !== 'written') continue;
    report('k');
    done++;
  }
  return;
}

async function replaceForever(store: ObjectStore, names: number): Promise<never> {
  for (let i = process.pid; ; i++) {
    await store.put(`busy/${1000 + ((i * 7919) % names)}`, new Uint8Array(10));
    if (i === process.pid) report('k');
  }
}

async function hold(lock: number) {
  const locks = new FileLocks(new FileRoot(dir), join(dir, '.runfold', 'locks'));
  await locks.ready();
  locks.tryHold(lock, () => {
    report('h');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
}

if (process.argv[1] === import.meta.filename) {
  const store = await openFileStore(dir);
  report('r');
  if (mode === 'create') await create(store, Number(arg));
  if (mode === 'increment') await increment(store, Number(arg));
  if (mode === 'replace') await replaceForever(store, Number(arg));
  if (mode === 'hold') await hold(Number(arg));
  await store.close();
}
