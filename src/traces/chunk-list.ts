import { chunksPrefix } from '../store/keys.ts';
import type { ObjectStore } from '../store/object-store.ts';
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
  const chunks: Chunk[] = [];
  const floor = (offset: number) => chunkKeyFloor(orgId, runId, attempt, offset);
  let pageToken: string | undefined;
  do {
    const page = await store.list({
      prefix: chunksPrefix(orgId, runId, attempt),
      ...(from > 0 && { start: floor(from - chunkBytesMax) }),
      ...(to !== undefined && { end: floor(to) }),
      pageToken,
      signal,
    });
    for (const meta of page.items) {
      const chunk = chunkOf(meta);
      if (chunk !== null) chunks.push(chunk);
    }
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return chunks;
}
