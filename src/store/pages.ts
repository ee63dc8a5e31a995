import type { ListOptions, ListPage, ObjectMeta, ObjectStore } from './object-store.ts';

/**
 * A listing to its end, page after page: one LIST per 1000 items, the next one when the page before was worked off. Who
 * stops early sends no more.
 */
export async function* pagesOf(
  store: Pick<ObjectStore, 'list'>,
  options: Omit<ListOptions, 'pageToken'>,
): AsyncGenerator<ListPage, void, void> {
  let pageToken: string | undefined;
  do {
    const page = await store.list({ ...options, pageToken });
    yield page;
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
}

/** All of its objects at once. */
export async function listAll(
  store: Pick<ObjectStore, 'list'>,
  options: Omit<ListOptions, 'pageToken'>,
): Promise<ObjectMeta[]> {
  const items: ObjectMeta[] = [];
  for await (const page of pagesOf(store, options)) items.push(...page.items);
  return items;
}
