import { chunksPrefix } from '../store/keys.ts';
import type { ListOptions, ObjectStore } from '../store/object-store.ts';
import { pagesOf } from '../store/pages.ts';
import { type Chunk, chunkKeyFloor, chunkOf } from './chunks.ts';

export interface ChunkRange {
  /** Only chunks that may have bytes at `from` or later. */
  from?: number | undefined;
  /** What begins here or later is wanted only to see whether there is any: the first that does, or some more. */
  to?: number | undefined;
  chunkBytesMax: number;
}

/** Chunks of one attempt, by offset. One LIST per 1000. */
export async function listChunks(
  store: ObjectStore,
  orgId: string,
  runId: string,
  attempt: number,
  { from = 0, to, chunkBytesMax }: ChunkRange,
  signal?: AbortSignal,
): Promise<Chunk[]> {
  const floor = (offset: number) => chunkKeyFloor(orgId, runId, attempt, offset);
  const options = {
    prefix: chunksPrefix(orgId, runId, attempt),
    ...(from > 0 && { start: floor(from - chunkBytesMax) }),
    signal,
  };
  return chunksUnder(store, options, to);
}

/**
 * Chunks of one run, or whatever is listed; what is no chunk is passed over. One LIST per 1000, none after a page that
 * ends at offset `to` or later.
 */
export async function chunksUnder(
  store: ObjectStore,
  options: Omit<ListOptions, 'pageToken'>,
  to = Number.POSITIVE_INFINITY,
): Promise<Chunk[]> {
  const chunks: Chunk[] = [];
  for await (const { items } of pagesOf(store, options)) {
    for (const meta of items) {
      const chunk = chunkOf(meta);
      if (chunk !== null) chunks.push(chunk);
    }
    if ((chunks.at(-1)?.offset ?? 0) >= to) break;
  }
  return chunks;
}
