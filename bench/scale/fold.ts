import { openCatalog } from '../../src/catalog/catalog.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { SkippingClock } from '../support/clock.ts';
import { cpuMs } from '../support/cpu.ts';
import { profiled } from '../support/profile.ts';
import { type Spread, spread } from '../support/report.ts';
import { type BenchWorld, benchWorld, buildOrg, type OrgSize, tailOf } from '../support/world.ts';

export interface FoldFigure {
  headRows: number;
  tailRecords: number;
  entries: number;
  /** Of all threads, ms: find, read, decode, merge, check, encode, write and commit; without the store's time. */
  cpuMs: Spread;
  /** The same of the one thread that computes, mean: collecting garbage and compiling have threads of their own. */
  threadCpuMs: number;
  rowsPerSecond: number;
  profile: string[];
}

const PER_ENTRY = 20;
const WARMUPS = 10;

/** Whole folds of one tail into one head on a store in memory. */
export async function measureFold(options: {
  headRows: number;
  tailRecords: number;
  rounds: number;
  seed: number;
  profile: boolean;
}): Promise<FoldFigure> {
  const { headRows, tailRecords, rounds, seed } = options;
  const clock = new SkippingClock();
  const world = await benchWorld(new MemoryStore({ clock }), clock, { seed });
  const size: OrgSize = { orgId: 'acme', runs: headRows, tables: 1_000, seed };
  await buildOrg(world, size);
  const samples: number[] = [];
  let threadMs = 0;
  const all = async () => {
    for (let round = -WARMUPS; round < rounds; round++) {
      await world.append('acme', await newerRuns(world, size, tailRecords, round), PER_ENTRY);
      clock.skip(60_000);
      globalThis.gc?.();
      const beforeThread = cpuMs();
      const before = process.cpuUsage();
      const folded = await world.fold('acme');
      const { user, system } = process.cpuUsage(before);
      const thread = cpuMs() - beforeThread;
      if (folded.outcome !== 'committed' || folded.records !== tailRecords || folded.rows !== headRows)
        throw new Error(`A fold was ${JSON.stringify(folded)}.`);
      if (round >= 0) {
        samples.push((user + system) / 1_000);
        threadMs += thread;
      }
      // The next one finds a log without what this one folded.
      clock.skip(20 * 60_000);
      await world.fold('acme');
    }
  };
  let notes: string[] = [];
  if (options.profile) notes = (await profiled('fold', all)).notes;
  else await all();
  const spent = spread(samples);
  return {
    headRows,
    tailRecords,
    entries: tailRecords / PER_ENTRY,
    cpuMs: spent,
    threadCpuMs: threadMs / rounds,
    rowsPerSecond: headRows / (spent.median / 1_000),
    profile: notes,
  };
}

/** Newer revisions of runs that are in the head, spread over it: every record replaces a row. */
async function newerRuns(world: BenchWorld, size: OrgSize, count: number, round: number) {
  const org = await openCatalog(world.store, { clock: world.clock }).org(size.orgId).refresh();
  const { base } = org.state;
  const every = Math.floor(base.length / count);
  return tailOf(size, count, world.clock.now() - 60_000, round + WARMUPS).map((row, i) => {
    const at = i * every + ((round + WARMUPS) % every);
    return { ...row, run_id: base.runId(at), revision: base.revision(at) + 1 };
  });
}
