import { beforeAll, describe, expect, it } from 'vitest';
import { openFileStore } from '../../src/store/file.ts';
import { archivesPrefix, chunksPrefix } from '../../src/store/keys.ts';
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
import { jsonOf, onStore, tempDir } from './support.ts';

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
    expect(verified.stdout).toContain('2 partial or lost');
  });

  it('the policy says how long archives are kept', async () => {
    const set = ['policy', 'set', '--org', ORG, '--trace-retain', '1h'];
    expect(policySetSchema.parse(await ask(...set))).toMatchObject({
      policy: { trace_retain_ms: 3_600_000 },
    });
    expect(policySchema.parse(await ask('policy', 'show', '--org', ORG))).toMatchObject({
      policy: { trace_retain_ms: 3_600_000 },
    });
  });

  it('what cannot be is one clear error', async () => {
    const wrong = [
      [['trace', 'show', '--org', ORG, '--run', 'nobody'], 1, /There is no such run/],
      [['trace', 'show', '--org', ORG, '--run', '../x'], 2, /run id/],
      [['trace', 'show', ...log, '--attempt', '7'], 1, /has left no log/],
      [['trace', 'verify', '--org', ORG, '--run', 'nobody'], 1, /no run nobody/],
      [['archive'], 2, /No org was named/],
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
