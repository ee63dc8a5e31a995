import { LRUCache } from 'lru-cache';
import { RunfoldError } from '../core/errors.ts';
import { listChunks } from './chunk-list.ts';
import type { TraceContext } from './context.ts';

const TRACES_MAX = 10_000;
/** Of what may be stored: so much is written by one process before it looks what all have; not more often than that. */
const SHARE = 8;
const LOOK_EVERY_MS = 1_000;

interface Amount {
  chunks: number;
  bytes: number;
}

interface Known {
  /** By the last look; nothing before the first. */
  listed: Amount;
  /** Admitted here since; what of it fails is counted until the next look. */
  since: Amount;
  /** Monotonic ms. */
  lookedAt: number;
  /** One look at a time. */
  looking: Promise<void> | null;
}

/**
 * What the chunks of one attempt take up, so that a worker that contradicts itself, or cuts its log into crumbs, costs
 * no more than a bound. No request until a process has written an eighth of it, then 1 LIST per 1000 chunks after each
 * eighth: processes together pass the bound by no more than an eighth each.
 */
export class StoredChunks {
  readonly #context: Pick<TraceContext, 'store' | 'clock' | 'limits'>;
  readonly #known = new LRUCache<string, Known>({ max: TRACES_MAX });

  constructor(context: Pick<TraceContext, 'store' | 'clock' | 'limits'>) {
    this.#context = context;
  }

  /**
   * Counts a chunk before it is written. The function takes it back where nothing was stored. `key` is where it would
   * lie: what lies there already is always let through, so that a repeat at the bound is answered as any other. Throws
   * LIMIT_EXCEEDED.
   */
  async admit(
    { orgId, runId, attempt, key, bytes }: ChunkPlace,
    signal: AbortSignal | undefined,
  ): Promise<() => void> {
    const { store, clock, limits } = this.#context;
    const name = JSON.stringify([orgId, runId, attempt]);
    const known = this.#known.get(name) ?? newKnown();
    this.#known.set(name, known);
    const age = clock.monotonic() - known.lookedAt;
    const isDoubtful = isOver(known, bytes, limits) && age >= limits.traceCheckMs;
    if ((isDue(known, bytes, limits) && age >= LOOK_EVERY_MS) || isDoubtful) {
      // For all who wait: it does not end with who was first.
      known.looking ??= this.#look(known, { orgId, runId, attempt }).finally(() => {
        known.looking = null;
      });
      await known.looking;
    }
    if (isOver(known, bytes, limits)) {
      if ((await store.head(key, { signal })) !== null) return () => undefined;
      throw overError(known, limits);
    }
    const { since } = known;
    since.chunks++;
    since.bytes += bytes;
    return () => {
      since.chunks--;
      since.bytes -= bytes;
    };
  }

  async #look(
    known: Known,
    { orgId, runId, attempt }: Pick<ChunkPlace, 'orgId' | 'runId' | 'attempt'>,
  ): Promise<void> {
    const { store, clock, limits } = this.#context;
    const range = { chunkBytesMax: limits.traceChunkBytesMax };
    const chunks = await listChunks(store, orgId, runId, attempt, range);
    known.listed = { chunks: chunks.length, bytes: chunks.reduce((sum, { bytes }) => sum + bytes, 0) };
    known.since = nothing();
    known.lookedAt = clock.monotonic();
  }
}

export interface ChunkPlace {
  orgId: string;
  runId: string;
  attempt: number;
  key: string;
  bytes: number;
}

type StoredLimits = Pick<TraceContext['limits'], 'traceStoredBytesMax' | 'traceChunksMax'>;

function isDue({ since }: Known, bytes: number, limits: StoredLimits): boolean {
  return (
    SHARE * (since.bytes + bytes) > limits.traceStoredBytesMax ||
    SHARE * (since.chunks + 1) > limits.traceChunksMax
  );
}

function isOver({ listed, since }: Known, bytes: number, limits: StoredLimits): boolean {
  return (
    listed.bytes + since.bytes + bytes > limits.traceStoredBytesMax ||
    listed.chunks + since.chunks + 1 > limits.traceChunksMax
  );
}

function overError(
  { listed, since }: Known,
  { traceStoredBytesMax, traceChunksMax }: StoredLimits,
): RunfoldError {
  return new RunfoldError(
    'LIMIT_EXCEEDED',
    `The log has ${listed.chunks + since.chunks} chunks of ${listed.bytes + since.bytes} bytes, overlaps and contradictions counted; the limits are ${traceChunksMax} and ${traceStoredBytesMax}.`,
    {
      hint: 'Send larger chunks, and each byte once; what was acknowledged stays.',
      details: { limit_chunks: traceChunksMax, limit_bytes: traceStoredBytesMax },
    },
  );
}

function newKnown(): Known {
  return { listed: nothing(), since: nothing(), lookedAt: Number.NEGATIVE_INFINITY, looking: null };
}

function nothing(): Amount {
  return { chunks: 0, bytes: 0 };
}
