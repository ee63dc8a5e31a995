import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { seededRandom, uniform } from '../../src/core/random.ts';
import { openRunStore } from '../../src/runs/open.ts';
import { openSession } from '../../src/session.ts';
import { openStore } from '../../src/store/open.ts';
import { jsonOf, RUNFOLD, run, tempDir } from '../cli/support.ts';
import { wholeRun } from '../runs/run-store-objects.ts';
import { dataset } from '../support/runs.ts';

const RUNS = 900;
const KILLS = 5;

/** `kill -9` of a whole process, at random times, while writers in this one go on. */
describe('runfold backfill', () => {
  it('killed again and again and resumed beside writers, it ends with no drift', async () => {
    const url = `file:${join(tempDir(), 'store')}?fsync=off`;
    const store = await openStore(url);
    const session = openSession(store);
    const runs = await openRunStore(undefined, { store });
    const now = Date.now();
    for (let start = 0; start < RUNS; start += 50) {
      await Promise.all(
        Array.from({ length: 50 }, (_, i) => {
          const n = start + i;
          const org_id = n % 10 === 0 ? 'beta' : 'acme';
          const at = now - 86_400_000 + n;
          return runs.create(
            wholeRun({
              org_id,
              run_id: `r${n}`,
              status: 'SUCCEEDED',
              created_at: at,
              updated_at: at,
              indexed_at: at,
              finished_at: at,
              outputs: [dataset(`t${n % 5}`)],
            }),
          );
        }),
      );
    }
    const backfilling = ['backfill', '--unit', '100', '--store', url, '--json'];
    const random = seededRandom(7);
    let written = 0;
    let writing = true;
    const writer = (async () => {
      for (; writing; written++) {
        await session.recorder.create('acme', { run_id: `new-${written}` });
        await session.recorder.apply('acme', `new-${written}`, { type: 'started', attempt: 1 });
        await sleep(20);
      }
    })();
    let killed = 0;
    for (let i = 0; i < KILLS; i++) {
      const child = spawn(process.execPath, [RUNFOLD, ...backfilling], { stdio: 'ignore' });
      const ended = new Promise<NodeJS.Signals | null>((resolve) =>
        child.once('exit', (_, by) => resolve(by)),
      );
      const timer = setTimeout(() => child.kill('SIGKILL'), 250 + 350 * uniform(random));
      if ((await ended) === 'SIGKILL') killed++;
      clearTimeout(timer);
    }
    const done = (await jsonOf(run(RUNFOLD, backfilling))) as {
      scanned: number;
      complete: boolean;
      failed: unknown[];
    };
    writing = false;
    await writer;
    expect(killed).toBeGreaterThan(2);
    expect(done).toMatchObject({ complete: true, failed: [] });
    expect(done.scanned).toBeGreaterThanOrEqual(RUNS);
    const reconciled = await jsonOf(run(RUNFOLD, ['reconcile', '--full', '--store', url, '--json']));
    expect(reconciled).toMatchObject({ drift: [], failed: [], complete: true, scanned: RUNS + written });
    expect(await run(RUNFOLD, ['verify', '--store', url])).toMatchObject({ code: 0 });
    await session.close();
    await store.close();
  }, 60_000);
});
