import { CorruptError } from '../core/errors.ts';
import { type Chunk, isWhole } from './chunks.ts';
import type { TraceContext } from './context.ts';
import { ofLog } from './zstd.ts';

/** A chunk's bytes, checked against its name; null: it is gone. Throws CorruptError. */
export async function readChunk(
  { store }: Pick<TraceContext, 'store'>,
  chunk: Chunk,
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  for (let attempt = 0; ; attempt++) {
    const got = await store.get(chunk.key, { signal }).catch((error: unknown) => {
      throw ofLog(error, CHUNK_HINT);
    });
    if (got.outcome !== 'found') return null;
    if (isWhole(chunk, got.body)) return got.body;
    if (attempt > 0)
      throw new CorruptError(chunk.key, 'its bytes are not those that its name tells', CHUNK_HINT);
  }
}

const CHUNK_HINT = {
  hint: '`runfold trace verify` shows the extent. Restore the object, or wait: what is left is archived as `partial`.',
};
