import { crc32c } from '../core/crc32c.ts';
import { CorruptError } from '../core/errors.ts';
import type { GetOptions, GetOutcome, ObjectStore } from './object-store.ts';
import { passThrough } from './pass-through.ts';

/**
 * Checks every whole body against the checksum that the store keeps (law 8). A mismatch is read once more, since
 * the wire may be at fault, and then reported. Ranges cannot be checked here.
 */
export function verified(store: ObjectStore): ObjectStore {
  async function get(key: string, options: GetOptions = {}): Promise<GetOutcome> {
    for (let attempt = 0; ; attempt++) {
      const got = await store.get(key, options);
      if (got.outcome !== 'found' || options.range) return got;
      if (crc32c(got.body) === got.meta.crc32c) return got;
      if (attempt > 0) throw new CorruptError(key, 'its CRC-32C differs from the one the store keeps');
    }
  }
  return { ...passThrough(store), get };
}
