import { mapParallel } from '../src/core/concurrency.ts';
import { crc32c } from '../src/core/crc32c.ts';
import {
  CorruptError,
  errorMessage,
  InputError,
  OutcomeUnknownError,
  StoreError,
} from '../src/core/errors.ts';
import { decodeSegment, encodeSegment, idRule, isId } from '../src/core/ids.ts';
import { objectsOf } from '../src/runs/open.ts';
import { decodeRun, encodeRunWithin, type Run } from '../src/runs/run.ts';
import type { RunStore } from '../src/runs/run-store.ts';
import { RUNS_PREFIX } from '../src/store/keys.ts';
import type { ObjectMeta, ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';
import { judgeFlat } from './backfill-flat.ts';
import { mustExist } from './backfill-source.ts';
import type { CompactorContext } from './context.ts';

/**
 * Flat keys of older deployments, `authoritative-runs/runs/<run_id>.json`, whose org is inside (ADR 0003).
 * `copy` leaves them where they are, for software that still reads them; `move` deletes each once its copy stands.
 */
export type LegacyMode = 'copy' | 'move' | 'skip';

export interface Legacy {
  scanned: number;
  /** Written under the org, as a new run or a newer revision. */
  copied: number;
  /** The org's copy has the same content, or a later one. */
  unchanged: number;
  /** The same, but the index did not show it: whoever copied it died before its record, which was appended now. */
  recorded: number;
  deleted: number;
  /** Could not be read, or differ from a copy that does not follow them: those are neither copied nor deleted. */
  failed: { key: string; reason: string }[];
}

export interface LegacyOptions {
  mode: LegacyMode;
  /** Makes a copied run visible: appends its record. */
  index: (run: Run, signal: AbortSignal) => Promise<void>;
  /** Whether the index shows a run that was under its org already, or will by what is done next. */
  isShown: (run: Run, signal: AbortSignal) => Promise<boolean>;
  /** Of a dry run: a run that would be copied or recorded; `isNew` where its org has none of that id. */
  wouldIndex?: ((run: Run, isNew: boolean) => void) | undefined;
  orgs?: readonly string[] | undefined;
  shard: { index: number; count: number };
  dryRun: boolean;
  before?: ((runs: number) => Promise<void>) | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((legacy: Legacy) => void) | undefined;
}

/** Idempotent. One LIST per 1000 flat keys; for each run two reads, and a write and a share of an entry where it is newer. */
export async function bringInLegacy(context: CompactorContext, options: LegacyOptions): Promise<Legacy> {
  const legacy: Legacy = { scanned: 0, copied: 0, unchanged: 0, recorded: 0, deleted: 0, failed: [] };
  const objects = objectsOf(context.runs, context.store) ?? context.store;
  if (options.mode === 'skip') return legacy;
  const { index, count } = options.shard;
  for await (const page of pagesOf(objects, {
    prefix: RUNS_PREFIX,
    delimiter: '/',
    signal: options.signal,
  })) {
    const own = page.items.filter(({ key }) => crc32c(new TextEncoder().encode(key)) % count === index);
    const wave = options.before === undefined ? own.length : context.limits.parallelMax;
    for (let i = 0; i < own.length; i += wave) {
      const some = own.slice(i, i + wave);
      await options.before?.(some.length);
      await mapParallel(
        some,
        context.limits.parallelMax,
        (item, stop) => bringIn(context, objects, item, legacy, options, stop),
        options.signal,
      );
      options.onProgress?.(legacy);
    }
  }
  return legacy;
}

/**
 * As `mustExist`, for an org that may have nothing but flat runs. Only where it has nothing else are those read, up to the
 * first of its own; with `skip` they do not count.
 */
export async function mustExistOrBeFlat(
  context: CompactorContext,
  orgId: string,
  mode: LegacyMode,
  signal?: AbortSignal,
): Promise<void> {
  try {
    await mustExist(context, orgId, signal);
  } catch (error) {
    if (!(error instanceof InputError) || mode === 'skip' || !(await hasFlatRun(context, orgId, signal)))
      throw error;
  }
}

async function hasFlatRun(
  { runs, store, limits }: CompactorContext,
  orgId: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const objects = objectsOf(runs, store) ?? store;
  for await (const page of pagesOf(objects, { prefix: RUNS_PREFIX, delimiter: '/', signal })) {
    for (let i = 0; i < page.items.length; i += limits.parallelMax) {
      const orgs = await mapParallel(
        page.items.slice(i, i + limits.parallelMax),
        limits.parallelMax,
        ({ key }, stop) => orgOfFlat(objects, key, stop),
        signal,
      );
      if (orgs.includes(orgId)) return true;
    }
  }
  return false;
}

/** Null where it cannot be read: that is told when it is brought in. */
async function orgOfFlat(objects: ObjectStore, key: string, signal: AbortSignal): Promise<string | null> {
  try {
    const got = await objects.get(key, { signal });
    return got.outcome === 'found' ? decodeFlat(key, got.body).org_id : null;
  } catch (error) {
    if (signal.aborted || error instanceof StoreError) throw error;
    return null;
  }
}

async function bringIn(
  { runs, limits }: CompactorContext,
  objects: ObjectStore,
  item: ObjectMeta,
  legacy: Legacy,
  { mode, index, isShown, wouldIndex, dryRun, orgs }: LegacyOptions,
  signal: AbortSignal,
): Promise<void> {
  const { key } = item;
  let isCounted = false;
  try {
    const got = await objects.get(key, { signal });
    if (got.outcome !== 'found') return;
    const flat = decodeFlat(key, got.body);
    if (orgs !== undefined && !orgs.includes(flat.org_id)) return;
    legacy.scanned++;
    isCounted = true;
    for (let round = 0; ; round++) {
      const stored = await runs.read(flat.org_id, flat.run_id, signal);
      const judged = judgeFlat(key, flat, stored?.run ?? null);
      if (stored !== null && judged.outcome === 'known') {
        // The copy alone does not tell whether its record followed: the unit it is in may be done.
        if (await isShown(stored.run, signal)) legacy.unchanged++;
        else {
          if (dryRun) wouldIndex?.(stored.run, false);
          else await recordAgain(runs, stored.run, index, signal);
          legacy.recorded++;
        }
        break;
      }
      const run = judged.outcome === 'copy' ? judged.run : flat;
      // Before the dry run's answer: it promises what the write then does.
      encodeRunWithin(run, limits);
      if (dryRun) {
        wouldIndex?.(run, stored === null);
        legacy.copied++;
        break;
      }
      const put =
        stored === null ? await runs.create(run, signal) : await runs.replace(run, stored.token, signal);
      if (put.outcome === 'written') {
        await index(run, signal);
        legacy.copied++;
        break;
      }
      if (round >= limits.contentionRoundsMax) throw new OutcomeUnknownError(`${key} could not be copied.`);
    }
    if (mode !== 'move') return;
    // Exactly the object that was copied: a newer one, written meanwhile by old software, stays for the next pass.
    const gone =
      dryRun ||
      (await objects.delete(key, { ifGeneration: got.meta.generation, signal })).outcome === 'deleted';
    if (gone) legacy.deleted++;
  } catch (error) {
    if (signal.aborted || error instanceof StoreError || error instanceof OutcomeUnknownError) throw error;
    if (!isCounted) legacy.scanned++;
    legacy.failed.push({ key, reason: errorMessage(error) });
  }
}

/** What the index is compared with may be old by then: see recordAgeMaxMs. */
async function recordAgain(
  runs: RunStore,
  { org_id, run_id }: Run,
  index: LegacyOptions['index'],
  signal: AbortSignal,
): Promise<void> {
  const now = await runs.read(org_id, run_id, signal);
  if (now !== null) await index(now.run, signal);
}

export function flatKey(runId: string): string {
  return `${RUNS_PREFIX}${encodeSegment(runId)}.json`;
}

/** Throws CorruptError, which says what to do as well, or FormatError. */
export function decodeFlat(key: string, body: Uint8Array): Run {
  const run = decoded(key, body);
  const runId = decodeSegment(key.slice(RUNS_PREFIX.length).replace(/\.json$/, ''));
  if (!isId(run.org_id))
    throw flatError(key, `its org_id ${JSON.stringify(run.org_id)} is no id of an org. ${idRule()}`);
  if (!isId(run.run_id) && (run.run_id === runId || !isId(runId)))
    throw flatError(key, `its run_id ${JSON.stringify(run.run_id)} is no id of a run. ${idRule()}`, RENAME);
  if (run.run_id !== runId)
    throw flatError(key, `its run_id is ${JSON.stringify(run.run_id)}, and its key says another`);
  return run;
}

function decoded(key: string, body: Uint8Array): Run {
  try {
    return decodeRun(key, body);
  } catch (error) {
    if (error instanceof CorruptError) throw flatError(key, String(error.details?.reason), undefined, error);
    throw error;
  }
}

const MEND = 'mend the object as docs/MIGRATION.md says of flat runs, or delete it, and run backfill again';
const RENAME =
  'give the run an id that is allowed, in its field run_id and in its key, or delete the object, and run backfill again';

function flatError(key: string, reason: string, remedy?: string, cause?: unknown): CorruptError {
  const what = reason.startsWith('it has no org_id')
    ? 'write the id of the org that owns the run into its field org_id, and run backfill again'
    : (remedy ?? MEND);
  return new CorruptError(key, `${reason}; ${what}`, { cause });
}
