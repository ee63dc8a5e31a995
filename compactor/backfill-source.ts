import { throwIfAborted } from '../src/core/clock.ts';
import { mapAhead } from '../src/core/concurrency.ts';
import { CorruptError, InputError, StoreError } from '../src/core/errors.ts';
import { decodeSegment, encodeSegment, idRule, isId } from '../src/core/ids.ts';
import { objectsOf } from '../src/runs/open.ts';
import type { Run } from '../src/runs/run.ts';
import type { RunStore, ScannedRun } from '../src/runs/run-store.ts';
import { type ResumableScan, SqlRunStore } from '../src/runs/sql-run-store.ts';
import { orgPrefix, parseRunKey, RUNS_PREFIX, runsPrefix } from '../src/store/keys.ts';
import type { ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import type { CompactorContext } from './context.ts';
import { listOrgs, orgsUnder } from './orgs.ts';

/** Behind every run id of an org. */
const BEYOND = '\u{10ffff}';

type Scanning = { scan(options: ResumableScan): AsyncIterable<ScannedRun> };

/** A stretch of one org's canonical runs, in the order of their store. New runs fall into exactly one stretch. */
export interface Stretch {
  org_id: string;
  /** Cursor of the last run before it, null at the org's first; and of its last run, null at the org's end. */
  after: string | null;
  until: string | null;
  /** As counted when the stretch was planned. */
  runs: number;
}

export type SourceRun =
  | { cursor: string; key: string; run: Run }
  | { cursor: string; key: string; problem: unknown };

export interface ReadOptions {
  signal?: AbortSignal | undefined;
  /** Reads only these runs; the rest costs no read where runs are objects. */
  select?: ((runId: string) => boolean) | undefined;
  /** Asked before each read, for a rate limit. */
  before?: ((runs: number) => Promise<void>) | undefined;
}

/** Told of what lies where canonical runs are and under no org: its runs belong to nobody, and are not read. */
export type OnOutside = (outside: Outside) => void;

/** A folder of objects, or all rows of one `org_id`. */
export interface Outside {
  key: string;
  reason: string;
}

/** Canonical runs as jobs over all of them need them: by org, by stretch, from a cursor on. */
export interface RunSource {
  orgs(signal?: AbortSignal, onOutside?: OnOutside): AsyncIterable<string>;
  /** Cursors of all runs of the org, unreadable ones included, ascending; cheaper than their runs where runs are objects. */
  cursors(orgId: string, signal?: AbortSignal): AsyncIterable<string>;
  /** Unreadable runs as problems. A store that fails throws: its runs are not broken, and somebody should come again. */
  runs(stretch: Pick<Stretch, 'org_id' | 'after' | 'until'>, options?: ReadOptions): AsyncIterable<SourceRun>;
  /** Whether a run lies in a stretch, by the order of the store. */
  holds(stretch: Pick<Stretch, 'after' | 'until'>, runId: string): boolean;
  /** The cursor that a run has, or would have. */
  cursorOf(runId: string): string;
  /** What `orgs` is sorted by: not always the id, since a folder's name ends in a slash. */
  orgOrder(orgId: string): string;
}

export function runSource({
  runs,
  store,
  limits,
}: Pick<CompactorContext, 'runs' | 'store' | 'limits'>): RunSource {
  const objects = objectsOf(runs, store);
  return objects === null ? scanSource(runs) : objectSource(objects, runs, limits.parallelMax);
}

/** Every org that has a catalog or canonical runs, wherever those live; sorted. */
export async function everyOrg(
  context: Pick<CompactorContext, 'runs' | 'store' | 'limits'>,
  signal?: AbortSignal,
  onOutside?: OnOutside,
): Promise<string[]> {
  const orgs = new Set(await listOrgs(context.store, signal));
  for await (const orgId of runSource(context).orgs(signal, onOutside)) orgs.add(orgId);
  return [...orgs].sort();
}

/**
 * Throws InputError where nothing is known of an org: it is a mistyped one more likely than a new one, and what would be
 * written would make it. One LIST, or two where it has no catalog.
 */
export async function mustExist(
  context: Pick<CompactorContext, 'runs' | 'store' | 'limits'>,
  orgId: string,
  signal?: AbortSignal,
): Promise<void> {
  const { items } = await context.store.list({ prefix: orgPrefix(orgId), limit: 1, signal });
  if (items.length > 0) return;
  if (await hasRuns(context, orgId, signal)) return;
  throw new InputError(`There is no org ${orgId}.`, {
    hint: 'Check --org, --store and --runs; an org comes to be with its first run.',
  });
}

/** Whether the run store has anything of the org, stubs and unreadable runs included. One LIST, or one query. */
export async function hasRuns(
  context: Pick<CompactorContext, 'runs' | 'store' | 'limits'>,
  orgId: string,
  signal?: AbortSignal,
): Promise<boolean> {
  for await (const _ of runSource(context).cursors(orgId, signal)) return true;
  return false;
}

/** Of an org that has rows, and not one canonical run: whoever believed that would empty its catalog. */
export function noRunsError({ runs }: Pick<CompactorContext, 'runs'>, orgId: string): InputError {
  return new InputError(
    `Org ${orgId} has rows, and ${runs.url} has no canonical run of it: nothing was removed.`,
    {
      hint: 'See that --runs names the right run store; --force removes the rows all the same.',
    },
  );
}

/** Cursors are encoded run ids as they stand in keys, `.json` and all: their order is that of the listing. */
function objectSource(store: ObjectStore, runs: RunStore, parallel: number): RunSource {
  const fileOf = (runId: string) => `${encodeSegment(runId)}.json`;
  async function* pages(orgId: string, after: string | null, until: string | null, signal?: AbortSignal) {
    const prefix = runsPrefix(orgId);
    const start = after === null ? undefined : `${prefix}${after}\0`;
    const end = until === null ? undefined : `${prefix}${until}\0`;
    for await (const page of pagesOf(store, { prefix, start, end, signal })) {
      yield page.items.map(({ key }) => ({ key, cursor: key.slice(prefix.length) }));
    }
  }
  return {
    orgs: (signal, onOutside) =>
      orgsUnder(store, RUNS_PREFIX, signal, (key) =>
        onOutside?.({
          key,
          reason: outside(
            `the name of this folder, ${JSON.stringify(nameOf(key))}, is no id of an org`,
            'move its runs to the folder of an org, with its id inside, or delete them',
          ),
        }),
      ),
    async *cursors(orgId, signal) {
      for await (const page of pages(orgId, null, null, signal)) for (const { cursor } of page) yield cursor;
    },
    async *runs({ org_id, after, until }, { signal, select, before } = {}) {
      async function* wanted() {
        for await (const page of pages(org_id, after, until, signal)) {
          for (const one of page) {
            const runId = parseRunKey(one.key)?.runId;
            if (runId === undefined || select === undefined || select(runId)) yield one;
          }
        }
      }
      // Reads go on through the next LIST, and do not wait for the slowest of a page.
      const read = mapAhead(
        wanted(),
        parallel,
        async (one, stop) => {
          await before?.(1);
          return readOne(runs, one, stop);
        },
        signal,
      );
      for await (const one of read) if (one !== null) yield one;
    },
    holds: ({ after, until }, runId) => {
      const cursor = fileOf(runId);
      return (after === null || cursor > after) && (until === null || cursor <= until);
    },
    cursorOf: fileOf,
    orgOrder: (orgId) => `${encodeSegment(orgId)}/`,
  };
}

async function readOne(
  runs: RunStore,
  { key, cursor }: { key: string; cursor: string },
  signal: AbortSignal,
): Promise<SourceRun | null> {
  const ids = parseRunKey(key);
  if (ids === null)
    return { key, cursor, problem: new CorruptError(key, 'the name is not that of a canonical run') };
  try {
    const stored = await runs.read(ids.orgId, ids.runId, signal);
    return stored === null ? null : { key, cursor, run: stored.run };
  } catch (problem) {
    if (signal.aborted || problem instanceof StoreError) throw problem;
    return { key, cursor, problem };
  }
}

/** Any run store, through its scan: cursors are run ids. One that cannot start in the middle is read from its start. */
function scanSource(runs: RunStore): RunSource {
  const scan = (options: ResumableScan) => (runs as Scanning).scan(options);
  return {
    orgs: (signal, onOutside) => scannedOrgs(runs, signal, onOutside),
    async *cursors(orgId, signal) {
      for await (const one of scan({ orgId, signal })) {
        const { run_id } = 'run' in one ? one.run : one;
        if (run_id !== undefined) yield run_id;
      }
    },
    async *runs({ org_id: orgId, after, until }, { signal, select, before } = {}) {
      const from = after === null ? undefined : { orgId, runId: after };
      let last = after ?? '';
      for await (const one of scan({ orgId, after: from, signal })) {
        throwIfAborted(signal);
        if ('problem' in one) {
          if (one.problem instanceof StoreError) throw one.problem;
          const runId = one.run_id ?? one.key.slice(one.key.lastIndexOf('/') + 1);
          if (until !== null && runId > until) return;
          if (after !== null && runId <= after) continue;
          if (one.run_id !== undefined) last = one.run_id;
          yield { key: one.key, problem: one.problem, cursor: last };
          continue;
        }
        const { run_id } = one.run;
        if (after !== null && run_id <= after) continue;
        if (until !== null && run_id > until) return;
        last = run_id;
        if (select !== undefined && !select(run_id)) continue;
        await before?.(1);
        yield { ...one, cursor: run_id };
      }
    },
    holds: ({ after, until }, runId) =>
      (after === null || runId > after) && (until === null || runId <= until),
    cursorOf: (runId) => runId,
    orgOrder: (orgId) => orgId,
  };
}

/** From org to org where the scan can start in the middle, else through all runs. */
async function* scannedOrgs(
  runs: RunStore,
  signal: AbortSignal | undefined,
  onOutside: OnOutside | undefined,
): AsyncIterable<string> {
  const jumps = runs instanceof SqlRunStore;
  let last: string | null = null;
  let more = true;
  while (more) {
    more = false;
    const options: ResumableScan = { signal };
    if (jumps && last !== null) options.after = { orgId: last, runId: BEYOND };
    for await (const one of (runs as Scanning).scan(options)) {
      const { org_id } = 'run' in one ? one.run : one;
      if (org_id === undefined || org_id === last) continue;
      last = org_id;
      if (isId(org_id)) yield org_id;
      else {
        onOutside?.({
          key: `${runs.url}/${org_id}/`,
          reason: outside(
            `its org_id ${JSON.stringify(org_id)} is no id of an org`,
            'give its rows an org that is allowed, in the column and in the body, or delete them',
          ),
        });
      }
      more = jumps;
      if (jumps) break;
    }
  }
}

function outside(what: string, remedy: string): string {
  return `${what}, and nothing under it was read. ${idRule()}: ${remedy}, and run it again`;
}

function nameOf(folder: string): string {
  const name = folder.slice(RUNS_PREFIX.length, -1);
  return decodeSegment(name) ?? name;
}
