import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { limits } from '../../src/core/limits.ts';
import { seededRandom, systemRandom } from '../../src/core/random.ts';
import { learnTime, openRunStore } from '../../src/runs/open.ts';
import type { Documents } from '../../src/runs/sql-documents.ts';
import { SqlRunStore } from '../../src/runs/sql-run-store.ts';
import { settling } from '../../src/runs/sql-settling.ts';
import { openSqliteDocuments } from '../../src/runs/sqlite-run-store.ts';
import { openSession } from '../../src/session.ts';
import { skewed } from '../../src/store/faults.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { recording, type StoreCall } from '../support/intercept.ts';
import { describeRunStore } from './run-store-contract.ts';
import { bounds, Losses, lostAnswer, wholeRun as runOf } from './run-store-objects.ts';

const root = mkdtempSync(join(tmpdir(), 'runfold-sqlite-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const path = () => join(root, `${randomUUID()}.sqlite`);
const store = new MemoryStore();

/** A disk that fails in the middle of a write. */
function lossy(documents: Documents, losses: Losses): Documents {
  const around = async (go: () => ReturnType<Documents['insert']>) => {
    const loss = losses.next();
    if (loss === 'after') await go();
    return loss === null ? go() : { outcome: 'unknown' as const, cause: lostAnswer() };
  };
  return {
    url: documents.url,
    read: (...call) => documents.read(...call),
    page: (...call) => documents.page(...call),
    identity: (signal) => documents.identity(signal),
    insert: (...call) => around(() => documents.insert(...call)),
    update: (...call) => around(() => documents.update(...call)),
    delete: (...call) => around(() => documents.delete(...call)),
    close: () => documents.close(),
  };
}

describeRunStore(
  'sqlite',
  async () => {
    const file = path();
    const losses = new Losses();
    const table = { table: 'runs', idColumn: 'run_id' };
    const documents = await openSqliteDocuments({ path: file, fsync: false, limits: bounds }, table);
    const options = { clock: systemClock, random: systemRandom, limits: bounds };
    const runs = new SqlRunStore(settling(lossy(documents, losses), options), {
      limits: limits(),
      random: systemRandom,
    });
    return {
      store: runs,
      another: () => openRunStore(`sqlite:${file}?fsync=off`, { store }),
      lose: (loss, count) => losses.set(loss, count),
      async spoil(orgId, runId) {
        const database = new DatabaseSync(file);
        database.prepare("UPDATE runs SET body = '{\"no' WHERE org_id = ? AND run_id = ?").run(orgId, runId);
        database.close();
      },
      close: () => runs.close(),
    };
  },
  { scanOrder: 'id', closes: true, pageRuns: 1_010 },
);

describe('sqlite: one file, many processes', () => {
  it('processes that create and count together lose nothing, from the first opening on', async () => {
    const file = path();
    const script = `
      const { openRunStore } = await import('./src/runs/open.ts');
      const { MemoryStore } = await import('./src/store/memory.ts');
      const runs = await openRunStore(process.argv[1], { store: new MemoryStore() });
      let created = 0;
      for (let i = 0; i < 60; i++) {
        const run = { ...${JSON.stringify(runOf())}, run_id: 'r' + i };
        if ((await runs.create(run)).outcome === 'written') created++;
        for (;;) {
          const { run, token } = await runs.read('acme', 'r' + i);
          if ((await runs.replace({ ...run, revision: run.revision + 1 }, token)).outcome === 'written') break;
        }
      }
      await runs.close();
      process.stdout.write(String(created));
    `;
    const args = ['--no-warnings', '--input-type=module', '--eval', script, `sqlite:${file}?fsync=off`];
    const cwd = new URL('../..', import.meta.url).pathname;
    const ran = await Promise.all([1, 2, 3].map(() => promisify(execFile)(process.execPath, args, { cwd })));
    expect(ran.reduce((sum, { stdout }) => sum + Number(stdout), 0)).toBe(60);
    const runs = await openRunStore(`sqlite:${file}`, { store });
    let seen = 0;
    for await (const one of runs.scan()) {
      expect(one).toMatchObject({ run: { revision: 4 } });
      seen++;
    }
    expect(seen).toBe(60);
    await runs.close();
  });

  it('a changed bit in a row is reported, never served (law 8)', async () => {
    const file = path();
    const runs = await openRunStore(`sqlite:${file}`, { store });
    await runs.create(runOf({ run_id: 'r', kind: 'job' }));
    const database = new DatabaseSync(file);
    database.exec(`UPDATE runs SET body = replace(body, '"job"', '"jab"')`);
    database.close();
    await expect(runs.read('acme', 'r')).rejects.toMatchObject({ code: 'CORRUPT' });
    await runs.close();
  });

  it('says what is wrong with a file or a table that will not do', async () => {
    const dry = openRunStore(`sqlite:${join(root, 'no/such/folder.db')}`, { store, missing: 'empty' });
    await expect(dry).rejects.toThrow('its folder does not exist');
    const missing = openRunStore(`sqlite:${join(root, 'no/such/folder.sqlite')}`, { store });
    await expect(missing).rejects.toMatchObject({
      code: 'STORE_FAILED',
      hint: expect.stringContaining('folder'),
    });
    const text = path();
    writeFileSync(
      text,
      'this is no database, but a text that is long enough to be looked at as one'.repeat(20),
    );
    await expect(openRunStore(`sqlite:${text}`, { store })).rejects.toMatchObject({ code: 'CORRUPT' });
    const other = path();
    const database = new DatabaseSync(other);
    database.exec('CREATE TABLE runs (id TEXT)');
    database.close();
    await expect(openRunStore(`sqlite:${other}`, { store })).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(openRunStore('sqlite:', { store })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(openRunStore(`sqlite:${path()}?wal=off`, { store })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
    await expect(openRunStore(`sqlite:${path()}?table=a;b`, { store })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
    await expect(openRunStore('mysql://x', { store })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('an object store by URL is closed with its run store; no URL is the catalog’s own store', async () => {
    const own = await openRunStore(undefined, { store });
    expect(own.url).toBe(store.url);
    const other = await openRunStore(`file:${join(root, 'objects')}?fsync=off`, {
      store,
      random: seededRandom(1),
    });
    await other.create(runOf());
    await other.close();
    expect(await own.read('acme', 'run-1')).toBeNull();
  });
});

describe('time, with runs in a database', () => {
  it.each([3_600_000, -3_600_000])(
    'follows the object store’s clock, though ours is wrong by %i ms',
    async (offsetMs) => {
      const objects = new MemoryStore();
      const runs = await openRunStore('sqlite::memory:', { store: objects });
      const session = openSession(objects, { runs, clock: skewed(systemClock, { offsetMs }) });
      const request = { run_id: 'r', heartbeat_timeout_ms: 60_000, run_timeout_ms: 600_000 };
      const { run } = await session.recorder.create('acme', request);
      expect(Math.abs(run.updated_at - Date.now())).toBeLessThan(2_000);
      const started = await session.recorder.apply('acme', 'r', { type: 'started', attempt: 1 });
      expect(Math.abs(started.run.started_at! - Date.now())).toBeLessThan(2_000);
      // A time-out is judged by the same time, in another process whose clock is wrong the other way.
      const other = openSession(objects, { runs, clock: skewed(systemClock, { offsetMs: -offsetMs }) });
      const timeOut = other.recorder.apply('acme', 'r', { type: 'time_out' });
      await expect(timeOut).rejects.toMatchObject({ code: 'RUN_NOT_EXPIRED' });
      // Who uses the clock by himself asks for it.
      const third = openSession(objects, { runs, clock: skewed(systemClock, { offsetMs }) });
      expect(Math.abs(third.serverClock.now() - Date.now())).toBeGreaterThan(3_000_000);
      await learnTime(third);
      expect(Math.abs(third.serverClock.now() - Date.now())).toBeLessThan(2_000);
      await session.close();
      await runs.close();
    },
  );

  it('is asked for once, and not at all where reading a run tells it', async () => {
    const gets = async (own: boolean) => {
      const calls: StoreCall[] = [];
      const objects = recording(new MemoryStore(), calls);
      const runs = own ? undefined : await openRunStore('sqlite::memory:', { store: objects });
      const session = openSession(objects, runs && { runs });
      await Promise.all(['a', 'b', 'c'].map((run_id) => session.recorder.create('acme', { run_id })));
      await session.recorder.create('acme', { run_id: 'd' });
      await session.close();
      return calls.filter(({ operation, key }) => operation === 'get' && key === 'catalog/clock').length;
    };
    expect([await gets(false), await gets(true)]).toEqual([1, 0]);
  });
});
