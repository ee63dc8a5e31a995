import { createHash } from 'node:crypto';
import type { Clock } from '../src/core/clock.ts';
import { throwIfAborted } from '../src/core/clock.ts';
import { mapParallel } from '../src/core/concurrency.ts';
import { errorMessage, StoreError } from '../src/core/errors.ts';
import type { Limits } from '../src/core/limits.ts';
import { encodeRun, encodeRunWithin, type Run } from '../src/runs/run.ts';
import type { RunStore, ScannedRun } from '../src/runs/run-store.ts';
import { Pace } from './backfill-pace.ts';

export interface MigrateOptions {
  orgId?: string | undefined;
  dryRun?: boolean | undefined;
  ratePerSecond?: number | undefined;
  /** Compare both ways and write nothing. */
  verifyOnly?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((migrated: Migrated) => void) | undefined;
}

export interface Migrated {
  scanned: number;
  copied: number;
  /** The same revision and the same hash. */
  unchanged: number;
  /** The target is at a higher revision: it takes writes already, and keeps them. */
  newer: number;
  /** The same revision, another content: both sides were written on their own. Nothing was changed. */
  conflicts: { run: string; revision: number }[];
  /** With `verifyOnly`: in the source and not, or older, in the target; and the other way round. */
  missing: string[];
  extra: string[];
  failed: { key: string; reason: string }[];
  /** Keys of older deployments without an org: passed over. `backfill` brings such runs in. */
  flat: number;
}

/**
 * Copies canonical runs from one run store to another, tokens aside as they are. Idempotent; both sides may be
 * written meanwhile: a higher revision in the target is never replaced. What was written is read back and compared by
 * revision and hash. Costs one read of each run on both sides, and a write and a read for each that is copied.
 */
export async function migrate(
  from: RunStore,
  to: RunStore,
  { clock, limits }: { clock: Clock; limits: Limits },
  options: MigrateOptions = {},
): Promise<Migrated> {
  const { orgId, signal } = options;
  const pace = new Pace(clock, options.ratePerSecond);
  const migrated: Migrated = {
    scanned: 0,
    copied: 0,
    unchanged: 0,
    newer: 0,
    conflicts: [],
    missing: [],
    extra: [],
    failed: [],
    flat: 0,
  };
  const onFlat = () => {
    migrated.flat++;
  };
  await inWaves(from.scan({ orgId, signal, onFlat }), limits.parallelMax, signal, async (wave) => {
    await pace.take(wave.length, signal);
    await mapParallel(
      wave,
      limits.parallelMax,
      (one, stop) => moveOne(to, one, limits, migrated, options, stop),
      signal,
    );
    options.onProgress?.(migrated);
  });
  if (!options.verifyOnly) return migrated;
  await inWaves(to.scan({ orgId, signal }), limits.parallelMax, signal, async (wave) => {
    await pace.take(wave.length, signal);
    await mapParallel(wave, limits.parallelMax, (one, stop) => lookBack(from, one, migrated, stop), signal);
  });
  return migrated;
}

async function moveOne(
  to: RunStore,
  scanned: ScannedRun,
  limits: Limits,
  migrated: Migrated,
  { dryRun, verifyOnly }: MigrateOptions,
  signal: AbortSignal,
): Promise<void> {
  if ('problem' in scanned) return failed(migrated, scanned);
  migrated.scanned++;
  const { run } = scanned;
  try {
    for (let round = 0; round < limits.contentionRoundsMax; round++) {
      const there = await to.read(run.org_id, run.run_id, signal);
      if (there !== null && there.run.revision > run.revision) {
        migrated.newer++;
        return;
      }
      if (there !== null && there.run.revision === run.revision) {
        if (hashOf(there.run) === hashOf(run)) migrated.unchanged++;
        else migrated.conflicts.push({ run: nameOf(run), revision: run.revision });
        return;
      }
      if (verifyOnly) {
        migrated.missing.push(nameOf(run));
        return;
      }
      encodeRunWithin(run, limits);
      if (dryRun) {
        migrated.copied++;
        return;
      }
      const put = there === null ? await to.create(run, signal) : await to.replace(run, there.token, signal);
      // `conflict` and `unknown` alike: what is there now decides.
      if (put.outcome !== 'written') continue;
      const back = await to.read(run.org_id, run.run_id, signal);
      if (back !== null && (back.run.revision > run.revision || hashOf(back.run) === hashOf(run)))
        migrated.copied++;
      else migrated.failed.push({ key: scanned.key, reason: 'the copy is not what was written' });
      return;
    }
    migrated.failed.push({ key: scanned.key, reason: 'the target changes too often' });
  } catch (problem) {
    if (signal.aborted || problem instanceof StoreError) throw problem;
    migrated.failed.push({ key: scanned.key, reason: errorMessage(problem) });
  }
}

async function lookBack(
  from: RunStore,
  scanned: ScannedRun,
  migrated: Migrated,
  signal: AbortSignal,
): Promise<void> {
  if ('problem' in scanned) return failed(migrated, scanned);
  const { run } = scanned;
  // What the source cannot read, its own scan has reported.
  const there = await from.read(run.org_id, run.run_id, signal).catch((error) => {
    if (signal.aborted || error instanceof StoreError) throw error;
    return undefined;
  });
  if (there === null) migrated.extra.push(nameOf(run));
}

function failed(migrated: Migrated, { key, problem }: { key: string; problem: unknown }): void {
  if (problem instanceof StoreError) throw problem;
  migrated.failed.push({ key, reason: errorMessage(problem) });
}

async function inWaves(
  scan: AsyncIterable<ScannedRun>,
  size: number,
  signal: AbortSignal | undefined,
  work: (wave: ScannedRun[]) => Promise<void>,
): Promise<void> {
  let wave: ScannedRun[] = [];
  for await (const one of scan) {
    throwIfAborted(signal);
    wave.push(one);
    if (wave.length < size) continue;
    await work(wave);
    wave = [];
  }
  if (wave.length > 0) await work(wave);
}

function nameOf({ org_id, run_id }: Run): string {
  return `${org_id}/${run_id}`;
}

/** Of the run's bytes with sorted keys: stores and writers may order them in their own way. */
export function hashOf(run: Run): string {
  const sorted = JSON.stringify(JSON.parse(new TextDecoder().decode(encodeRun(run))), (_, value: unknown) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash('sha256').update(sorted).digest('hex');
}
