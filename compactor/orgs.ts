import { decodeSegment, isId } from '../src/core/ids.ts';
import { ORGS_PREFIX } from '../src/store/keys.ts';
import type { ObjectStore } from '../src/store/object-store.ts';
import { pagesOf } from '../src/store/pages.ts';

/** Orgs that have a catalog: one LIST per 1000. */
export async function listOrgs(store: ObjectStore, signal?: AbortSignal): Promise<string[]> {
  const orgs: string[] = [];
  for await (const orgId of orgsUnder(store, ORGS_PREFIX, signal)) orgs.push(orgId);
  return orgs;
}

/** Orgs with a folder under `prefix`, which ends in a slash. What is no org's name is told to `onOther`, as a prefix. */
export async function* orgsUnder(
  store: ObjectStore,
  prefix: string,
  signal?: AbortSignal,
  onOther?: (folder: string) => void,
): AsyncGenerator<string, void, void> {
  for await (const page of pagesOf(store, { prefix, delimiter: '/', signal })) {
    for (const folder of page.prefixes) {
      const orgId = decodeSegment(folder.slice(prefix.length, -1));
      if (isId(orgId)) yield orgId;
      else onOther?.(folder);
    }
  }
}
