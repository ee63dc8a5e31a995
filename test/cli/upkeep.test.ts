import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compactOrg } from '../../compactor/compact.ts';
import { exactDuration } from '../../src/cli/format.ts';
import { parseShard, shardOfTask } from '../../src/cli/shard.ts';
import { parseDuration } from '../../src/cli/times.ts';
import { openFileStore } from '../../src/store/file.ts';
import { manifestKey, partsPrefix, runKey } from '../../src/store/keys.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { intercept } from '../support/intercept.ts';
import { type World, worldOn } from '../support/world.ts';
import {
  artifactsSweepSchema,
  collectSchema,
  compactedSchema,
  deleteSchema,
  historySchema,
  inspectSchema,
  orphansSchema,
  policySchema,
  policySetSchema,
  repairSchema,
  runsSchema,
  sweepSchema,
  tablesSchema,
  verifySchema,
} from './contract.ts';
import { COMPACTOR, EVENTS, jsonOf, onStore, RUNFOLD, run, tempDir, writeEvents } from './support.ts';

const DAY = 86_400_000;
const ORG = 'acme';
const table = (name: string) => ({ namespace: 'db', name });

/** A store whose past was written by this process, three days ago by the clock: what waits is due by now. */
async function past() {
  const dir = join(tempDir(), 'store');
  const clock = new FakeClock(Date.now() - 3 * DAY);
  const store = await openFileStore(dir, { clock, fsync: false });
  const world = await worldOn(store, { clock, limits: { inlineHeadBytesMax: 0 } });
  const runfold = onStore(`file:${dir}?fsync=off`);
  return {
    dir,
    clock,
    world,
    runfold,
    ask: (...args: string[]) => jsonOf(runfold(...args, '--json')),
    has: (key: string) => existsSync(join(dir, key)),
  };
}
type Past = Awaited<ReturnType<typeof past>>;

async function ended(world: World, run_id: string, output: string) {
  const { recorder } = world.session;
  await recorder.create(ORG, { run_id, outputs: [table(output)] });
  await recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
  await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
}

const runIds = async ({ ask }: Past, ...args: string[]) =>
  runsSchema.parse(await ask('runs', '--org', ORG, ...args)).map(({ run_id }) => run_id);

describe('versions', () => {
  let at: Past;
  const times: number[] = [];
  beforeAll(async () => {
    at = await past();
    for (const n of [1, 2, 3]) {
      await ended(at.world, `run-${n}`, `t${n}`);
      await at.world.session.recorder.create(ORG, {
        run_id: `live-${n}`,
        inputs: [table('t1')],
        outputs: [table('x')],
      });
      await at.world.compact();
      times.push(at.clock.now());
      await at.clock.advance(60_000);
    }
    await ended(at.world, 'tail', 't4');
  });

  it('history: the current one first, and --limit', async () => {
    const history = historySchema.parse(await at.ask('history', '--org', ORG));
    expect(history.versions.map(({ version, current }) => [version, current])).toEqual([
      [3, true],
      [2, false],
      [1, false],
    ]);
    expect(history).toMatchObject({ org_id: ORG, kept: 3 });
    for (const { version, committed_at, rows, active, parts, bytes } of history.versions) {
      expect({ rows, active, parts }).toEqual({ rows: 2 * version, active: version, parts: 1 });
      expect(committed_at).toBe(new Date(times[version - 1]!).toISOString());
      expect(bytes).toBeGreaterThan(0);
    }
    const limited = historySchema.parse(await at.ask('history', '--org', ORG, '--limit', '2'));
    expect(limited).toEqual({ ...history, versions: history.versions.slice(0, 2) });
    const told = await at.runfold('history', '--org', ORG, '--limit', '1');
    expect(told.stdout).toContain('1 version of 3 (--limit shows more) of org acme');
    expect((await at.runfold('history', '--org', 'nobody')).code).toBe(2);
  });

  it('tables, runs, active and lineage travel to a version and to a time', async () => {
    const names = async (...args: string[]) =>
      tablesSchema.parse(await at.ask('tables', '--org', ORG, ...args)).map(({ name }) => name);
    const asOf = new Date(times[1]! + 1).toISOString();
    expect(await names()).toEqual(['t1', 't2', 't3', 't4', 'x']);
    expect(await names('--version', '2')).toEqual(['t1', 't2', 'x']);
    expect(await names('--as-of', asOf)).toEqual(['t1', 't2', 'x']);
    // Between the last commit and now only the tail has grown, which no version has.
    expect(await names('--as-of', '1h')).toEqual(['t1', 't2', 't3', 'x']);
    expect((await runIds(at, '--version', '1')).sort()).toEqual(['live-1', 'run-1']);
    const active = runsSchema.parse(await at.ask('active', '--org', ORG, '--as-of', asOf));
    expect(active.map(({ run_id }) => run_id).sort()).toEqual(['live-1', 'live-2']);
    const lineage = ['lineage', '--org', ORG, '--namespace', 'db', '--name', 't1'];
    expect(await at.ask(...lineage, '--version', '1')).toMatchObject({ edges: [{ run_id: 'live-1' }] });
    expect(await at.ask(...lineage)).toMatchObject({ edges: [{ run_id: 'live-3' }] });
    const told = await at.runfold('tables', '--org', ORG, '--as-of', asOf);
    expect(told.stdout).toContain(
      `3 tables of org acme in version 2 of ${new Date(times[1]!).toISOString()}`,
    );
  });

  it('that are not kept are not found; --version of runfold itself still shows the version', async () => {
    const rows = await Promise.all([
      at.runfold('runs', '--org', ORG, '--version', '9'),
      at.runfold('tables', '--org', ORG, '--as-of', '4d'),
      at.runfold('tables', '--org', ORG, '--as-of', '4d', '--version', '1'),
      at.runfold('runs', '--org', ORG, '--version'),
      run(RUNFOLD, ['--version']),
    ]);
    expect(rows.map(({ code }) => code)).toEqual([1, 1, 2, 2, 0]);
    expect(rows[0]!.stderr).toContain('keeps nothing of version 9');
    expect(rows[2]!.stderr).toContain('exclude each other');
    expect(rows[4]!.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('what a dry run tells is what the real run does', () => {
  it('collect', async () => {
    const at = await past();
    await ended(at.world, 'a', 't');
    await at.world.compact();
    await ended(at.world, 'b', 't');
    await at.world.compact();
    const [dry] = collectSchema.parse(await at.ask('collect', '--org', ORG, '--dry-run'));
    expect(dry).toMatchObject({ org_id: ORG, dry_run: true, deleted: 0 });
    const kinds = dry!.objects.map(({ key }) => key.split('/')[3]);
    expect([...new Set(kinds)].sort()).toEqual(['garbage', 'log', 'manifests', 'snapshots']);
    expect(dry!.objects.every(({ due, key }) => due && at.has(key))).toBe(true);
    const told = await at.runfold('collect', '--all', '--dry-run');
    expect(told.stdout).toContain('nothing deleted');
    const [real] = collectSchema.parse(await at.ask('collect', '--all'));
    expect(real).toEqual({ ...dry, dry_run: false, deleted: dry!.objects.length });
    expect(dry!.objects.filter(({ key }) => at.has(key))).toEqual([]);
    expect(collectSchema.parse(await at.ask('collect', '--org', ORG))[0]!.objects).toEqual([]);
    expect((await at.runfold('verify', '--org', ORG)).code).toBe(0);
  });

  it('orphans', async () => {
    const at = await past();
    await ended(at.world, 'a', 't');
    await at.world.compact();
    await ended(at.world, 'b', 't');
    const lost: string[] = [];
    let first = true;
    const store = intercept(at.world.store, async (call, go) => {
      if (call.operation === 'put' && call.key === manifestKey(ORG) && first) {
        first = false;
        await at.world.compact();
      } else if (call.operation === 'put' && call.key.startsWith(partsPrefix(ORG)) && first)
        lost.push(call.key);
      return go();
    });
    await compactOrg({ ...at.world.compactor, store }, ORG);
    expect(lost).toHaveLength(1);
    const [dry] = orphansSchema.parse(await at.ask('orphans', '--org', ORG, '--dry-run'));
    expect(dry).toMatchObject({ dry_run: true, deleted: 0 });
    expect(dry!.orphans.map(({ key }) => key)).toContain(lost[0]);
    expect(dry!.orphans.every(({ key }) => at.has(key))).toBe(true);
    const [real] = orphansSchema.parse(await at.ask('orphans', '--all'));
    expect(real).toMatchObject({ dry_run: false, deleted: dry!.orphans.length });
    expect(real!.orphans.map(({ key }) => key)).toEqual(dry!.orphans.map(({ key }) => key));
    expect(dry!.orphans.filter(({ key }) => at.has(key))).toEqual([]);
    const told = await at.runfold('orphans', '--org', ORG, '--dry-run');
    expect(told).toMatchObject({ code: 0, stdout: '0 orphans (0 B), nothing deleted\n' });
    expect((await at.runfold('verify', '--org', ORG)).code).toBe(0);
  });

  it('sweep', async () => {
    const at = await past();
    const { recorder, runs } = at.world.session;
    await recorder.create(ORG, { run_id: 'late', heartbeat_timeout_ms: 30_000 });
    await recorder.apply(ORG, 'late', { type: 'started', attempt: 1 });
    await recorder.create(ORG, { run_id: 'fine' });
    await recorder.create(ORG, { run_id: 'behind' });
    await at.world.compact();
    // Its writer died between the canonical run and the record.
    const stored = (await runs.read(ORG, 'behind'))!;
    const { revision } = stored.run;
    await runs.replace({ ...stored.run, status: 'RUNNING', revision: revision + 1 }, stored.token);
    const statuses = async () =>
      runsSchema
        .parse(await at.ask('runs', '--org', ORG))
        .map((row) => `${row.run_id} ${row.status}`)
        .sort();
    const before = await statuses();
    const [dry] = sweepSchema.parse(await at.ask('sweep', '--org', ORG, '--dry-run'));
    expect(dry).toMatchObject({
      active: 3,
      looked: 3,
      repaired: ['behind'],
      timed_out: ['late'],
      missing: [],
    });
    expect(await statuses()).toEqual(before);
    expect(sweepSchema.parse(await at.ask('sweep', '--org', ORG, '--age', '4d', '--dry-run'))).toMatchObject([
      { active: 3, looked: 0 },
    ]);
    const [real] = sweepSchema.parse(await at.ask('sweep', '--all'));
    expect(real).toEqual({ ...dry, dry_run: false });
    expect(await statuses()).toEqual(['behind RUNNING', 'fine QUEUED', 'late TIMED_OUT']);
    const told = await at.runfold('sweep', '--org', ORG);
    expect(told.stdout).toMatch(/^ORG +ACTIVE +LOOKED AT/);
  });

  it('artifacts sweep', async () => {
    const at = await past();
    const dir = join(tempDir(), 'results');
    const results = await openFileStore(dir, { clock: at.clock, fsync: false });
    const { recorder } = at.world.session;
    const leave = async (run_id: string, port: string, ttl_ms: number) => {
      await results.put(`${ORG}/${run_id}/${port}`, new TextEncoder().encode('rows'));
      const uri = `file:${dir}/${ORG}/${run_id}/${port}`;
      const artifact = { type: 'put' as const, operator: 'scan', port, uri, ttl_ms };
      await recorder.apply(ORG, run_id, { type: 'artifact', attempt: 1, artifact });
    };
    for (const run_id of ['done', 'live']) {
      await recorder.create(ORG, { run_id });
      await recorder.apply(ORG, run_id, { type: 'started', attempt: 1 });
      await leave(run_id, 'out', DAY);
    }
    await leave('done', 'kept', 30 * DAY);
    await recorder.apply(ORG, 'done', { type: 'succeeded', attempt: 1 });
    const objects = () => readdirSync(join(dir, ORG, 'done')).sort();

    const sweep = ['artifacts', 'sweep', '--org', ORG, '--results', `file:${dir}?fsync=off`];
    const [dry] = artifactsSweepSchema.parse(await at.ask(...sweep, '--dry-run'));
    expect(dry).toMatchObject({
      runs: 1,
      waiting: 0,
      artifacts: [{ run_id: 'done', port: 'out', outcome: 'deleted' }],
    });
    expect(objects()).toEqual(['kept', 'out']);
    const [real] = artifactsSweepSchema.parse(await at.ask(...sweep));
    expect(real).toEqual({ ...dry, dry_run: false });
    expect(objects()).toEqual(['kept']);
    expect((await at.runfold(...sweep, '--history')).stdout).toBe('Nothing has expired.\n');
    expect((await at.runfold('verify', '--org', ORG)).code).toBe(0);

    const wrong = await Promise.all([
      at.runfold('artifacts', 'sweep', '--org', ORG),
      at.runfold('artifacts', 'sweep', '--results', 'none'),
      at.runfold('artifacts', 'sweep', '--org', ORG, '--results', `file:${at.dir}`),
      at.runfold('artifacts', 'sweep', '--org', ORG, '--results', `file:${dir}-mistyped`),
    ]);
    expect(wrong.map(({ code, stdout }) => [code, stdout])).toEqual(wrong.map(() => [2, '']));
    expect(wrong.map(({ stderr }) => stderr.split('\n')[0])).toEqual([
      'error: No result store was named.',
      expect.stringContaining('No org was named'),
      expect.stringContaining('overlap'),
      expect.stringContaining('There is no store'),
    ]);
  });

  it('policy', async () => {
    const at = await past();
    for (const n of [1, 2, 3]) await ended(at.world, `old-${n}`, 't');
    await at.world.compact();
    await at.clock.advance(2 * DAY);
    await ended(at.world, 'new', 'other');
    const show = async () => policySchema.parse(await at.ask('policy', 'show', '--org', ORG));
    const set = async (...args: string[]) =>
      policySetSchema.parse(await at.ask('policy', 'set', '--org', ORG, ...args));
    const nothing = { retain_ms: null, time_travel_ms: 0 };
    expect(await show()).toEqual({ org_id: ORG, version: 1, policy: nothing, horizon: null });
    const dry = await set('--retain', '36h', '--time-travel', '7d', '--dry-run');
    const policy = { retain_ms: 1.5 * DAY, time_travel_ms: 7 * DAY };
    // The latest success of the table outlives the horizon.
    const forgets = { head_runs: 2, parts: 0, part_runs: 0, parts_partly: 0 };
    expect(dry).toMatchObject({ dry_run: true, version: 1, policy, forgets });
    expect(await runIds(at)).toHaveLength(4);
    const real = await set('--retain', '36h', '--time-travel', '7d');
    expect(real).toMatchObject({ dry_run: false, version: 2, policy, forgets });
    // What was committed, to the millisecond; not what the preview would have made of it.
    expect(real.horizon).toBe((await show()).horizon);
    expect(await runIds(at)).toEqual(['new', 'old-3']);
    expect(await runIds(at, '--version', '1')).toHaveLength(3);
    const inspected = inspectSchema.parse(await at.ask('inspect', '--org', ORG));
    expect(inspected.manifest).toMatchObject({ policy, horizon: expect.stringMatching(/Z$/), rows: 2 });
    // One of the two stays as it is when only the other is set; a horizon never moves back.
    const off = await set('--retain', 'off');
    expect(off).toMatchObject({ version: 3, policy: { retain_ms: null, time_travel_ms: 7 * DAY } });
    expect(off.horizon).toBe((await show()).horizon);
    const rows = await Promise.all([
      at.runfold('policy', 'set', '--org', ORG),
      at.runfold('policy', 'set', '--org', ORG, '--retain', '90'),
      at.runfold('policy', 'set', '--org', ORG, '--retain', '0d'),
      at.runfold('policy', 'set', '--retain', '1d'),
    ]);
    expect(rows.map(({ code }) => code)).toEqual([2, 2, 2, 2]);
  });

  it('delete', async () => {
    const at = await past();
    await ended(at.world, 'a', 't');
    await at.world.session.recorder.create(ORG, { run_id: 'live' });
    await at.world.compact();
    const args = ['delete', '--org', ORG, '--run'];
    const dry = deleteSchema.parse(await at.ask(...args, 'a', '--dry-run'));
    expect(dry).toMatchObject({ run_id: 'a', dry_run: true, deleted: true, deleted_at: null });
    expect((await runIds(at)).sort()).toEqual(['a', 'live']);
    const refused = await Promise.all(
      ['live', 'nobody'].flatMap((id) => [at.runfold(...args, id), at.runfold(...args, id, '--dry-run')]),
    );
    expect(refused.map(({ code }) => code)).toEqual([1, 1, 1, 1]);
    expect(refused[0]!.stderr).toBe(refused[1]!.stderr);
    expect(refused[2]!.stderr).toBe(refused[3]!.stderr);
    const real = deleteSchema.parse(await at.ask(...args, 'a'));
    expect(real).toMatchObject({ dry_run: false, deleted: true, deleted_at: expect.any(String) });
    expect(await runIds(at)).toEqual(['live']);
    expect(deleteSchema.parse(await at.ask(...args, 'a'))).toMatchObject({ deleted: false });
    await at.ask('compact', '--org', ORG);
    expect(await runIds(at)).toEqual(['live']);
    expect((await at.runfold('verify', '--org', ORG)).code).toBe(0);
  });

  it('repair; it exits with 1 while canonical runs cannot be read', async () => {
    const at = await past();
    for (const n of [1, 2, 3]) await ended(at.world, `run-${n}`, 't');
    await at.world.compact();
    const head = readdirSync(join(at.dir, partsPrefix(ORG)))[0]!;
    flip(join(at.dir, partsPrefix(ORG), head));
    expect((await at.runfold('tables', '--org', ORG)).code).toBe(1);
    const inspected = await at.runfold('inspect', '--org', ORG, '--json');
    expect(inspected.code).toBe(1);
    expect(inspectSchema.parse(JSON.parse(inspected.stdout)).corrupt).toMatchObject([
      { key: `${partsPrefix(ORG)}${head}` },
    ]);
    const dry = repairSchema.parse(await at.ask('repair', '--org', ORG, '--dry-run'));
    expect(dry).toMatchObject({
      dry_run: true,
      version: 2,
      runs: 3,
      discarded: [`${partsPrefix(ORG)}${head}`],
    });
    expect((await at.runfold('tables', '--org', ORG)).code).toBe(1);
    const real = repairSchema.parse(await at.ask('repair', '--org', ORG));
    expect(real).toEqual({ ...dry, dry_run: false });
    expect(await runIds(at)).toHaveLength(3);
    const verified = await at.runfold('verify', '--org', ORG, '--json');
    expect(verifySchema.parse(JSON.parse(verified.stdout))).toMatchObject({ ok: true });

    flip(join(at.dir, runKey(ORG, 'run-2')));
    const broken = await at.runfold('repair', '--org', ORG, '--json');
    expect(broken.code).toBe(1);
    expect(repairSchema.parse(JSON.parse(broken.stdout))).toMatchObject({
      runs: 2,
      unreadable: [{ key: runKey(ORG, 'run-2') }],
    });
    const told = await at.runfold('repair', '--org', ORG, '--dry-run');
    expect(told).toMatchObject({ code: 1, stderr: expect.stringContaining(runKey(ORG, 'run-2')) });
  });
});

function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - 20]! ^= 1;
  writeFileSync(path, bytes);
}

describe('shards', () => {
  it('divide the orgs, by option or by the variables of a job', async () => {
    const dir = tempDir();
    const url = `file:${join(dir, 'store')}?fsync=off`;
    const file = writeEvents(join(dir, 'events.ndjson'), EVENTS);
    const orgs = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const org of orgs)
      await jsonOf(run(RUNFOLD, ['import', 'openlineage', file, '--org', org, '--store', url, '--json']));
    const compacted = async (args: string[], env: Record<string, string> = {}) => {
      const ran = await run(RUNFOLD, ['compact', '--all', '--store', url, '--json', ...args], { env });
      expect(ran).toMatchObject({ code: 0, stderr: '' });
      return compactedSchema
        .array()
        .parse(JSON.parse(ran.stdout))
        .map(({ org_id }) => org_id);
    };
    const shares = await Promise.all([0, 1, 2].map((i) => compacted(['--shard', `${i}/3`])));
    expect(shares.flat().sort()).toEqual(orgs);
    expect(shares.filter((share) => share.length > 0).length).toBeGreaterThan(1);
    for (const i of [0, 2]) {
      const index = String(i);
      expect(await compacted([], { CLOUD_RUN_TASK_INDEX: index, CLOUD_RUN_TASK_COUNT: '3' })).toEqual(
        shares[i],
      );
      expect(await compacted([], { JOB_COMPLETION_INDEX: index, RUNFOLD_SHARD_COUNT: '3' })).toEqual(
        shares[i],
      );
    }
    expect(await compacted(['--shards', '3'], { JOB_COMPLETION_INDEX: '1' })).toEqual(shares[1]);
    expect(await compacted(['--shard', '1/3'], { JOB_COMPLETION_INDEX: '0' })).toEqual(shares[1]);
    // Orgs that were named are all compacted, wherever this runs.
    const named = await run(RUNFOLD, ['compact', '--org', 'a', '--org', 'b', '--store', url, '--json'], {
      env: { CLOUD_RUN_TASK_INDEX: '0', CLOUD_RUN_TASK_COUNT: '500' },
    });
    expect(JSON.parse(named.stdout)).toHaveLength(2);
    const told = await run(RUNFOLD, ['compact', '--all', '--store', url]);
    expect(told.stdout).toMatch(/^ORG .* AMPLIFICATION\n/);
    const wrong = await Promise.all([
      run(RUNFOLD, ['compact', '--shard', '3/3', '--store', url]),
      run(RUNFOLD, ['compact', '--shard', '0/3', '--shards', '3', '--store', url]),
      run(RUNFOLD, ['compact', '--store', url], { env: { JOB_COMPLETION_INDEX: '0' } }),
    ]);
    expect(wrong.map(({ code }) => code)).toEqual([2, 2, 2]);
    expect(wrong[2]!.stderr).toContain('--shards N');
  });

  it('are read strictly', () => {
    expect(parseShard('0/1')).toEqual({ index: 0, count: 1 });
    for (const wrong of ['', '1', '1/1', '-1/2', '0/0', '1/x', '0/3/3'])
      expect(() => parseShard(wrong)).toThrow();
    expect(shardOfTask({})).toBeUndefined();
    expect(() => shardOfTask({ RUNFOLD_SHARD_COUNT: '3' })).toThrow('not which of them');
    expect(() => shardOfTask({ CLOUD_RUN_TASK_INDEX: '0' })).toThrow('how many there are is not known');
    expect(() => shardOfTask({ JOB_COMPLETION_INDEX: '3' }, 2)).toThrow(
      'JOB_COMPLETION_INDEX is "3", which is no shard of 2',
    );
    // Empty is what a template leaves where nothing is set.
    expect(shardOfTask({ JOB_COMPLETION_INDEX: '', CLOUD_RUN_TASK_INDEX: '' })).toBeUndefined();
    expect([7_200_000, 8_400_000, 180_000_000, 1_500].map(exactDuration)).toEqual([
      '2 h',
      '140 min',
      '50 h',
      '1,500 ms',
    ]);
    expect(parseDuration('90m')).toBe(5_400_000);
    for (const wrong of ['', '90', '0d', '1y', '-1d', 'off']) expect(() => parseDuration(wrong)).toThrow();
  });
});

describe('runfold-compactor on a schedule', () => {
  it('sweeps each org it compacts, and orphans in full passes', async () => {
    for (const leftOut of [false, true]) {
      const at = await past();
      const { recorder } = at.world.session;
      await recorder.create(ORG, { run_id: 'late', heartbeat_timeout_ms: 30_000 });
      await recorder.apply(ORG, 'late', { type: 'started', attempt: 1 });
      await recorder.apply(ORG, 'late', {
        type: 'artifact',
        attempt: 1,
        artifact: { type: 'put', operator: 'scan', port: 'out', uri: 'gs://elsewhere/x', ttl_ms: DAY },
      });
      await at.world.session.close();
      const ran = await run(
        COMPACTOR,
        [
          ...[
            '--schedule',
            '* * * * * *',
            '--full-every',
            '1',
            '--json',
            '--store',
            `file:${at.dir}?fsync=off`,
          ],
          ...(leftOut ? ['--no-sweep', '--no-orphans'] : ['--results', 'none']),
        ],
        { onOutput: (stdout, kill) => stdout.includes('\n') && kill('SIGTERM') },
      );
      expect(ran).toMatchObject({ code: 0, stderr: '' });
      const line = JSON.parse(ran.stdout.split('\n')[0]!);
      expect(line).toMatchObject({ org_id: ORG, outcome: 'committed', pass: 1 });
      expect('swept' in line || 'orphans' in line || 'expired' in line).toBe(!leftOut);
      if (!leftOut)
        expect(line).toMatchObject({
          swept: { timed_out: ['late'] },
          expired: { artifacts: [{ run_id: 'late', outcome: 'marked' }] },
          orphans: { orphans: [] },
        });
      const active = runsSchema.parse(await at.ask('active', '--org', ORG));
      expect(active).toHaveLength(leftOut ? 1 : 0);
    }
  });
});

describe('a store that is not there', () => {
  it('is one sentence, exit code 2, and still not there afterwards', async () => {
    const dir = tempDir();
    const missing = join(dir, 'mistyped');
    const org = ['--org', ORG];
    const commands = [
      ...[
        'tables',
        'runs',
        'active',
        'history',
        'inspect',
        'verify',
        'repair',
        'sweep',
        'collect',
        'orphans',
      ].map((name) => [name, ...org]),
      ['lineage', ...org, '--namespace', 'db', '--name', 't'],
      ['policy', 'show', ...org],
      ['compact'],
      ['delete', ...org, '--run', 'a'],
    ];
    const ran = await Promise.all(commands.map((args) => onStore(`file:${missing}`)(...args)));
    for (const { code, stdout, stderr } of ran) {
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(/^error: There is no store at .*mistyped\.\nhint: /);
    }
    expect(existsSync(missing)).toBe(false);
    // An empty directory is an empty store, and stays empty.
    mkdirSync(missing);
    expect(await onStore(`file:${missing}`)('tables', ...org)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`There is no org ${ORG}.`),
    });
    expect(await jsonOf(onStore(`file:${missing}`)('compact', '--json'))).toEqual([]);
    expect(readdirSync(missing)).toEqual([]);
  });

  it('wrong use of the other commands: exit code 2', async () => {
    const runfold = onStore(`file:${tempDir()}`);
    const ran = await Promise.all([
      runfold('collect'),
      runfold('orphans', '--org', ORG, '--all'),
      runfold('sweep', '--all', '--age', 'soon'),
      runfold('repair'),
      runfold('delete', '--org', ORG),
      runfold('delete', '--org', ORG, '--run', 'a/b'),
      runfold('history', '--org', ORG, '--limit', '0'),
    ]);
    expect(ran.map(({ code }) => code)).toEqual(ran.map(() => 2));
  });
});

it('a chain of small calls to a file store lets timers and signals through', async () => {
  const store = await openFileStore(tempDir(), { fsync: false });
  let stopped = false;
  setTimeout(() => {
    stopped = true;
  }, 1);
  let calls = 0;
  for (; !stopped && calls < 1_000_000; calls++) await store.head('absent');
  expect(stopped).toBe(true);
  await store.close();
});

it('one org that fails does not stop the others, and shows in the exit code', async () => {
  const at = await past();
  await ended(at.world, 'a', 't');
  await at.world.compact();
  await at.world.session.recorder.create('broken', { run_id: 'a' });
  await at.world.compact('broken');
  flip(join(at.dir, manifestKey('broken')));
  for (const command of ['collect', 'orphans', 'sweep']) {
    const ran = await at.runfold(command, '--all', '--json');
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout)).toMatchObject([
      { org_id: ORG },
      { org_id: 'broken', outcome: 'failed', code: 'CORRUPT' },
    ]);
    const told = await at.runfold(command, '--all');
    expect(told.stderr).toContain('failed: org broken: ');
  }
});
