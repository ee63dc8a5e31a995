import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { openCompactor } from '../../../compactor/open.ts';
import { systemClock } from '../../core/clock.ts';
import { openSession } from '../../session.ts';
import { openStore } from '../../store/open.ts';
import { counted, duration } from '../format.ts';
import { inspectOrg } from '../inspection.ts';
import type { Output } from '../output.ts';
import { fill } from './filling.ts';
import { coldRefresh, flatScan } from './measure.ts';
import { BATCH_WAIT_MS } from './recording.ts';
import { type DemoResult, jsonOf, showResult } from './report.ts';
import { Steps } from './steps.ts';
import { ORGS } from './world.ts';

export interface DemoOptions {
  size: number;
  seed: number;
  keep?: boolean;
}

/** Makes two orgs, asks one question in two ways, and tells. False when the answers differ. */
export async function demo(output: Output, options: DemoOptions, signal: AbortSignal): Promise<boolean> {
  const began = systemClock.monotonic();
  const dir = await mkdtemp(join(tmpdir(), 'runfold-demo-'));
  output.line(`File store in ${dir}, fsync=off: nothing here has to outlive a power cut.\n`);
  try {
    const result = await play(`file:${dir}?fsync=off`, new Steps(output), options, signal);
    output.value(jsonOf(result));
    if (!output.json) showResult(output, result);
    if (options.keep) output.line(`\nKept: RUNFOLD_STORE=file:${dir}`);
    output.line(`\n${duration(systemClock.monotonic() - began)} in all.`);
    return result.equal;
  } finally {
    if (!options.keep) await rm(dir, { recursive: true, force: true });
  }
}

async function play(
  url: string,
  steps: Steps,
  options: DemoOptions,
  signal: AbortSignal,
): Promise<DemoResult> {
  const org = ORGS[0]!;
  const store = await openStore(url);
  try {
    const session = openSession(store, { limits: { batchWaitMs: BATCH_WAIT_MS } });
    const transitions = await fill(session, steps, { runs: options.size, seed: options.seed }, signal);
    await session.close();
    const scanned = (which: 'all' | 'org', runs: string) =>
      steps.run(
        'Flat scan',
        String,
        () => flatScan(url, org.id, which, signal),
        ({ cost }) => `${runs}: ${counted(cost.requests, 'request')}`,
      );
    const all = await scanned('all', 'every canonical run');
    const ofOrg = await scanned('org', `the canonical runs of ${org.id}`);
    const refresh = await steps.run(
      'Refresh',
      String,
      () => coldRefresh(url, org.id, signal),
      ({ cost }) => `by runfold, cold: ${counted(cost.requests, 'request')}`,
    );
    const { tail } = await inspectOrg(await openCompactor(session), org.id, { signal });
    return {
      org: org.id,
      runs: options.size,
      transitions,
      rows: refresh.catalog.stats.rows,
      log: { entries: refresh.catalog.stats.tailEntries, unfolded: tail.entries },
      flatScan: all.cost,
      flatScanOfOrg: ofOrg.cost,
      refresh: refresh.cost,
      equal: isDeepStrictEqual(all.tables, refresh.tables) && isDeepStrictEqual(ofOrg.tables, refresh.tables),
      tables: refresh.tables,
      active: refresh.catalog.active(),
      showpiece: org.showpiece,
      lineage: refresh.catalog.lineage({ table: org.showpiece, direction: 'both' }),
    };
  } finally {
    await store.close();
  }
}
