import { z } from 'zod';
import { crc32c } from '../src/core/crc32c.ts';
import { errorMessage, InputError, isRunfoldError, OutcomeUnknownError } from '../src/core/errors.ts';
import { checkStored, encodeStored, parseStored } from '../src/core/stored-json.ts';
import { ABSENT, type ObjectMeta, type ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import type { Outside, RunSource, Stretch } from './backfill-source.ts';

/**
 * Where jobs over all runs keep their checkpoints. Everything is create-only: a plan is made once and says which
 * stretches there are; a unit that is done leaves its report. So any number of processes may work on one job, each
 * may be killed at any time, and what is not reported as done is simply done again.
 */
export const JOBS_PREFIX = 'catalog/jobs/';

export const JOB_FORMAT = 1;

const failureSchema = z.object({ key: z.string(), reason: z.string() });
const stretchSchema = z.object({
  org_id: z.string(),
  after: z.string().nullable(),
  until: z.string().nullable(),
  runs: z.number().int().nonnegative(),
});
const planSchema = z.looseObject({
  format: z.literal(JOB_FORMAT),
  created_at: z.number(),
  /** What is done in one go, and is divided over shards: stretches of one org or of several small ones. */
  units: z.array(z.array(stretchSchema)),
  /** Where runs lie that belong to no org. */
  outside: z.array(failureSchema).default([]),
});
export type JobPlan = z.infer<typeof planSchema>;

const orgFailureSchema = z.object({
  org_id: z.string(),
  /** `refused`: what was asked is most likely a mistake; `failed`: what the org has cannot be read or written. */
  outcome: z.enum(['refused', 'failed']),
  /** Of the error; `INTERNAL` for one that is none of ours. */
  code: z.string(),
  reason: z.string(),
  hint: z.string().nullable(),
});
export type OrgFailure = z.infer<typeof orgFailureSchema>;

export function failureOf(orgId: string, error: unknown): OrgFailure {
  return {
    org_id: orgId,
    outcome: error instanceof InputError ? 'refused' : 'failed',
    code: isRunfoldError(error) ? error.code : 'INTERNAL',
    reason: errorMessage(error),
    hint: (isRunfoldError(error) && error.hint) || null,
  };
}

/** Whether to do it again right away would fail in the same way: somebody has to mend or upgrade something first. */
export function isLasting({ code }: OrgFailure): boolean {
  return code === 'CORRUPT' || code === 'UNSUPPORTED_FORMAT';
}

export const countsSchema = z.looseObject({
  scanned: z.number(),
  indexed: z.number(),
  unchanged: z.number(),
  skipped: z.number(),
  failed: z.array(failureSchema),
  orgs_failed: z.array(orgFailureSchema).default([]),
});
/** `failed` runs could not be read; of `orgs_failed` nothing was indexed, or not all. `skipped` ones have no row by rule: deleted, or forgotten by retention. */
export type Counts = z.infer<typeof countsSchema>;

export interface Job {
  name: string;
  plan: JobPlan;
  /** Reports of the units that are done, by number. */
  done: Map<number, ObjectMeta>;
}

export function noCounts(): Counts {
  return { scanned: 0, indexed: 0, unchanged: 0, skipped: 0, failed: [], orgs_failed: [] };
}

export function addCounts(to: Counts, more: Counts): Counts {
  to.scanned += more.scanned;
  to.indexed += more.indexed;
  to.unchanged += more.unchanged;
  to.skipped += more.skipped;
  for (const one of more.failed) to.failed.push(one);
  for (const one of more.orgs_failed) to.orgs_failed.push(one);
  return to;
}

/** Jobs over different orgs do not meet. */
export function jobScope(orgs: readonly string[] | undefined): string {
  if (orgs === undefined) return 'all';
  return `orgs-${crc32c(new TextEncoder().encode(JSON.stringify([...orgs].sort()))).toString(16)}`;
}

/** The stretches of all orgs, in units of about `unitRuns`. One LIST per 1000 runs where runs are objects. */
export async function planJob(
  source: RunSource,
  options: {
    orgs?: readonly string[] | undefined;
    unitRuns: number;
    now: number;
    signal?: AbortSignal | undefined;
    onProgress?: ((runs: number) => void) | undefined;
  },
): Promise<JobPlan> {
  const { orgs, unitRuns, signal } = options;
  const units: Stretch[][] = [];
  const outside: Outside[] = [];
  let unit: Stretch[] = [];
  let inUnit = 0;
  let total = 0;
  const close = () => {
    if (unit.length > 0) units.push(unit);
    unit = [];
    inUnit = 0;
  };
  for await (const org_id of orgs ?? source.orgs(signal, (one) => outside.push(one))) {
    let stretch: Stretch = { org_id, after: null, until: null, runs: 0 };
    let last: string | null = null;
    for await (const cursor of source.cursors(org_id, signal)) {
      if (inUnit + stretch.runs >= unitRuns && stretch.runs > 0) {
        unit.push({ ...stretch, until: last });
        close();
        stretch = { org_id, after: last, until: null, runs: 0 };
      }
      stretch.runs++;
      last = cursor;
      if (++total % 1_000 === 0) options.onProgress?.(total);
    }
    // Open to the end: runs that are written later belong to it, and do no harm there.
    unit.push(stretch);
    inUnit += stretch.runs;
    if (inUnit >= unitRuns) close();
  }
  close();
  return { format: JOB_FORMAT, created_at: options.now, units, outside };
}

/** The newest job of that kind; null where there is none. */
export async function findJob(
  store: ObjectStore,
  kind: string,
  scope: string,
  signal?: AbortSignal,
): Promise<Job | null> {
  const prefix = `${JOBS_PREFIX}${kind}/${scope}/`;
  const byJob = new Map<string, { plan: boolean; done: Map<number, ObjectMeta> }>();
  for await (const page of pagesOf(store, { prefix, signal })) {
    for (const item of page.items) {
      const match = /^([0-9]{6})\/(?:(plan)|done-([0-9]+))\.json$/.exec(item.key.slice(prefix.length));
      if (match === null) continue;
      const job = byJob.get(match[1]!) ?? { plan: false, done: new Map() };
      byJob.set(match[1]!, job);
      if (match[2] !== undefined) job.plan = true;
      else job.done.set(Number(match[3]), item);
    }
  }
  const newest = [...byJob]
    .filter(([, { plan }]) => plan)
    .sort()
    .at(-1);
  if (newest === undefined) return null;
  const name = `${prefix}${newest[0]}`;
  const key = `${name}/plan.json`;
  const got = await store.get(key, { signal });
  if (got.outcome !== 'found') return null;
  const plan = checkStored(key, planSchema, parseStored(key, 'plan', JOB_FORMAT, got.body));
  return { name, plan, done: newest[1].done };
}

/** Creates the job after `previous`; where another process was quicker, that one's plan holds. */
export async function createJob(
  store: ObjectStore,
  kind: string,
  scope: string,
  previous: Job | null,
  plan: JobPlan,
  signal?: AbortSignal,
): Promise<Job> {
  const number = previous === null ? 1 : Number(previous.name.slice(-6)) + 1;
  const name = `${JOBS_PREFIX}${kind}/${scope}/${String(number).padStart(6, '0')}`;
  const put = await store.put(`${name}/plan.json`, encodeStored(plan), {
    ifGeneration: ABSENT,
    contentType: 'application/json',
    signal,
  });
  if (put.outcome === 'written') return { name, plan, done: new Map() };
  const found = await findJob(store, kind, scope, signal);
  if (found === null) throw new OutcomeUnknownError(`The store did not confirm ${name}/plan.json.`);
  return found;
}

export async function reportDone(store: ObjectStore, job: Job, unit: number, counts: Counts): Promise<void> {
  const key = `${job.name}/done-${unit}.json`;
  const put = await store.put(key, encodeStored({ format: JOB_FORMAT, ...counts }), {
    ifGeneration: ABSENT,
    contentType: 'application/json',
  });
  // A report that is there already says as much; one that is not confirmed costs doing the unit again.
  if (put.outcome === 'written') job.done.set(unit, put.meta);
}

export async function readDone(
  store: ObjectStore,
  key: string,
  signal?: AbortSignal,
): Promise<Counts | null> {
  const got = await store.get(key, { signal });
  if (got.outcome !== 'found') return null;
  return checkStored(key, countsSchema, parseStored(key, 'report', JOB_FORMAT, got.body));
}

/** Best effort: what stays is a few small objects. */
export async function removeJob(store: ObjectStore, job: Job, signal?: AbortSignal): Promise<void> {
  const plan = await store.head(`${job.name}/plan.json`, { signal }).catch(() => null);
  // The plan goes last: without it its reports would mean nothing.
  for (const meta of [...job.done.values(), ...(plan === null ? [] : [plan])])
    await store.delete(meta.key, { ifGeneration: meta.generation, signal }).catch(() => undefined);
}
