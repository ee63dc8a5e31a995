import { LRUCache } from 'lru-cache';

export interface View {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}

/** Answers made from states that have not changed since, bounded in bytes. */
export type ViewCache = LRUCache<string, View>;

export function newViewCache(bytesMax: number): ViewCache {
  return new LRUCache({
    maxSize: bytesMax,
    sizeCalculation: ({ body, etag }, key) => body.length + etag.length + key.length,
  });
}
