import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { compactOrg } from '../../compactor/compact.ts';
import { LogWriter } from '../../src/log/append.ts';
import { type Projection, project } from '../../src/runs/projection.ts';
import { openFileStore } from '../../src/store/file.ts';
import { FakeClock } from './fake-clock.ts';
import { dataset, runOf } from './runs.ts';
import { type World, worldOn } from './world.ts';

/**
 * Whole stores as a released format left them, packed: what a `file:` directory held, and what its readers saw.
 * Never edited. A new format adds one: `MAKE_GOLDEN_STORE=store-<name> npm test -- test/format-evolution.test.ts`.
 */
export interface GoldenStore {
  /** By path under the directory; a character for a byte, so that text packs well. */
  files: Record<string, string>;
  /** By org and run id. */
  rows: Record<string, Projection[]>;
  /** When it was left, ms. */
  at: number;
}

/** A limit each for every kind of object there is: small parts of several levels, and a head that is not inline. */
export const GOLDEN_LIMITS = {
  headRowsMax: 8,
  historyGroupRows: 12,
  mergeFanIn: 3,
  sealAgeMs: 0,
  inlineHeadBytesMax: 1_000,
};

const file = (name: string) => new URL(`../golden/${name}.json.gz`, import.meta.url);

export function goldenStores(): string[] {
  return readdirSync(new URL('../golden/', import.meta.url))
    .filter((name) => /^store-.*\.json\.gz$/.test(name))
    .map((name) => name.replace('.json.gz', ''))
    .sort();
}

/** Unpacks it into `dir`. */
export function unpackStore(name: string, dir: string): GoldenStore {
  const golden = JSON.parse(gunzipSync(readFileSync(file(name))).toString('utf8')) as GoldenStore;
  for (const [path, bytes] of Object.entries(golden.files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), Buffer.from(bytes, 'latin1'));
  }
  return golden;
}

/** Makes one with today's code in `dir`, which must be empty. */
export async function makeStore(name: string, dir: string): Promise<void> {
  const clock = new FakeClock();
  const store = await openFileStore(dir, { clock, fsync: false });
  const world = await worldOn(store, { clock, limits: GOLDEN_LIMITS });
  await live(world, clock);
  const rows: GoldenStore['rows'] = {};
  for (const orgId of ['acme', 'globex']) {
    rows[orgId] = [];
    for await (const row of (await world.read(orgId)).runs()) rows[orgId].push(row);
    rows[orgId].sort((a, b) => (a.run_id < b.run_id ? -1 : 1));
  }
  await store.close();
  const files: GoldenStore['files'] = {};
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name).slice(dir.length + 1);
    if (entry.isFile() && !path.startsWith('.runfold'))
      files[path] = readFileSync(join(dir, path)).toString('latin1');
  }
  const golden: GoldenStore = { files, rows, at: clock.now() };
  writeFileSync(file(name), gzipSync(JSON.stringify(golden), { level: 9 }), { flag: 'wx' });
}

/** A little of everything: ends of all kinds, tasks, events of others, deletes, old versions, and a tail over them. */
async function live({ session, compactor }: World, clock: FakeClock): Promise<void> {
  const { recorder } = session;
  const error = { code: 'E1', message: 'it broke' };
  for (let i = 0; i < 44; i++) {
    const run_id = `run-${String(i).padStart(2, '0')}`;
    const payload = { target_namespace: 'lake', target_table: `t${i % 4}`, note: i };
    const run_key = i % 8 === 0 ? `key-${i}` : null;
    await recorder.create('acme', { run_id, queue: `q${i % 2}`, run_key, payload });
    await clock.advance(1_000);
    await recorder.apply('acme', run_id, { type: 'started', attempt: 1, code_version: `v${i % 3}` });
    if (i % 9 === 8) continue;
    if (i % 5 === 0) {
      const task = { type: 'started' as const, key: 'load', attempt: 1 };
      await recorder.apply('acme', run_id, { type: 'task', attempt: 1, task });
    }
    if (i % 7 === 3) await recorder.apply('acme', run_id, { type: 'failed', attempt: 1, error });
    else {
      const outputs = [dataset(`t${i % 4}`, 'lake'), ...(i % 6 === 0 ? [dataset('shared', 'lake')] : [])];
      const inputs = [dataset(`t${(i + 1) % 4}`, 'lake')];
      const result = { rows: i, version: String(i) };
      await recorder.apply('acme', run_id, { type: 'succeeded', attempt: 1, outputs, inputs, result });
    }
    if (i === 20) await recorder.apply('acme', 'run-02', { type: 'delete' });
    if (i % 10 === 9 && i < 40) {
      // Longer than the grace of entries, so that the log is collected.
      await clock.advance(130_000);
      const policy = { retain_ms: null, time_travel_ms: 7 * 86_400_000 };
      await compactOrg(compactor, 'acme', i === 9 ? { policy } : {});
    }
  }
  // The tail: an intent that nothing confirms, a delete, a retry; and an org that was never folded.
  const log = new LogWriter(session.store, session);
  const never = runOf({ run_id: 'never', created_at: clock.now(), updated_at: clock.now() });
  await log.append('acme', [{ kind: 'intent', row: project(never) }]);
  await recorder.apply('acme', 'run-05', { type: 'delete' });
  await recorder.apply('acme', 'run-03', { type: 'retry', attempt: 1 });
  await recorder.create('globex', { run_id: 'only', outputs: [dataset('x')] });
  await log.idle();
}
