import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { beforeAll, describe, expect, it } from 'vitest';
import { archiveOrg } from '../../compactor/archive.ts';
import { openFileStore } from '../../src/store/file.ts';
import { archivesPrefix, chunksPrefix } from '../../src/store/keys.ts';
import { changeWork } from '../../src/traces/work.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { archiveOf } from '../support/runs.ts';
import { type World, worldOn } from '../support/world.ts';
import {
  archiveSchema,
  policySchema,
  policySetSchema,
  traceShowSchema,
  traceVerifySchema,
} from './contract.ts';
import { COMPACTOR, jsonOf, onStore, RUNFOLD, run, tempDir } from './support.ts';

const ORG = 'acme';
const DAY = 86_400_000;
const LOG = 'one\ntwo\nthree\n';

describe('logs on the command line', () => {
  let world: World;
  let runfold: ReturnType<typeof onStore>;
  let ask: (...args: string[]) => Promise<unknown>;
  const log = ['--org', ORG, '--run', 'run-1'];

  beforeAll(async () => {
    const dir = `${tempDir()}/store`;
    const clock = new FakeClock(Date.now() - DAY);
    world = await worldOn(await openFileStore(dir, { clock, fsync: false }), { clock });
    runfold = onStore(`file:${dir}?fsync=off`);
    ask = (...args) => jsonOf(runfold(...args, '--json'));
    const { recorder, traces } = world.session;
    await recorder.create(ORG, { run_id: 'run-1' });
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 0, body: Buffer.from(LOG.slice(0, 5)) });
    await traces.append(ORG, 'run-1', { attempt: 1, offset: 5, body: Buffer.from(LOG.slice(5)) });
    await recorder.apply(ORG, 'run-1', { type: 'succeeded', attempt: 1 });
  });

  const showsIt = async (status: string) => {
    const [whole, range, followed, shown, verified] = await Promise.all([
      runfold('trace', 'show', ...log),
      runfold('trace', 'show', ...log, '--from', '4', '--to', '7'),
      runfold('trace', 'follow', ...log, '--from', '8'),
      ask('trace', 'show', ...log, '--from', '8'),
      ask('trace', 'verify', '--org', ORG),
    ]);
    expect([whole.stdout, range.stdout, followed.stdout]).toEqual([LOG, 'two', 'three\n']);
    const state = { status, attempt: 1, offset: 8, text: 'three\n', ended: true };
    expect(traceShowSchema.parse(shown)).toMatchObject(state);
    const traces = [{ status, bytes: LOG.length, problems: [] }];
    expect(traceVerifySchema.parse(verified)).toMatchObject({ ok: true, traces });
  };

  it('show, follow and verify, live', () => showsIt('live'));

  it('archive: --dry-run first, then in earnest; the log reads the same', async () => {
    const waits = archiveSchema.parse(await ask('archive', '--org', ORG, '--dry-run'));
    expect(waits).toMatchObject([{ dry_run: true, archived: 1, waiting: 0 }]);
    expect((await world.store.list({ prefix: chunksPrefix(ORG) })).items).toHaveLength(2);
    const told = await runfold('archive', '--all');
    expect([told.code, told.stdout]).toEqual([0, expect.stringMatching(/^logs: org acme: 1 log archived/)]);
    expect((await world.store.list({ prefix: chunksPrefix(ORG) })).items).toEqual([]);
    expect(archiveSchema.parse(await ask('archive', '--org', ORG))).toMatchObject([
      { archived: 0, waiting: 0 },
    ]);
    await showsIt('archived');
  });

  it('an archive that is wrong is not shown, and verify says so', async () => {
    const [meta] = (await world.store.list({ prefix: archivesPrefix(ORG) })).items;
    const got = await world.store.get(meta!.key);
    if (got.outcome !== 'found') throw new Error('no archive');
    await world.store.put(meta!.key, Buffer.concat([got.body, Buffer.from('x')]));
    const shown = await runfold('trace', 'show', ...log);
    expect([shown.code, shown.stdout]).toEqual([1, '']);
    expect(shown.stderr).toMatch(/is corrupt: the store holds other bytes/);
    const verified = await runfold('trace', 'verify', ...log, '--json');
    expect(verified.code).toBe(1);
    expect(traceVerifySchema.parse(JSON.parse(verified.stdout)).ok).toBe(false);
    await world.store.put(meta!.key, got.body);
  });

  it('what is missing from an archive is told, by show and by verify', async () => {
    const { recorder } = world.session;
    const archived = (status: 'partial' | 'lost', gaps: { offset: number; bytes: number }[]) => ({
      ...archiveOf({ uri: null }),
      status,
      bytes: 0,
      lines: 0,
      gaps,
      gap_count: gaps.length,
      gap_bytes: gaps.reduce((sum, gap) => sum + gap.bytes, 0),
    });
    for (const [run_id, archive] of [
      ['holey', archived('partial', [{ offset: 4, bytes: 7 }])],
      ['gone', archived('lost', [])],
      ['rotten', archived('lost', [{ offset: 0, bytes: 30 }])],
    ] as const) {
      await recorder.create(ORG, { run_id });
      await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
      await recorder.apply(ORG, run_id, { type: 'trace_archived', attempt: 1, archive, imported: true });
    }
    const shown = await runfold('trace', 'show', '--org', ORG, '--run', 'holey');
    expect(shown.stderr).toContain('7 bytes at offset 4 are missing from the log');
    const gaps = [{ offset: 4, bytes: 7 }];
    const value = await ask('trace', 'show', '--org', ORG, '--run', 'holey');
    expect(traceShowSchema.parse(value)).toMatchObject({ status: 'partial', gaps });
    const lost = await runfold('trace', 'show', '--org', ORG, '--run', 'gone');
    expect([lost.stdout, lost.stderr]).toEqual(['', expect.stringContaining('the log is lost')]);
    const verified = await runfold('trace', 'verify', '--org', ORG);
    expect(verified.stdout).toContain('holey, attempt 1: partial when it was archived: 7 B are missing');
    expect(verified.stdout).toContain('gone, attempt 1: lost when it was archived: nothing of it was left');
    expect(verified.stdout).toContain('rotten, attempt 1: lost when it was archived: none of its 30 B could');
    expect(verified.stdout).toContain('3 partial or lost, 0 problems');
    expect([verified.code, verified.stderr]).toEqual([1, expect.stringContaining('--allow-partial')]);
    const strict = await runfold('trace', 'verify', '--org', ORG, '--json');
    const counts = { ok: false, partial: 1, lost: 2 };
    expect(traceVerifySchema.parse(JSON.parse(strict.stdout))).toMatchObject(counts);
    const allowed = await ask('trace', 'verify', '--org', ORG, '--allow-partial');
    expect(traceVerifySchema.parse(allowed)).toMatchObject({ ...counts, ok: true });
  });

  it('the policy says how long archives are kept', async () => {
    const set = ['policy', 'set', '--org', ORG, '--trace-retain', '48h'];
    expect(policySetSchema.parse(await ask(...set))).toMatchObject({
      policy: { trace_retain_ms: 2 * DAY },
    });
    expect(policySchema.parse(await ask('policy', 'show', '--org', ORG))).toMatchObject({
      policy: { trace_retain_ms: 2 * DAY },
    });
  });

  it('a range behind the end says so; a budget may be short', async () => {
    const [beyond, budget] = await Promise.all([
      runfold('trace', 'show', ...log, '--from', '99'),
      runfold('archive', '--org', ORG, '--budget', '10ms'),
    ]);
    expect([beyond.stdout, beyond.stderr]).toEqual([
      '',
      expect.stringContaining('nothing is at byte 99: the log has 14 bytes'),
    ]);
    expect(budget.stderr).not.toContain('not a duration');
  });

  it('what cannot be is one clear error', async () => {
    const wrong = [
      [['trace', 'show', '--org', ORG, '--run', 'nobody'], 1, /There is no such run/],
      [['trace', 'show', '--org', ORG, '--run', '../x'], 2, /run id/],
      [['trace', 'show', ...log, '--attempt', '7'], 1, /has left no log/],
      [['trace', 'verify', '--org', ORG, '--run', 'nobody'], 1, /no run nobody/],
      [['trace', 'show', ...log, '--from', '5', '--to', '3'], 2, /--from 5 does not lie before --to 3/],
      [['trace', 'show', '--org', 'nope', '--run', 'run-1'], 2, /There is no org nope/],
      [['trace', 'verify', '--org', 'nope'], 2, /There is no org nope/],
      [['trace', 'import', tmpdir(), '--org', ORG], 2, /is a directory/],
      [['trace', 'purge', tmpdir(), '--org', ORG], 2, /is a directory/],
      [['archive'], 2, /No org was named/],
      [['archive', '--all', '--trace-window', '7d'], 2, /\(168 h\) must be shorter than its chunks live/],
      [['archive', '--all', '--trace-window', '1s'], 2, /too short/],
      [['archive', '--all', '--trace-attempts', '0'], 2, /whole number from 1 on/],
      [['serve', '--dev', '--trace-window', '8d'], 2, /must be shorter/],
      [
        ['policy', 'set', '--org', ORG, '--trace-retain', '1s'],
        2,
        /logs cannot be kept for 1 s only: .* 48 h/,
      ],
      [['policy', 'set', '--org', ORG, '--trace-retain', '50h', '--trace-window', '3d'], 2, /72 h/],
      [['policy', 'set', '--org', ORG, '--retain', '1m'], 2, /Runs cannot be kept for 60 s only/],
      [['policy', 'set', '--org', ORG, '--time-travel', '1s'], 2, /Old versions cannot/],
    ] as const;
    await Promise.all(
      wrong.map(async ([args, code, message]) => {
        const ran = await runfold(...args);
        expect([ran.code, ran.stdout]).toEqual([code, '']);
        expect(ran.stderr).toMatch(message);
      }),
    );
  });
});

describe('tries to archive', () => {
  it('attempts and window are options; what waits is told by why', async () => {
    const dir = `${tempDir()}/store`;
    const clock = new FakeClock(Date.now() - DAY);
    const world = await worldOn(await openFileStore(dir, { clock, fsync: false }), { clock });
    const runfold = onStore(`file:${dir}?fsync=off`);
    const ask = (...args: string[]) => jsonOf(runfold(...args, '--json'));
    const storeArgs = ['--store', `file:${dir}?fsync=off`];
    const { recorder, traces } = world.session;
    for (const run_id of ['tries', 'window', 'fresh']) {
      await recorder.create(ORG, { run_id });
      await traces.append(ORG, run_id, { attempt: 1, offset: 4, body: Buffer.from('two\n') });
    }
    for (const run_id of ['tries', 'window'])
      await recorder.apply(ORG, run_id, { type: 'succeeded', attempt: 1 });
    await clock.advance(20 * 60_000);
    // The first try, a day ago, and its last two back-offs are over.
    await archiveOrg(world.compactor, ORG, recorder);
    const now = Date.now();
    await clock.advance(now - clock.now());
    await recorder.apply(ORG, 'fresh', { type: 'succeeded', attempt: 1 });
    for (const dryRun of [['--dry-run'], []]) {
      const tried = await runfold('archive', '--org', ORG, '--json', ...dryRun);
      expect(tried.code).toBe(1);
      expect(archiveSchema.parse(JSON.parse(tried.stdout))).toMatchObject([
        { partial: 0, waiting: 3, due: 0, backing_off: 2, settling: 1, claimed: 0 },
      ]);
    }
    const told = await runfold('archive', '--org', ORG, '--dry-run');
    expect(told.stdout).toMatch(/WAITING +DUE +CLAIMED +BACKING OFF +SETTLING/);
    expect(told.stdout).toContain('3 runs waiting (2 backing off, 1 settling)');
    const due = async (...runIds: string[]) =>
      changeWork(world.session, ORG, now, (before) => {
        const entries = { ...before.entries };
        for (const id of runIds) entries[id] = { ...entries[id]!, attempts: 1, next_at: 0 };
        return { ...before, entries };
      });
    await due('tries');
    expect(await ask('archive', '--org', ORG, '--trace-attempts', '1')).toMatchObject([{ partial: 1 }]);
    await due('window');
    const env = { RUNFOLD_TRACE_WINDOW: '1h', RUNFOLD_TRACE_ATTEMPTS: '' };
    const inTime = await run(COMPACTOR, ['--once', '--all', '--no-archive', ...storeArgs], { env });
    expect(inTime.code).toBe(0);
    const lately = await run(RUNFOLD, ['archive', '--org', ORG, '--json', ...storeArgs], { env });
    expect(JSON.parse(lately.stdout)).toMatchObject([{ partial: 1, waiting: 1 }]);
    const wrong = await run(COMPACTOR, ['--once', ...storeArgs], { env: { RUNFOLD_TRACE_WINDOW: '8d' } });
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('must be shorter')]);
    // Not even the store can tell what it holds.
    writeFileSync(`${dir}/traces/orgs/acme/work.json`, 'rot');
    const rotten = await runfold('archive', '--org', ORG);
    expect([rotten.code, rotten.stderr]).toEqual([
      1,
      expect.stringMatching(/work.json could not be read: it was/),
    ]);
    expect(archiveSchema.parse(await ask('archive', '--org', ORG))).toMatchObject([{ work_renewed: false }]);
  });
});
