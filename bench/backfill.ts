import { backfill } from '../compactor/backfill.ts';
import { openCompactor } from '../compactor/open.ts';
import { defaultLimits } from '../src/core/limits.ts';
import { seededRandom } from '../src/core/random.ts';
import { encodeRun } from '../src/runs/run.ts';
import { openSession } from '../src/session.ts';
import { partCodec } from '../src/snapshot/codec.ts';
import { counting, noRequests } from '../src/store/counting.ts';
import { runKey } from '../src/store/keys.ts';
import { latency } from '../src/store/latency.ts';
import { MemoryStore } from '../src/store/memory.ts';
import { resilient } from '../src/store/resilient.ts';
import { runOfRow } from './rivals/rival.ts';
import { SkippingClock } from './support/clock.ts';
import { cpuMs } from './support/cpu.ts';
import { profiled } from './support/profile.ts';
import { type Report, type ScenarioOptions, thousands } from './support/report.ts';
import { realisticRows } from './support/rows.ts';

interface Figure {
  /** Units at a time; each has as many reads in flight as `parallelMax` says. */
  units: number;
  readsInFlight: number;
  runs: number;
  seconds: number;
  runsPerSecond: number;
  cpuSeconds: number;
  /** Of the time, how much the one thread computed: near 1 it is the bound, and more processes help. */
  busy: number;
  requests: { get: number; put: number; list: number };
}

/** One backfill process that moves a deployment in: how many canonical runs it indexes a second, by its parallelism. */
export async function run(options: ScenarioOptions): Promise<Report> {
  const { quick } = options;
  const runs = quick ? 4_000 : 100_000;
  const unitRuns = quick ? 1_000 : 10_000;
  const sweep = quick ? [1, 2] : [1, 2, 4, 8];
  await partCodec();
  const figures: Figure[] = [];
  const notes: string[] = [];
  for (const [at, units] of sweep.entries()) {
    options.onProgress(at, sweep.length, `${units} units at a time`);
    const work = () => measure(options, runs, unitRuns, units);
    if (options.profile) {
      const { result, notes: top } = await profiled(`backfill-${units}`, work);
      figures.push(result);
      notes.push(...top);
    } else figures.push(await work());
  }
  return {
    title: `Backfill of ${thousands(runs)} canonical runs by one process`,
    head: ['--parallel', 'reads in flight', 'runs/s', 's', 'CPU s', 'busy', 'GET', 'PUT', 'LIST'],
    rows: figures.map((one) => [
      String(one.units),
      String(one.readsInFlight),
      thousands(one.runsPerSecond),
      one.seconds.toFixed(1),
      one.cpuSeconds.toFixed(1),
      one.busy.toFixed(2),
      thousands(one.requests.get),
      thousands(one.requests.put),
      thousands(one.requests.list),
    ]),
    notes: [
      `Latency profile ${options.latency.name}, simulated: waiting is skipped, computing counts as the CPU time of its thread.`,
      `Half of the runs belong to one org, the others to nine; units of ${thousands(unitRuns)} runs. Planning, folds and commits are in the time.`,
      'Client CPU per real request (0.1–0.5 ms) is not in it: at 5 000 runs/s it alone would fill a core.',
      ...notes,
    ],
    data: { unitRuns, figures },
  };
}

async function measure(
  { latency: profile, seed }: ScenarioOptions,
  runs: number,
  unitRuns: number,
  units: number,
): Promise<Figure> {
  const clock = new SkippingClock();
  const memory = new MemoryStore({ clock });
  await addRuns(memory, runs, seed);
  const counts = noRequests();
  const random = seededRandom(seed);
  const limits = defaultLimits;
  const slow = latency(counting(memory, counts), { profile, clock, random });
  const session = openSession(resilient(slow, { clock, random, limits }), { clock, random });
  const context = await openCompactor(session);
  const cpu = cpuMs();
  const began = clock.monotonic();
  const done = await backfill(context, session.recorder, { parallel: units, unitRuns });
  const seconds = (clock.monotonic() - began) / 1_000;
  const cpuSeconds = (cpuMs() - cpu) / 1_000;
  if (done.indexed !== runs || done.failed.length > 0)
    throw new Error(`${done.indexed} of ${runs} runs were indexed, ${done.failed.length} failed.`);
  const { get, put, list } = counts;
  return {
    units,
    readsInFlight: units * limits.parallelMax,
    runs,
    seconds,
    runsPerSecond: runs / seconds,
    cpuSeconds,
    busy: cpuSeconds / seconds,
    requests: { get, put, list },
  };
}

async function addRuns(store: MemoryStore, runs: number, seed: number): Promise<void> {
  const orgs = Array.from({ length: 10 }, (_, i) => ({
    orgId: `org-${i}`,
    count: i === 0 ? runs / 2 : runs / 18,
  }));
  let left = runs;
  for (const [i, { orgId, count }] of orgs.entries()) {
    const here = i === orgs.length - 1 ? left : Math.floor(count);
    left -= here;
    for (const row of realisticRows({ orgId, count: here, seed: seed * 31 + i }))
      await store.put(runKey(orgId, row.run_id), encodeRun(runOfRow(row)));
  }
}
