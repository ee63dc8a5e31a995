import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Limits } from '../../src/core/limits.ts';
import { readManifest } from '../../src/manifest/manifest-store.ts';
import { openFileStore } from '../../src/store/file.ts';
import { SkippingClock } from '../support/clock.ts';
import type { Report, ScenarioOptions } from '../support/report.ts';
import { temporaryFolder } from '../support/temporary.ts';
import { benchWorld, buildOrg, type OrgSize } from '../support/world.ts';

export interface BuildOptions {
  size: OrgSize;
  /** Where the store is left; without it it is removed. */
  dir?: string;
  limits?: Partial<Limits>;
}

export interface Built {
  runs: number;
  foldRecords: number;
  mergeFanIn: number;
  folds: number;
  seconds: number;
  cpuSeconds: number;
  /** Rows written since the beginning, head included, per run; and the part of it that went to history. */
  writeAmplification: number;
  historyAmplification: number;
  parts: { level: number; runs: number; sizeBytes: number }[];
  maxRssBytes: number;
  storeBytes: number;
}

/** A child of `scale`: builds one org on a file store, whose bytes are not in this process' memory. */
export async function run({ child }: ScenarioOptions): Promise<Report> {
  const { size, dir, limits = {} } = child as BuildOptions;
  const folder = dir === undefined ? temporaryFolder('runfold-bench-') : null;
  const root = dir ?? folder!.path;
  try {
    const data = await build(size, root, limits);
    return { title: 'build', head: [], rows: [], notes: [], data };
  } finally {
    folder?.remove();
  }
}

async function build(size: OrgSize, root: string, limits: Partial<Limits>): Promise<Built> {
  // Nobody sleeps on it here: it only skips over the graces between folds.
  const clock = new SkippingClock();
  const store = await openFileStore(root, { clock, fsync: false });
  const world = await benchWorld(store, clock, { limits });
  const began = performance.now();
  let folds = 0;
  await buildOrg(world, size, (_, done) => {
    folds++;
    process.send?.(done);
  });
  const current = await readManifest(store, size.orgId);
  if (current === 'unchanged' || current.manifest === null) throw new Error('There is no manifest.');
  const { parts, totals, rows } = current.manifest;
  // Each level that a run has reached is one write of it.
  const historyRows = parts.reduce((sum, part) => sum + part.runs * part.level, 0);
  const cpu = process.cpuUsage();
  return {
    runs: size.runs,
    foldRecords: size.foldRecords ?? size.runs,
    mergeFanIn: world.compactor.limits.mergeFanIn,
    folds,
    seconds: (performance.now() - began) / 1_000,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    writeAmplification: totals.rows_written / rows,
    historyAmplification: historyRows / rows,
    parts: parts.map(({ level, runs, size_bytes }) => ({ level, runs, sizeBytes: size_bytes })),
    // Of this process since its start, kB on Linux.
    maxRssBytes: process.resourceUsage().maxRSS * 1_024,
    storeBytes: await bytesUnder(root),
  };
}

async function bytesUnder(root: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
