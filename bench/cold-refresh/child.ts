import { systemClock } from '../../src/core/clock.ts';
import { seededRandom } from '../../src/core/random.ts';
import type { Projection } from '../../src/runs/projection.ts';
import type { LatencyProfile } from '../../src/store/latency.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { Rival } from '../rivals/rival.ts';

/** What a fresh process is told: as JSON in its only argument. */
export interface Asked {
  /** Its module in bench/rivals, and its name there. */
  module: string;
  rival: string;
  orgId: string;
  store: { dir: string } | { bucket: string; endpoint: string };
  /** Null: the store is as slow as it is. */
  latency: { profile: LatencyProfile; seed: number } | null;
  /** Tell all rows too: for a check, which is not timed. */
  withRows?: boolean;
}

export interface Told {
  rows: number;
  /** Of the refresh alone, opening its store included. */
  refreshMs: number;
  /** Since the process began, by its own clock. */
  insideMs: number;
  /** Null where they were not asked for. */
  projections: Projection[] | null;
}

async function main(): Promise<void> {
  const asked = JSON.parse(process.argv[2]!) as Asked;
  const exported = (await import(`../rivals/${asked.module}.ts`)) as Record<string, Rival>;
  const rival = exported[asked.rival]!;
  const began = performance.now();
  const store = await open(asked);
  const answer = await rival.refresh(store, asked.orgId, systemClock);
  const now = performance.now();
  const projections = asked.withRows === true ? await answer.projections() : null;
  const told: Told = { rows: answer.rows, refreshMs: now - began, insideMs: now, projections };
  process.stdout.write(`${JSON.stringify(told)}\n`);
  await store.close();
}

/** Whoever needs no adapter does not load it. */
async function open({ store, latency: slow }: Asked): Promise<ObjectStore> {
  if ('endpoint' in store) {
    const { openGcsStore } = await import('../../src/store/gcs.ts');
    return openGcsStore(store);
  }
  const { openFileStore } = await import('../../src/store/file.ts');
  const file = await openFileStore(store.dir, { fsync: false, create: false });
  if (slow === null) return file;
  const { latency } = await import('../../src/store/latency.ts');
  return latency(file, { profile: slow.profile, clock: systemClock, random: seededRandom(slow.seed) });
}

if (process.argv[1] === import.meta.filename) await main();
