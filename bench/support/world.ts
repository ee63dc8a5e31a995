import { type Compacted, compactOrg } from '../../compactor/compact.ts';
import type { CompactorContext } from '../../compactor/context.ts';
import { openCompactor } from '../../compactor/open.ts';
import type { Clock } from '../../src/core/clock.ts';
import type { Limits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { LogWriter } from '../../src/log/append.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { openSession } from '../../src/session.ts';
import { partCodec } from '../../src/snapshot/codec.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { realisticRows } from './rows.ts';

/** A clock that the bench moves on. */
export interface BenchClock extends Clock {
  skip(ms: number): void;
}

/** A writer and a compactor on one store, both seeded. */
export interface BenchWorld {
  store: ObjectStore;
  clock: BenchClock;
  compactor: CompactorContext;
  /** Appends in entries of `perEntry` records, each acknowledged before the next. */
  append(orgId: string, rows: readonly Projection[], perEntry: number): Promise<void>;
  fold(orgId: string): Promise<Compacted>;
}

export async function benchWorld(
  store: ObjectStore,
  clock: BenchClock,
  options: { limits?: Partial<Limits>; seed?: number } = {},
): Promise<BenchWorld> {
  const session = openSession(store, {
    clock,
    random: seededRandom(options.seed ?? 1),
    limits: { batchRecordsMax: 1_000_000, batchBytesMax: Number.POSITIVE_INFINITY, ...options.limits },
  });
  const log = new LogWriter(session.store, session);
  const compactor = await openCompactor(session);
  // The default codec's library loads now, not inside a measurement.
  await partCodec();
  return {
    store,
    clock,
    compactor,
    async append(orgId, rows, perEntry) {
      for (let i = 0; i < rows.length; i += perEntry) {
        const batch = rows.slice(i, i + perEntry);
        await log.append(
          orgId,
          batch.map((row) => ({ kind: 'put', row })),
        );
      }
      await log.idle();
    },
    fold: (orgId) => compactOrg(compactor, orgId),
  };
}

export interface OrgSize {
  orgId: string;
  runs: number;
  tables: number;
  /** Records that one fold takes; as many as `runs` unless told. */
  foldRecords?: number;
  seed?: number;
  /** Active runs are among the newest this many. */
  activeAmong?: number;
}

const PER_ENTRY = 1_000;
/** Longer than every grace but that of parts, and than the age at which rows may be sealed. */
const BETWEEN_FOLDS_MS = 20 * 60_000;

/** The org's runs in their order, in batches of one fold. The same size gives the same runs. */
export function* batchesOf(size: OrgSize, endAt: number): Generator<Projection[], void, void> {
  const { orgId, runs, tables, seed = 1, activeAmong = 10_000 } = size;
  const foldRecords = Math.min(size.foldRecords ?? runs, runs);
  const everyMs = 30_000;
  for (let done = 0; done < runs; done += foldRecords) {
    const count = Math.min(foldRecords, runs - done);
    const left = runs - done - count;
    yield realisticRows({
      orgId,
      count,
      seed: seed * 1_000_003 + done,
      endAt: endAt - left * everyMs,
      everyMs,
      tables,
      activeAmong: Math.max(0, activeAmong - left),
    });
  }
}

/** Builds an org's snapshot through ordinary folds of its log; then nothing is in the log any more. */
export async function buildOrg(
  world: BenchWorld,
  size: OrgSize,
  onFold: (folded: Compacted, done: number) => void = () => undefined,
): Promise<void> {
  let done = 0;
  for (const batch of batchesOf(size, world.clock.now() - BETWEEN_FOLDS_MS)) {
    await world.append(size.orgId, batch, PER_ENTRY);
    world.clock.skip(BETWEEN_FOLDS_MS);
    const folded = await world.fold(size.orgId);
    if (folded.outcome !== 'committed') throw new Error(`A fold was ${folded.outcome}.`);
    done += batch.length;
    onFold(folded, done);
  }
  world.clock.skip(BETWEEN_FOLDS_MS);
  await world.fold(size.orgId);
  world.clock.skip(BETWEEN_FOLDS_MS);
}

/** Newer revisions of some runs, and some new ones: what a tail holds. */
export function tailOf(size: OrgSize, count: number, endAt: number, seed = 7): Projection[] {
  const fresh = realisticRows({
    orgId: size.orgId,
    count,
    seed: (size.seed ?? 1) * 7_919 + seed,
    endAt,
    everyMs: 1_000,
    tables: size.tables,
  });
  return fresh.map((row) => ({ ...row, revision: row.revision + 100 }));
}
