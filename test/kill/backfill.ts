import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findJob, jobScope } from '../../compactor/backfill-job.ts';
import { openCompactor } from '../../compactor/open.ts';
import { compactPass } from '../../compactor/pass.ts';
import { mapParallel } from '../../src/core/concurrency.ts';
import { type Random, seededRandom, uniform } from '../../src/core/random.ts';
import type { Run } from '../../src/runs/run.ts';
import { openSession, type Session } from '../../src/session.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { openStore } from '../../src/store/open.ts';
import { dataset, runOf } from '../support/runs.ts';

export interface BackfillKillOptions {
  /** Canonical runs that are there before anything of a catalog is. */
  runs: number;
  kills: number;
  seed: number;
  /** Runs per unit of the job. */
  unitRuns: number;
  /** A process is killed at a random time up to this long after its start, or after it has done some units. */
  withinMs: number;
  onProgress?: ((step: string) => void) | undefined;
}

export interface BackfillKilled {
  runs: number;
  orgs: number;
  /** Runs that writers created meanwhile, and of those there before, how many they ended or deleted. */
  written: { created: number; changed: number };
  kills: number;
  /** Processes that came to the end of a pass, among those that were not killed. */
  passes: number;
  /** When each process ended: whether by time, and how many units of the pass were done by then. */
  progress: { timed: boolean; done: number }[];
  drift: number;
  /** Empty: no drift, no unreadable run, nothing acknowledged missing, nothing that `verify` found. */
  problems: string[];
  /** Of the first start until the pass was complete, kills and what was done twice included. */
  runs_per_second: number;
  seconds: { fill: number; backfill: number; reconcile: number; verify: number };
}

const RUNFOLD = resolve(import.meta.dirname, '../../src/cli/main.ts');
/** A process that is killed early should have begun its work. */
const CACHE = resolve(import.meta.dirname, '../../.cache/node-compile');
/** One large org, which is cut into units, and some small ones, which share them. */
const ORGS = ['acme', 'globex', 'initech', 'umbrella', 'hooli'];
const MIN_MS = 200;
const POLL_MS = 100;

/**
 * A deployment without a catalog is moved in: `runfold backfill` runs as a process of its own and is killed with SIGKILL
 * at random times, while writers and a compactor in this one go on. Then it is resumed to its end, and `reconcile --full`
 * and `verify` look at everything.
 */
export async function killBackfill(options: BackfillKillOptions): Promise<BackfillKilled> {
  const { runs, kills, seed, unitRuns, withinMs, onProgress } = options;
  const random = seededRandom(seed);
  const dir = await mkdtemp(join(tmpdir(), 'runfold-backfill-'));
  const url = `file:${join(dir, 'store')}?fsync=off`;
  const store = await openStore(url, { create: true });
  const session = openSession(store);
  try {
    const watch = stopwatch();
    onProgress?.(`writing ${runs} canonical runs`);
    await fill(session, runs);
    const fillSeconds = watch();
    const writers = startWriters(session, runs, seededRandom(seed + 1));
    const told = { kills: 0, passes: 0 };
    const progress: BackfillKilled['progress'] = [];
    const args = ['backfill', '--unit', String(unitRuns), '--store', url, '--json'];
    const doneMax = Math.max(1, Math.floor((1.5 * runs) / unitRuns / kills));
    while (told.kills < kills) {
      const afterMs = MIN_MS + uniform(random) * (withinMs - MIN_MS);
      // A third by time alone, which meets planning; the others spread over the pass, however quick the machine is.
      const isTimed = uniform(random) < 1 / 3;
      const units = 1 + Math.floor(uniform(random) * doneMax);
      const ended = await runfold(args, async (isOver) => {
        if (!isTimed) await unitsDone(store, units, isOver);
        await sleep(isTimed ? afterMs : afterMs / 10);
      });
      progress.push({ timed: isTimed, done: await countDone(store) });
      if (ended.killed) told.kills++;
      else told.passes++;
      onProgress?.(`killed ${told.kills} times, ${told.passes} passes complete`);
    }
    const problems: string[] = [];
    const done = await jsonOf<{ complete: boolean; failed: unknown[] }>(args);
    const backfillSeconds = watch();
    if (!done.complete) problems.push('the pass is not complete');
    for (const one of done.failed) problems.push(`failed: ${JSON.stringify(one)}`);
    const written = await writers.stop();
    onProgress?.('reconciling');
    // Without --dry-run it would mend what it is here to find; with it, it tells the same.
    const reconciled = await jsonOf<{ scanned: number; drift: unknown[]; failed: unknown[] }>([
      'reconcile',
      '--full',
      '--dry-run',
      '--store',
      url,
      '--json',
    ]);
    for (const one of [...reconciled.drift, ...reconciled.failed])
      problems.push(`drift: ${JSON.stringify(one)}`);
    if (reconciled.scanned !== runs + written.created)
      problems.push(`reconcile saw ${reconciled.scanned} of ${runs + written.created} runs`);
    const reconcileSeconds = watch();
    onProgress?.('verifying');
    const verified = await runfold(['verify', '--store', url, '--json']);
    if (verified.code !== 0)
      problems.push(`verify ended with ${verified.code}: ${verified.stdout.slice(0, 2_000)}`);
    problems.push(...(await missing(session, writers.acknowledged)));
    return {
      runs,
      orgs: ORGS.length,
      written,
      ...told,
      progress,
      drift: reconciled.drift.length,
      problems,
      runs_per_second: Math.round(runs / backfillSeconds),
      seconds: { fill: fillSeconds, backfill: backfillSeconds, reconcile: reconcileSeconds, verify: watch() },
    };
  } finally {
    await session.close();
    await store.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** Seconds since the last call. */
function stopwatch(): () => number {
  let at = performance.now();
  return () => {
    const seconds = (performance.now() - at) / 1000;
    at = performance.now();
    return Math.round(seconds * 10) / 10;
  };
}

const orgOf = (n: number) => (n % 10 < 6 ? ORGS[0]! : ORGS[1 + (n % 4)]!);
const idOf = (n: number) => `r${String(n).padStart(7, '0')}`;
const isActive = (n: number) => n % 50 === 7;

/** Runs as old software left them: most have ended, one in fifty still runs. No record of them is in any log. */
async function fill(session: Session, runs: number): Promise<void> {
  const start = session.serverClock.now() - 86_400_000;
  const wave = 5_000;
  for (let from = 0; from < runs; from += wave) {
    const numbers = Array.from({ length: Math.min(wave, runs - from) }, (_, i) => from + i);
    await mapParallel(numbers, 32, async (n) => {
      const at = start + Math.floor((n / runs) * 3_600_000);
      const active = isActive(n);
      const put = await session.runs.create(
        runOf({
          org_id: orgOf(n),
          run_id: idOf(n),
          status: active ? 'RUNNING' : n % 17 === 0 ? 'FAILED' : 'SUCCEEDED',
          created_at: at,
          updated_at: at + 5_000,
          indexed_at: at + 5_000,
          started_at: at + 1_000,
          finished_at: active ? null : at + 5_000,
          outputs: [dataset(`t${n % 211}`)],
          inputs: [dataset(`t${(n + 1) % 211}`)],
          error: !active && n % 17 === 0 ? { code: 'E', message: 'it broke' } : null,
        }),
      );
      if (put.outcome !== 'written') throw new Error(`${idOf(n)}: ${put.outcome}`);
    });
  }
}

/** New runs, and the ends of old ones, beside a compactor; until they are stopped. */
function startWriters(session: Session, runs: number, random: Random) {
  const acknowledged = new Map<string, Run>();
  const written = { created: 0, changed: 0 };
  let writing = true;
  const { recorder } = session;
  const note = ({ run }: { run: Run }) => acknowledged.set(`${run.org_id} ${run.run_id}`, run);
  const below = (end: number) => Math.floor(uniform(random) * end);
  // Each old run is ended once: what was deleted takes no more events.
  const active = Array.from({ length: runs }, (_, n) => n).filter(isActive);
  async function write(lane: number): Promise<void> {
    for (let n = 0; writing; n++) {
      const orgId = ORGS[below(ORGS.length)]!;
      const runId = `new-${lane}-${n}`;
      note(await recorder.create(orgId, { run_id: runId }));
      written.created++;
      note(await recorder.apply(orgId, runId, { type: 'started', attempt: 1 }));
      if (active.length > 0) {
        const [old] = active.splice(below(active.length), 1) as [number];
        note(await recorder.apply(orgOf(old), idOf(old), { type: 'force_cancel' }));
        written.changed++;
        if (n % 3 === 0) note(await recorder.apply(orgOf(old), idOf(old), { type: 'delete' }));
      }
      await sleep(10 + below(40));
    }
  }
  async function compact(): Promise<void> {
    const compactor = await openCompactor(session);
    for (; writing; await sleep(700)) await compactPass(compactor);
  }
  const all = Promise.all([write(0), write(1), compact()]);
  // Told by `stop`; until then it must not end the process.
  all.catch(() => undefined);
  return {
    acknowledged,
    async stop() {
      writing = false;
      await all;
      return written;
    },
  };
}

/** Law 3, over all that the writers were told. */
async function missing(session: Session, acknowledged: ReadonlyMap<string, Run>): Promise<string[]> {
  const problems: string[] = [];
  for (const orgId of ORGS) {
    const org = await session.catalog.org(orgId).refresh();
    const shown = new Map<string, number>();
    for await (const row of org.runs()) shown.set(row.run_id, row.revision);
    for (const run of acknowledged.values()) {
      if (run.org_id !== orgId) continue;
      const revision = shown.get(run.run_id) ?? null;
      if (run.deleted_at === null ? (revision ?? 0) < run.revision : revision !== null)
        problems.push(`law 3: ${orgId} ${run.run_id} at revision ${run.revision} is shown at ${revision}`);
    }
  }
  return problems;
}

/** How many units of the latest pass are reported as done. */
async function countDone(store: ObjectStore): Promise<number> {
  const job = await findJob(store, 'backfill', jobScope(undefined));
  return job?.done.size ?? 0;
}

/** Resolves once so many more units are done than now, or nobody does any more. */
async function unitsDone(store: ObjectStore, units: number, isOver: () => boolean): Promise<void> {
  const before = await countDone(store);
  for (let done = before; done - before < units && !isOver(); done = await countDone(store))
    await sleep(POLL_MS);
}

/** A process of its own, killed at the instant that `until` resolves, if it still runs then. */
async function runfold(args: readonly string[], until?: (isOver: () => boolean) => Promise<void>) {
  const child = spawn(process.execPath, [RUNFOLD, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', NODE_COMPILE_CACHE: CACHE },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const isOver = () => child.exitCode !== null || child.signalCode !== null;
  const watching = until?.(isOver).then(() => isOver() || child.kill('SIGKILL'));
  const { promise, resolve: close, reject } = Promise.withResolvers<[number | null, NodeJS.Signals | null]>();
  child.once('error', reject).once('close', (code, signal) => close([code, signal]));
  const [[code, signal]] = await Promise.all([promise, watching]);
  const killed = signal === 'SIGKILL';
  if (until !== undefined && !killed && code !== 0) throw new Error(`backfill ended with ${code}: ${stderr}`);
  return { code, killed, stdout, stderr };
}

async function jsonOf<T>(args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await runfold(args);
  if (stdout === '') throw new Error(`runfold ${args[0]} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}
