import { Overlay } from '../../src/catalog/fold.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { activeView, tablesView } from '../../src/catalog/views.ts';
import { systemRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { decodeEntry, encodeEntry } from '../../src/log/entry.ts';
import { decodePart, partCodec } from '../../src/snapshot/codec.ts';
import { Rows, RowsBuilder } from '../../src/snapshot/rows.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { type Dataset, decodeJson, Pool, type Rival } from './rival.ts';

const prefixOf = (orgId: string) => `rival/snapshot/${orgId}/`;

interface Pointer {
  manifest: string;
}

interface PlainManifest {
  parts: string[];
}

/**
 * The same rows, parts and entries as runfold's, with a pointer, a manifest, parts and entries as objects of their own
 * and nothing travelling in anything else. All of the snapshot is one part: there is no history apart from it.
 */
export const plainSnapshot: Rival = {
  name: 'plain snapshot',
  about:
    'GET pointer ∥ LIST log, GET manifest ∥ GET entries (64 at a time), GET parts; the same Parquet and entries; then tables() and active(), as runfold',
  prepare,
  async refresh(store, orgId) {
    const prefix = prefixOf(orgId);
    const [base, bodies] = await Promise.all([snapshot(store, prefix, orgId), entries(store, prefix)]);
    const overlay = new Overlay();
    for (const [key, body] of bodies) overlay.applyAll(decodeEntry(key, orgId, body).records);
    const state = new CatalogState(orgId, null, base, overlay);
    // The same lazy parts as runfold's: asked for the same.
    tablesView(state);
    activeView(state);
    return {
      rows: state.rowCount,
      async projections() {
        const rows = state.rows();
        return Array.from({ length: rows.length }, (_, i) => rows.get(i));
      },
    };
  },
};

async function prepare(store: ObjectStore, { orgId, folded, tail }: Dataset): Promise<void> {
  const prefix = prefixOf(orgId);
  const builder = new RowsBuilder(orgId, folded.length);
  for (const row of folded) builder.add(row);
  const codec = await partCodec();
  await store.put(`${prefix}parts/1.parquet`, await codec.encode(builder.build()));
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  await store.put(`${prefix}manifests/1.json`, json({ parts: ['parts/1.parquet'] } satisfies PlainManifest));
  await store.put(`${prefix}current.json`, json({ manifest: 'manifests/1.json' } satisfies Pointer));
  for (const [at, rows] of tail.entries()) {
    const name = uuidv7(Date.UTC(2026, 10, 20) + at, systemRandom);
    const records = rows.map((row) => ({ kind: 'put' as const, row }));
    await store.put(`${prefix}log/${name}.json`, encodeEntry({ org_id: orgId, records }));
  }
}

async function snapshot(store: ObjectStore, prefix: string, orgId: string): Promise<Rows> {
  const pointer = await store.get(`${prefix}current.json`);
  if (pointer.outcome !== 'found') return Rows.empty(orgId);
  const manifest = await store.get(`${prefix}${(decodeJson(pointer.body) as Pointer).manifest}`);
  if (manifest.outcome !== 'found') throw new Error('There is no manifest.');
  const [part] = (decodeJson(manifest.body) as PlainManifest).parts;
  const got = await store.get(`${prefix}${part}`);
  if (got.outcome !== 'found') throw new Error('There is no part.');
  return decodePart(`${prefix}${part}`, got.body);
}

async function entries(store: ObjectStore, prefix: string): Promise<Map<string, Uint8Array>> {
  const bodies = new Map<string, Uint8Array>();
  const pool = new Pool();
  let pageToken: string | undefined;
  do {
    const page = await store.list({ prefix: `${prefix}log/`, pageToken });
    for (const { key } of page.items) {
      pool.start(async () => {
        const got = await store.get(key);
        if (got.outcome === 'found') bodies.set(key, got.body);
      });
    }
    pageToken = page.next ?? undefined;
  } while (pageToken !== undefined);
  await pool.done();
  return bodies;
}
