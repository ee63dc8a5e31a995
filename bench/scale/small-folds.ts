import { type FoldPolicy, foldPolicy } from '../../compactor/due.ts';
import { compactPass } from '../../compactor/pass.ts';
import { defaultLimits } from '../../src/core/limits.ts';
import { readManifest } from '../../src/manifest/manifest-store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { SkippingClock } from '../support/clock.ts';
import { type BenchWorld, benchWorld, buildOrg, type OrgSize, tailOf } from '../support/world.ts';

export interface SmallFolds {
  about: string;
  records: number;
  recordsPerPass: number;
  folds: number;
  /** Rows written per record, history included, by an org whose head is full. */
  writeAmplification: number;
  /** Of the longest tail that a pass left, records. */
  tailRecordsMax: number;
}

const PASS_MS = 60_000;
const PER_ENTRY = 20;

/** For who would rather spare the compactor than the reader: docs/adr/0010-folds-that-are-worth-it.md. */
const LONG_TAILS: FoldPolicy = { afterMs: 2 * 3_600_000, entries: 900, records: 8_000 };

/** An org with a full head is fed a little before each of many passes: what each way to decide about folds writes. */
export async function measureSmallFolds(options: {
  headRows: number;
  records: number;
  recordsPerPass: number;
  seed: number;
}): Promise<SmallFolds[]> {
  const { headRows, seed } = options;
  const clock = new SkippingClock();
  const world = await benchWorld(new MemoryStore({ clock }), clock, { seed });
  const size: OrgSize = { orgId: 'acme', runs: 2 * headRows, tables: 1_000, foldRecords: headRows, seed };
  await buildOrg(world, size);
  const ways: [string, FoldPolicy | undefined][] = [
    ['every pass folds', undefined],
    ['folds that are worth it', foldPolicy(defaultLimits)],
    ['folds from 8 000 records on', LONG_TAILS],
  ];
  const figures: SmallFolds[] = [];
  for (const [about, fold] of ways)
    figures.push(await feed(world, size, options, about, fold, figures.length));
  return figures;
}

async function feed(
  world: BenchWorld,
  size: OrgSize,
  { records, recordsPerPass }: { records: number; recordsPerPass: number },
  about: string,
  fold: FoldPolicy | undefined,
  turn: number,
): Promise<SmallFolds> {
  const { clock, compactor } = world;
  const before = await rowsWritten(world, size.orgId);
  let [folds, tail, tailRecordsMax] = [0, 0, 0];
  const pass = async () => {
    const [result] = await compactPass(compactor, { orgs: [size.orgId], fold });
    if (result?.outcome === 'failed') throw new Error(`A fold failed: ${result.message}`);
    if (result?.outcome === 'committed') [folds, tail] = [folds + 1, 0];
    tailRecordsMax = Math.max(tailRecordsMax, tail);
  };
  for (let done = 0; done < records; done += recordsPerPass) {
    const rows = tailOf(size, recordsPerPass, clock.now() - PASS_MS, 1 + turn * records + done);
    await world.append(size.orgId, rows, PER_ENTRY);
    tail += recordsPerPass;
    clock.skip(PASS_MS);
    await pass();
  }
  // What is left is folded too: all ways have written the same records.
  if (tail > 0) folds += (await world.fold(size.orgId)).outcome === 'committed' ? 1 : 0;
  const written = (await rowsWritten(world, size.orgId)) - before;
  clock.skip(PASS_MS);
  return { about, records, recordsPerPass, folds, writeAmplification: written / records, tailRecordsMax };
}

async function rowsWritten({ store }: BenchWorld, orgId: string): Promise<number> {
  const current = await readManifest(store, orgId);
  if (current === 'unchanged' || current.manifest === null) throw new Error('There is no manifest.');
  return current.manifest.totals.rows_written;
}
