import type { ObjectStore } from '../../src/store/object-store.ts';

/** All objects, with their metadata. Generations are new ones: nothing may depend on those of `from`. */
export async function copyObjects(from: ObjectStore, to: ObjectStore, prefix = ''): Promise<number> {
  let objects = 0;
  let pageToken: string | undefined;
  do {
    const page = await from.list({ prefix, pageToken });
    for (const { key, metadata } of page.items) {
      const got = await from.get(key);
      if (got.outcome !== 'found') continue;
      await to.put(key, got.body, { metadata });
      objects++;
    }
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  return objects;
}
