import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Projection } from '../../src/runs/projection.ts';
import { answerOf, decodeJson, type Rival } from './rival.ts';

export const indexKey = (orgId: string) => `rival/index/${orgId}.json.zst`;
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

/**
 * Every writer rewrites the whole object by compare-and-swap, so what it holds is always complete. A reader can do no
 * better than one GET; a writer can do no better than one change per second and org, however many writers there are.
 */
export const jsonIndex: Rival = {
  name: 'JSON index per org',
  about: 'one object of all projections as JSON, zstd level 3, rewritten by compare-and-swap on every change',
  async prepare(store, { orgId, current }) {
    await store.put(indexKey(orgId), encodeIndex(current));
  },
  async refresh(store, orgId) {
    const got = await store.get(indexKey(orgId));
    if (got.outcome !== 'found') return answerOf([]);
    return answerOf(decodeIndex(got.body));
  },
};

export function encodeIndex(rows: readonly Projection[]): Uint8Array {
  return zstdCompressSync(Buffer.from(JSON.stringify(rows)), LEVEL);
}

export function decodeIndex(body: Uint8Array): Projection[] {
  return decodeJson(zstdDecompressSync(body)) as Projection[];
}
