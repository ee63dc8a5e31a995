import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { limits } from '../../src/core/limits.ts';
import { openRunStore } from '../../src/runs/open.ts';
import { encodeRun } from '../../src/runs/run.ts';
import { openFileStore } from '../../src/store/file.ts';
import { exportedRunKey, exportIndexKey } from '../../src/store/keys.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { GOLDEN_LIMITS, unpackStore } from '../support/golden-store.ts';
import { dataset, runOf } from '../support/runs.ts';
import { worldOn } from '../support/world.ts';
import { compactedSchema } from './contract.ts';
import { jsonOf, onStore, tempDir } from './support.ts';

const ORG = 'acme';

const exportSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    runs: z.number(),
    tables: z.number(),
    written: z.array(z.string()),
    removed: z.array(z.string()),
    unchanged: z.number(),
    unconfirmed: z.array(z.string()),
    quarantined: z.number(),
  }),
);

const upgradeSchema = z.array(
  z.strictObject({
    org_id: z.string(),
    dry_run: z.boolean(),
    version: z.number().nullable(),
    projection: z.number(),
    formats: z.array(
      z.strictObject({
        level: z.number(),
        projection: z.number(),
        parts: z.number(),
        runs: z.number(),
        size_bytes: z.number(),
      }),
    ),
    rewritten: z.array(z.string()),
    commits: z.number(),
  }),
);

async function store() {
  const dir = join(tempDir(), 'store');
  const world = await worldOn(await openFileStore(dir, { fsync: false }));
  const runfold = onStore(`file:${dir}?fsync=off`);
  return { dir, world, runfold, ask: (...args: string[]) => jsonOf(runfold(...args, '--json')) };
}

describe.concurrent('runfold export legacy', () => {
  it('a dry run lists what the run then does; a fold keeps it up to date', async () => {
    const { world, runfold, ask } = await store();
    const { recorder } = world.session;
    for (const orgId of [ORG, 'globex'])
      await recorder.create(orgId, { run_id: 'a', outputs: [dataset('t')] });
    const exported = async (...args: string[]) => exportSchema.parse(await ask('export', 'legacy', ...args));
    const dry = await exported('--all', '--dry-run');
    expect(dry.map(({ org_id, written }) => [org_id, written.length])).toEqual([
      [ORG, 3],
      ['globex', 3],
    ]);
    expect(await world.store.head(exportIndexKey(ORG))).toBeNull();
    const real = await exported('--all');
    expect(real).toEqual(dry.map((one) => ({ ...one, dry_run: false })));

    await recorder.create(ORG, { run_id: 'b' });
    const told = await runfold('export', 'legacy', '--org', ORG, '--dry-run');
    expect(told.stdout).toBe(
      `write  ${exportedRunKey(ORG, 'b')}\nwrite  ${exportIndexKey(ORG)}\n` +
        'Org acme: 2 runs of 1 table; 2 objects to be written, 0 to be removed, 2 unchanged\n',
    );
    const [compacted] = z
      .array(compactedSchema.and(z.looseObject({ exported: z.unknown() })))
      .parse(await ask('compact', '--org', ORG, '--export-legacy'));
    expect(compacted!.exported).toEqual({ runs: 2, written: 2, removed: 0, unconfirmed: 0 });
    expect(await exported('--org', ORG)).toMatchObject([{ written: [], unchanged: 3 }]);
  });
});

describe.concurrent('runfold upgrade', () => {
  it('shows what is in which format, and rewrites what is old', async () => {
    const { dir, runfold, ask } = await store();
    unpackStore('store-projection-1', dir);
    expect(GOLDEN_LIMITS.headRowsMax).toBeLessThan(limits().headRowsMax);
    const upgraded = async (...args: string[]) => upgradeSchema.parse(await ask('upgrade', '--all', ...args));
    const [dry, none] = await upgraded('--dry-run');
    expect(dry!.formats.map(({ level, projection, parts }) => [level, projection, parts])).toEqual([
      [0, 1, 1],
      [1, 1, 2],
    ]);
    expect(dry!.rewritten).toHaveLength(3);
    expect(none).toMatchObject({ org_id: 'globex', version: null, formats: [], rewritten: [] });
    const [real] = await upgraded();
    expect(real).toEqual({ ...dry, dry_run: false, version: dry!.version! + 2 });
    expect((await runfold('verify', '--org', ORG)).code).toBe(0);
  });
});

describe.concurrent('an org that is not there', () => {
  it('is verified all the same where its runs live in a database', async () => {
    const { runfold } = await store();
    const url = `sqlite:${join(tempDir(), 'runs.db')}`;
    const runs = await openRunStore(url, { store: new MemoryStore() });
    await runs.create(runOf({ org_id: 'only-there' }));
    await runs.close();
    const ran = await runfold('verify', '--runs', url);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toMatch(/law 2: org only-there: .*the canonical run has no row/);
    expect((await runfold('repair', '--org', 'only-there', '--runs', url)).code).toBe(0);
  });
});

describe.concurrent('a run store that is not there', () => {
  it('is refused, and not made, by commands that look or repair; no row is removed', async () => {
    const { world, runfold } = await store();
    await world.session.recorder.create(ORG, { run_id: 'a' });
    const file = join(tempDir(), 'mistyped.db');
    for (const args of [
      ['reconcile', '--full'],
      ['repair', '--org', ORG],
      ['backfill', '--dry-run'],
    ]) {
      const ran = await runfold(...args, '--runs', `sqlite:${file}`);
      expect(ran).toMatchObject({ code: 2, stdout: '' });
      expect(ran.stderr).toMatch(
        /^error: There is no run store at sqlite:.*mistyped\.db\.\nhint: Check --runs/,
      );
    }
    expect(existsSync(file)).toBe(false);
    // One that is there, and empty: it was forgotten to say which, or the wrong one was named.
    await (await openRunStore(`sqlite:${file}`, { store: new MemoryStore() })).close();
    const repaired = await runfold('repair', '--org', ORG, '--runs', `sqlite:${file}`);
    expect(repaired).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/mistyped\.db has no canonical run/),
    });
    const reconciled = await runfold('reconcile', '--full', '--runs', `sqlite:${file}`);
    expect(reconciled.code).toBe(1);
    expect(reconciled.stderr).toMatch(/^refused: org acme: .*mistyped\.db has no canonical run.*--force/m);
    expect((await world.read(ORG)).active()).toHaveLength(1);
    const forced = await runfold('repair', '--org', ORG, '--runs', `sqlite:${file}`, '--force');
    expect(forced).toMatchObject({ code: 0, stdout: expect.stringContaining('0 runs') });
  });

  it('is made by migrate as its target alone, and not by a dry run', async () => {
    const { dir, world, runfold } = await store();
    await world.session.recorder.create(ORG, { run_id: 'a' });
    const flat = await world.compactor.runs.read(ORG, 'a');
    await world.store.put('authoritative-runs/runs/flat.json', encodeRun({ ...flat!.run, run_id: 'flat' }));
    const [from, file] = [`file:${dir}?fsync=off`, join(tempDir(), 'runs.db')];
    const migrate = (...args: string[]) => runfold('migrate', ...args, '--to', `sqlite:${file}`);
    const dry = await migrate('--from', from, '--dry-run');
    expect(dry).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 run: 1 to copy,.* 0 problems\n$/),
    });
    expect(dry.stderr).toContain('1 flat key of older deployments not migrated');
    const nobody = await migrate('--from', from, '--org', 'acne');
    expect(nobody).toMatchObject({ code: 2, stderr: expect.stringContaining('has no run of org acne') });
    const missing = join(tempDir(), 'gone');
    for (const url of [`file:${missing}`, `sqlite:${missing}`])
      expect(await migrate('--from', url)).toMatchObject({
        stderr: expect.stringMatching(/There is no[\s\S]*Check --from\./),
      });
    expect([existsSync(file), existsSync(missing)]).toEqual([false, false]);
    expect((await migrate('--from', from)).stdout).toMatch(/^1 run: 1 copied/);
    expect(existsSync(file)).toBe(true);
  });
});
