import { chunksPrefix } from '../store/keys.ts';
import type { ListOptions, ObjectStore } from '../store/object-store.ts';
import { listAll } from '../store/pages.ts';
import { type Chunk, chunkKeyFloor, chunkOf } from './chunks.ts';

export interface ChunkRange {
  /** Only chunks that may have bytes of [from, to). */
  from?: number | undefined;
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
  return chunksUnder(store, {
    prefix: chunksPrefix(orgId, runId, attempt),
    ...(from > 0 && { start: floor(from - chunkBytesMax) }),
    ...(to !== undefined && { end: floor(to) }),
    signal,
  });
}

/** Chunks of one run, or whatever is listed; what is no chunk is passed over. One LIST per 1000. */
export async function chunksUnder(
  store: ObjectStore,
  options: Omit<ListOptions, 'pageToken'>,
): Promise<Chunk[]> {
  const metas = await listAll(store, options);
  return metas.flatMap((meta) => chunkOf(meta) ?? []);
}
