import { z } from 'zod';
import { CorruptError, OutcomeUnknownError, RunfoldError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';
import { uuidv7 } from '../core/uuid.ts';
import { traceWorkKey } from '../store/keys.ts';
import { ABSENT, type ObjectStore } from '../store/object-store.ts';

export const WORK_FORMAT = 1;

const time = z.number().int().nonnegative();
const count = z.number().int().nonnegative();

/** A run that is being archived, has failed, or of which something is left to remove. Goes with success. */
const entrySchema = z.looseObject({
  /** When it was first tried, or first seen to have ended. Server time, ms, as all times here. */
  since: time,
  /** Tries begun since; one that died counts. */
  attempts: count,
  /** Not before. */
  next_at: time,
  /** Who is at it, and since when; null: nobody. */
  claim: z.object({ by: z.string(), at: time }).nullable(),
  /** Archives that were or may yet be written and that the run may not name. */
  names: z.array(z.string()),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** Reported as given up; still tried, seldom. */
  stale: z.boolean(),
});
export type WorkEntry = z.infer<typeof entrySchema>;

const workSchema = z.looseObject({
  format: z.literal(WORK_FORMAT),
  org_id: z.string(),
  /** Settles a write whose answer was lost. */
  write_id: z.string(),
  /** The last candidate that a pass looked at: the next goes on behind it. */
  cursor: z.object({ finished_at: time, run_id: z.string() }).nullable(),
  /** Archives named before this server time were let go by the policy. */
  archives_horizon: time.nullable(),
  retained_at: time.nullable(),
  /**
   * A list that could not be read was begun anew: archives named between these times may be in no entry though no run
   * names them. Goes once a full pass has looked.
   */
  renewed: z.object({ from: time, until: time }).nullable().optional(),
  /** By run id. Bounded by unarchived traces, and by `traceWorkMax`. */
  entries: z.record(z.string(), entrySchema),
});
export type Work = z.infer<typeof workSchema>;

export interface StoredWork {
  work: Work;
  /** Null: there is none, or it is so broken that the store cannot even tell. */
  generation: string | null;
  /** What is stored cannot be read: `work` is a new one, and the next write replaces it. */
  isCorrupt: boolean;
}

/**
 * One GET; two where it cannot be read, and at most 1 HEAD. An org without has an empty one, and so has one whose is
 * corrupt: it is bookkeeping, which passes make anew from the index. Throws FormatError for one of a newer runfold.
 */
export async function readWork(store: ObjectStore, orgId: string, signal?: AbortSignal): Promise<StoredWork> {
  const key = traceWorkKey(orgId);
  for (let attempt = 0; ; attempt++) {
    try {
      const got = await store.get(key, { signal });
      if (got.outcome !== 'found') return { work: emptyWork(orgId), generation: null, isCorrupt: false };
      const { generation } = got.meta;
      const work = checkStored(key, workSchema, parseStored(key, 'work list', WORK_FORMAT, got.body));
      return { work, generation, isCorrupt: false };
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      // The wire may be at fault.
      if (attempt === 0) continue;
      const meta = await store.head(key, { signal }).catch((cause: unknown) => {
        if (cause instanceof CorruptError) return null;
        throw cause;
      });
      return { work: emptyWork(orgId), generation: meta?.generation ?? null, isCorrupt: true };
    }
  }
}

/**
 * Compares and swaps. `change` gets the work as it is and gives what it should be; null: nothing to do. 1 GET and 1
 * PUT without contention. A list that cannot be read is begun anew, and says so. Throws REVISION_CONFLICT,
 * OutcomeUnknownError.
 */
export async function changeWork(
  { store, random, limits }: { store: ObjectStore; random: Random; limits: Limits },
  orgId: string,
  now: number,
  change: (work: Work) => Work | null,
  signal?: AbortSignal,
): Promise<Work> {
  const key = traceWorkKey(orgId);
  let sent: string | null = null;
  for (let round = 0; round < limits.contentionRoundsMax; round++) {
    const { work: stored, generation, isCorrupt } = await readWork(store, orgId, signal);
    const from = Math.max(0, now - limits.traceChunkLifetimeMs);
    const work = isCorrupt ? { ...stored, renewed: { from, until: now } } : stored;
    if (isCorrupt && generation === null) {
      // Nothing to compare with: what is written says nothing but this, and the change comes behind it. Of two who do
      // so at once one may lose the other's claims, which save work and keep nothing safe.
      const put = await store.put(key, encodeStored({ ...work, write_id: uuidv7(now, random) }), {
        ...HOW,
        signal,
      });
      if (put.outcome === 'unknown' && round + 1 === limits.contentionRoundsMax)
        throw unconfirmed(key, put.cause);
      continue;
    }
    if (sent !== null && work.write_id === sent) return work;
    const changed = change(work);
    if (changed === null) return work;
    const next = { ...changed, write_id: uuidv7(now, random) };
    const put = await store.put(key, encodeStored(next), {
      ...HOW,
      ifGeneration: generation ?? ABSENT,
      signal,
    });
    if (put.outcome === 'written') return next;
    // Whose write is there is seen in the next round; a change that is applied twice must do no harm.
    sent = put.outcome === 'unknown' ? next.write_id : null;
    if (put.outcome === 'unknown' && round + 1 === limits.contentionRoundsMax) {
      throw unconfirmed(key, put.cause);
    }
  }
  throw new RunfoldError('REVISION_CONFLICT', `${key} changes too often to be written.`, {
    hint: 'Run fewer compactors on this org.',
  });
}

const HOW = { contentType: 'application/json', cacheControl: 'no-store' } as const;

function unconfirmed(key: string, cause: unknown): OutcomeUnknownError {
  return new OutcomeUnknownError(`The store did not confirm ${key}.`, { cause });
}

export function newEntry(now: number): WorkEntry {
  return { since: now, attempts: 0, next_at: now, claim: null, names: [], error: null, stale: false };
}

export function emptyWork(orgId: string): Work {
  return {
    format: WORK_FORMAT,
    org_id: orgId,
    write_id: '',
    cursor: null,
    archives_horizon: null,
    retained_at: null,
    entries: {},
  };
}
