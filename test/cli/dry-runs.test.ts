import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { compactOrg } from '../../compactor/compact.ts';
import { exportLegacy } from '../../compactor/export-legacy.ts';
import { encodeRun } from '../../src/runs/run.ts';
import { openFileStore } from '../../src/store/file.ts';
import { exportedRunKey, manifestCopyKey, manifestKey, partsPrefix, runKey } from '../../src/store/keys.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { unpackStore } from '../support/golden-store.ts';
import { intercept } from '../support/intercept.ts';
import { dataset, runOf } from '../support/runs.ts';
import { worldOn } from '../support/world.ts';
import { runHere as runfold, type Told } from './here.ts';
import { tempDir } from './support.ts';

const DAY = 86_400_000;
const bytes = (text: string) => new TextEncoder().encode(text);
const flatKey = (runId: string) => `authoritative-runs/runs/${runId}.json`;

/** A deployment with some of everything that a command could find to do, three days ago. */
const template = tempDir();
beforeAll(async () => {
  const dir = join(template, 'store');
  unpackStore('store-projection-1', dir);
  const clock = new FakeClock(Date.now() - 40 * DAY);
  const store = await openFileStore(dir, { clock, fsync: false });
  const world = await worldOn(store, { clock, limits: { inlineHeadBytesMax: 0 } });
  const { recorder, runs, traces } = world.session;
  const results = await openFileStore(join(template, 'results'), { clock, fsync: false });
  const org = 'shop';
  const end = (run_id: string) => recorder.apply(org, run_id, { type: 'succeeded', attempt: 1 });
  const begin = async (run_id: string, more = {}) => {
    await recorder.create(org, { run_id, outputs: [dataset(`t-${run_id.length}`)], ...more });
    await recorder.apply(org, run_id, { type: 'started', attempt: 1 });
  };
  const artifact = (run_id: string, port: string, object: string, ttl_ms: number) => {
    const uri = `file:${join(template, 'results')}/${org}/${run_id}/${object}`;
    const put = { type: 'put' as const, operator: 'scan', port, uri, ttl_ms };
    return recorder.apply(org, run_id, { type: 'artifact', attempt: 1, artifact: put });
  };
  for (const run_id of ['done-1', 'done-2', 'deleted', 'torn', 'lost', 'strange']) {
    await begin(run_id);
    await end(run_id);
  }
  await world.compact(org);
  // Logs: whole, with a chunk missing, and of a run that goes on.
  for (const run_id of ['logged', 'holey', 'logging']) {
    await begin(run_id);
    const append = (offset: number, text: string) =>
      traces.append(org, run_id, { attempt: 1, offset, body: bytes(text) });
    await append(0, 'first\n');
    await append(run_id === 'holey' ? 12 : 6, 'second\n');
    if (run_id !== 'logging') await end(run_id);
  }
  // Artifacts: due, not yet, and due with an object that another one still needs.
  await begin('left');
  for (const object of ['out', 'kept', 'shared']) await results.put(`${org}/left/${object}`, bytes('rows'));
  await artifact('left', 'out', 'out', DAY);
  await artifact('left', 'kept', 'kept', 300 * DAY);
  await artifact('left', 'first', 'shared', DAY);
  await artifact('left', 'second', 'shared', 300 * DAY);
  await end('left');
  // Old logs that a table names, one of them twice.
  await begin('imported');
  await end('imported');
  await store.put('old/imported.log', bytes('an old log\n'));
  // A compactor that lost left a part.
  let first = true;
  const racing = intercept(store, async (call, go) => {
    if (call.operation === 'put' && call.key === manifestKey(org) && first) {
      first = false;
      await world.compact(org);
    }
    return go();
  });
  await compactOrg({ ...world.compactor, store: racing }, org);
  expect((await store.list({ prefix: partsPrefix(org) })).items.length).toBeGreaterThan(1);
  await exportLegacy(world.compactor, org, {});
  await clock.advance(37 * DAY);
  // Active ones: fine, without a sign of life, behind their canonical run, without one.
  await begin('fine');
  await begin('late', { heartbeat_timeout_ms: 30_000 });
  for (const run_id of ['behind', 'vanished']) await recorder.create(org, { run_id });
  const behind = (await runs.read(org, 'behind'))!;
  const next = { ...behind.run, status: 'RUNNING' as const, revision: 2, indexed_revision: 2 };
  await runs.replace(next, behind.token);
  const vanished = (await runs.read(org, 'vanished'))!;
  await runs.remove(org, 'vanished', vanished.token);
  await recorder.apply(org, 'deleted', { type: 'delete' });
  // Changed behind everybody's back, torn, gone; in the export, too.
  const strange = (await runs.read(org, 'strange'))!;
  await runs.replace({ ...strange.run, kind: 'another' }, strange.token);
  await store.put(runKey(org, 'torn'), bytes('{'));
  const lost = (await runs.read(org, 'lost'))!;
  await runs.remove(org, 'lost', lost.token);
  await store.put(exportedRunKey(org, 'done-1'), bytes('{}'));
  await runs.create(runOf({ org_id: org, run_id: 'unindexed' }));
  // Flat ones: of a new org, newer than the copy, foreign, broken.
  await store.put(flatKey('flat'), encodeRun(runOf({ org_id: 'only-flat', run_id: 'flat' })));
  await store.put(flatKey('behind'), encodeRun({ ...next, revision: 5, indexed_revision: 5 }));
  await store.put(flatKey('no-org'), bytes('{"format":1}'));
  // An org that a newer compactor has been at.
  await recorder.create('future', { run_id: 'a' });
  await world.compact('future');
  const manifest = await store.get(manifestKey('future'));
  if (manifest.outcome !== 'found') throw new Error('no manifest');
  const newer = { ...JSON.parse(Buffer.from(manifest.body).toString()), writer_features: ['unheard-of'] };
  await store.put(manifestKey('future'), bytes(JSON.stringify(newer)));
  await recorder.create('future', { run_id: 'b' });
  await runs.create(runOf({ org_id: 'future', run_id: 'c' }));
  await world.session.close();
  await store.close();
  await results.close();
  writeFileSync(
    join(template, 'logs.csv'),
    'run_id,uri\nimported,old/imported.log\nimported,old/imported.log\nnobody,old/imported.log\n',
  );
});

function treeOf(...dirs: string[]): Record<string, string> {
  return Object.fromEntries(
    dirs
      .flatMap((dir) => readdirSync(dir, { recursive: true, withFileTypes: true }))
      .filter(
        (entry) =>
          entry.isFile() && !entry.parentPath.includes('.runfold') && !entry.name.startsWith('.runfold'),
      )
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path, readFileSync(path).toString('latin1')]),
  );
}

/** What time alone makes another, between the two runs. */
const OF_TIME = ['dry_run', 'age_ms', 'horizon', 'deleted_at', 'next_at'];

function without(value: unknown, names: readonly string[]): unknown {
  if (Array.isArray(value)) return value.map((one) => without(one, names));
  if (value === null || typeof value !== 'object') return value;
  const kept = Object.entries(value).filter(([name]) => !names.includes(name));
  return Object.fromEntries(kept.map(([name, one]) => [name, without(one, names)]));
}

const deletedSchema = z.array(
  z.looseObject({
    deleted: z.number(),
    objects: z.array(z.looseObject({ due: z.boolean() })).optional(),
    orphans: z.array(z.unknown()).optional(),
  }),
);

interface Case {
  name: string;
  args: (dir: string) => string[];
  /** Something that went wrong before. */
  spoil?: (dir: string) => void;
  /** Done before. */
  first?: (dir: string) => string[];
  /** Fields that tell of what was done alone, and that a dry run leaves at nothing. */
  done?: string[];
  /** Of one org: what it says would be deleted. */
  deletes?: (org: z.infer<typeof deletedSchema>[number]) => unknown[] | undefined;
  /** The exit codes of the dry run and of the real one, where they differ from 0. */
  codes?: [number, number];
  /** What it must have told at least, so that there was something to tell; null: nothing but an error. */
  tells: unknown;
}

const has = (...ones: object[]) => expect.arrayContaining(ones.map((one) => expect.objectContaining(one)));
/** Where the artifacts' URIs point: not copied. */
const results = () => ['--results', `file:${join(template, 'results')}?fsync=off`];
const inStore = (dir: string, key: string) => join(dir, 'store', key);
const torn = { key: runKey('shop', 'torn') };
const newer = { org_id: 'future', code: 'UNSUPPORTED_FORMAT' };

const CASES: Case[] = [
  {
    name: 'backfill',
    args: () => ['backfill'],
    codes: [1, 1],
    tells: { indexed: 2, failed: [torn], orgs_failed: [newer], legacy: { copied: 2, failed: [{}] } },
  },
  {
    name: 'a share of backfill',
    args: () => ['backfill', '--shard', '0/2', '--unit', '5', '--legacy', 'move'],
    codes: [1, 1],
    tells: { units: 7, complete: false, legacy: { deleted: 2 } },
  },
  {
    name: 'backfill of one org',
    args: () => ['backfill', '--org', 'only-flat'],
    codes: [1, 1],
    tells: { scanned: 1, unchanged: 1, legacy: { copied: 1 } },
  },
  {
    name: 'reconcile',
    args: () => ['reconcile', '--full'],
    done: ['repaired'],
    codes: [1, 1],
    tells: {
      drift: has(...['behind', 'different', 'missing', 'stray'].map((kind) => ({ kind, repaired: true }))),
      failed: [torn],
    },
  },
  {
    name: 'migrate',
    args: (dir) => ['migrate', '--from', `file:${inStore(dir, '')}?fsync=off`, '--to', `sqlite:${dir}/to.db`],
    codes: [1, 1],
    tells: { copied: 61, flat: 3, failed: [torn] },
  },
  {
    name: 'upgrade',
    args: () => ['upgrade', '--all'],
    done: ['version'],
    tells: has({ org_id: 'acme', commits: 2 }),
  },
  {
    name: 'export legacy',
    args: () => ['export', 'legacy', '--all'],
    tells: has({ org_id: 'shop', removed: [expect.any(String), expect.any(String)] }),
  },
  {
    name: 'export legacy in full',
    args: () => ['export', 'legacy', '--org', 'shop', '--full'],
    tells: [{ written: expect.arrayContaining([exportedRunKey('shop', 'done-1')]) }],
  },
  {
    name: 'collect, where a collector was killed',
    spoil: (dir) => rmSync(inStore(dir, manifestCopyKey('shop', 1))),
    args: () => ['collect', '--all'],
    done: ['deleted'],
    deletes: ({ objects }) => objects?.filter(({ due }) => due),
    tells: has({ org_id: 'shop' }),
  },
  {
    name: 'orphans',
    args: () => ['orphans', '--all'],
    done: ['deleted'],
    deletes: ({ orphans }) => orphans,
    tells: has({ org_id: 'shop', deleted: 3 }),
  },
  {
    name: 'sweep',
    args: () => ['sweep', '--all'],
    codes: [1, 1],
    tells: has({ repaired: ['behind'], timed_out: ['late'], missing: ['vanished'] }),
  },
  {
    name: 'artifacts sweep',
    args: () => ['artifacts', 'sweep', '--org', 'shop', ...results()],
    tells: [
      {
        artifacts: has({ port: 'out', outcome: 'deleted' }, { port: 'first', outcome: 'marked' }),
      },
    ],
  },
  {
    name: 'archive',
    args: () => ['archive', '--all', '--leftovers'],
    codes: [1, 1],
    tells: has({ org_id: 'shop', archived: 1, waiting: 1, failed: has({ run_id: 'holey' }) }),
  },
  {
    name: 'policy set',
    args: () => ['policy', 'set', '--org', 'shop', '--retain', '20d'],
    done: ['version'],
    tells: { forgets: { head_runs: 4 } },
  },
  {
    name: 'policy set, of an org that a newer runfold has been at',
    args: () => ['policy', 'set', '--org', 'future', '--retain', '20d'],
    codes: [1, 1],
    tells: null,
  },
  {
    name: 'repair',
    args: () => ['repair', '--org', 'shop'],
    codes: [1, 1],
    tells: { runs: 12, unreadable: [torn] },
  },
  {
    name: 'repair of a manifest that is beyond reading',
    spoil: (dir) => writeFileSync(inStore(dir, manifestKey('shop')), 'x'),
    args: () => ['repair', '--org', 'shop'],
    codes: [1, 1],
    tells: { runs: 12 },
  },
  {
    name: 'delete',
    args: () => ['delete', '--org', 'shop', '--run', 'done-1'],
    tells: { deleted: true },
  },
  {
    name: 'trace import',
    args: (dir) => ['trace', 'import', join(dir, 'logs.csv'), '--org', 'shop'],
    codes: [1, 1],
    tells: { imported: 1, known: 1, rejected_total: 1 },
  },
  {
    name: 'trace purge',
    first: (dir) => ['trace', 'import', join(dir, 'logs.csv'), '--org', 'shop'],
    args: (dir) => ['trace', 'purge', join(dir, 'logs.csv'), '--org', 'shop'],
    tells: { purged: 2, kept: 1 },
  },
];

it.each(CASES)('$name: the dry run changes nothing and tells what the real one then does', async (one) => {
  const dir = join(tempDir(), 'copy');
  cpSync(template, dir, { recursive: true });
  one.spoil?.(dir);
  const store = ['--store', `file:${inStore(dir, '')}?fsync=off`];
  const args = [...one.args(dir), ...(one.args(dir)[0] === 'migrate' ? [] : store)];
  if (one.first) await runfold(...one.first(dir), ...store);
  const before = treeOf(dir, template);
  const dry = await runfold(...args, '--dry-run');
  expect(treeOf(dir, template)).toEqual(before);
  const real = await runfold(...args);
  const told = ({ value }: Told) => without(value, [...OF_TIME, ...(one.done ?? [])]);
  expect(told(real)).toEqual(told(dry));
  if (one.tells === null) expect(real.value).toBeNull();
  else expect({ told: real.value }).toMatchObject({ told: one.tells });
  expect([dry.code, real.code]).toEqual(one.codes ?? [0, 0]);
  if (one.deletes === undefined) return;
  const orgs = deletedSchema.parse(real.value);
  expect(orgs.map((org) => one.deletes!(org)?.length)).toEqual(orgs.map(({ deleted }) => deleted));
  expect(orgs.some(({ deleted }) => deleted > 0)).toBe(true);
});
