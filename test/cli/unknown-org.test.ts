import { join } from 'node:path';
import { expect, it } from 'vitest';
import { encodeRun } from '../../src/runs/run.ts';
import { openFileStore } from '../../src/store/file.ts';
import { runOf } from '../support/runs.ts';
import { worldOn } from '../support/world.ts';
import { runHere } from './here.ts';
import { tempDir } from './support.ts';

async function store() {
  const dir = join(tempDir(), 'store');
  const world = await worldOn(await openFileStore(dir, { fsync: false }));
  const runfold = (...args: string[]) => runHere(...args, '--store', `file:${dir}?fsync=off`);
  return { world, runfold };
}

it('an org that is not there is an error that names it, and is not made by any command', async () => {
  const { world, runfold } = await store();
  await world.session.recorder.create('acme', { run_id: 'a' });
  for (const args of [
    ['policy', 'set', '--retain', '90d'],
    ['repair'],
    ['reconcile'],
    ['upgrade'],
    ['export', 'legacy'],
    ['backfill', '--org', 'acme'],
    ['backfill', '--dry-run'],
    ['runs'],
    ['tables'],
    ['active'],
    ['lineage', '--namespace', 'db', '--name', 'a'],
    ['history'],
    ['inspect'],
    ['policy', 'show'],
    ['compact'],
    ['collect'],
    ['orphans'],
    ['sweep'],
    ['archive'],
    ['artifacts', 'sweep', '--results', 'none'],
  ]) {
    const { stderr, ...told } = await runfold(...args, '--org', 'acne');
    expect({ args, ...told }).toEqual({ args, code: 2, value: null });
    expect(stderr).toMatch(/^error: There is no org acne\.\nhint: Check --org/);
  }
  expect((await world.store.list({ prefix: 'catalog/orgs/', delimiter: '/' })).prefixes).toHaveLength(1);
  expect((await world.store.list({ prefix: 'catalog/jobs/' })).items).toEqual([]);
});

it('an org may be known from flat keys alone: a backfill brings it in', async () => {
  const { world, runfold } = await store();
  const flat = encodeRun(runOf({ org_id: 'only-flat', run_id: 'flat' }));
  await world.store.put('authoritative-runs/runs/flat.json', flat);
  const backfill = (...args: string[]) => runfold('backfill', '--org', 'only-flat', ...args);
  expect(await backfill('--legacy', 'skip')).toMatchObject({ code: 2, value: null });
  const told = { scanned: 1, indexed: 0, unchanged: 1, legacy: { scanned: 1, copied: 1 } };
  expect(await backfill('--dry-run')).toMatchObject({ code: 0, value: told });
  expect(await backfill()).toMatchObject({ code: 0, value: told });
});
