import { Overlay } from '../../src/catalog/fold.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { entryTime } from '../../src/log/tail.ts';
import { decodeGarbage } from '../../src/manifest/garbage.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../../src/manifest/manifest.ts';
import { type LogRecord, runIdOf } from '../../src/runs/record.ts';
import type { RecordSink } from '../../src/runs/recorder.ts';
import { garbageKey, garbagePrefix, nameOfKey, orgOfKey } from '../../src/store/keys.ts';
import type { ObjectStore, PutOutcome } from '../../src/store/object-store.ts';
import { passThrough } from '../../src/store/pass-through.ts';
import type { Process } from './process.ts';

/** Parts that work, but for one rule each; mutations.ts says which. */

export function sinkOf(
  sink: RecordSink,
  change: (records: readonly LogRecord[]) => readonly LogRecord[],
): RecordSink {
  return {
    append: async (orgId, records, signal) => {
      const kept = change(records);
      if (kept.length > 0) await sink.append(orgId, kept, signal);
    },
  };
}

/** Takes each revision of a run once, delivered or not, as if the first caller always saw it through. */
export function forgetful(sink: RecordSink, seen: Set<string>): RecordSink {
  return sinkOf(sink, (records) =>
    records.filter((record) => {
      if (record.kind !== 'put') return true;
      const id = `${record.row.org_id}/${record.row.run_id}@${record.row.revision}`;
      if (seen.has(id)) return false;
      seen.add(id);
      return true;
    }),
  );
}

/** Stops now and then, by default for ten minutes, before it sends a record, and sends it all the same. */
export function sleeping(sink: RecordSink, { clock }: Process, ms = 600_000): RecordSink {
  let appends = 0;
  return {
    append: async (orgId, records, signal) => {
      if (++appends % 6 === 0) await clock.sleep(ms);
      await sink.append(orgId, records, signal);
    },
  };
}

/** Learns nothing. */
export function deaf<T extends { learn: unknown }>(clock: T): T {
  clock.learn = () => undefined;
  return clock;
}

export function believing(store: ObjectStore): ObjectStore {
  return {
    ...passThrough(store),
    async put(key, body, options): Promise<PutOutcome> {
      const put = await store.put(key, body, options);
      if (put.outcome !== 'unknown' || !key.includes('/log/')) return put;
      const meta = { key, generation: '?', sizeBytes: body.length, crc32c: crc32c(body), metadata: {} };
      return { outcome: 'written', meta: { ...meta, createdAt: entryTime(key) ?? 0 } };
    },
  };
}

export function unconditional(store: ObjectStore, keys: RegExp): ObjectStore {
  return {
    ...passThrough(store),
    put: (key, body, options) =>
      store.put(key, body, keys.test(key) ? { ...options, ifGeneration: undefined } : options),
  };
}

/**
 * Deletes what it wrote for a version once that version's commit is in doubt; and every other commit is, since doubt
 * is rare behind the retries.
 */
export function tidying(store: ObjectStore): ObjectStore {
  const written = new Map<string, Map<string, string>>();
  let commits = 0;
  return {
    ...passThrough(store),
    async put(key, body, options) {
      const orgId = orgOfKey(key) ?? '';
      const put = await store.put(key, body, options);
      const mine = written.get(orgId) ?? new Map<string, string>();
      written.set(orgId, mine);
      if (put.outcome === 'written' && /\/(snapshots|garbage)\//.test(key))
        mine.set(key, put.meta.generation);
      if (!key.endsWith('/manifest.json')) return put;
      written.delete(orgId);
      if (put.outcome === 'conflict' || ++commits % 2 === 0) return put;
      for (const [name, ifGeneration] of mine) await store.delete(name, { ifGeneration });
      return { outcome: 'conflict' };
    },
  };
}

export function deletingAnything(store: ObjectStore): ObjectStore {
  return {
    ...passThrough(store),
    async delete(key, options) {
      const meta = await store.head(key);
      return store.delete(key, { ...options, ifGeneration: meta?.generation ?? options.ifGeneration });
    },
  };
}

/** Shows this process another manifest than the one that is there. */
function showing(
  store: ObjectStore,
  change: (manifest: Manifest, createdAt: number) => Promise<{ manifest: Manifest; createdAt: number }>,
): ObjectStore {
  return {
    ...passThrough(store),
    async get(key, options) {
      const got = await store.get(key, options);
      const orgId = orgOfKey(key);
      if (got.outcome !== 'found' || orgId === null || !key.endsWith('/manifest.json')) return got;
      const { manifest, createdAt } = await change(decodeManifest(key, orgId, got.body), got.meta.createdAt);
      const body = encodeManifest(manifest);
      return { ...got, body, meta: { ...got.meta, createdAt } };
    },
  };
}

export function forgettingTombstones(store: ObjectStore): ObjectStore {
  return showing(store, async (manifest, createdAt) => ({
    manifest: { ...manifest, tombstones: [] },
    createdAt,
  }));
}

/** Counts each list's grace from the creation of what is in it. */
export function agedByCreation(store: ObjectStore, bare: ObjectStore): ObjectStore {
  return showing(store, async (manifest, createdAt) => {
    const garbage = [];
    for (const ref of manifest.garbage) {
      const got = await bare.get(garbageKey(manifest.org_id, ref.name)).catch(() => null);
      if (got?.outcome !== 'found' || ref.kind !== 'entries') {
        garbage.push(ref);
        continue;
      }
      const { objects } = decodeGarbage('garbage', manifest.org_id, got.body);
      garbage.push({ ...ref, committed_at: Math.min(...objects.map(({ key }) => entryTime(key) ?? 0)) });
    }
    return { manifest: { ...manifest, garbage }, createdAt };
  });
}

/** Takes every list that is there for one of a committed version. */
export function collectingAll(store: ObjectStore, bare: ObjectStore): ObjectStore {
  return showing(store, async (manifest, createdAt) => {
    const known = new Set(manifest.garbage.map(({ name }) => name));
    const garbage = [...manifest.garbage];
    const page = await bare.list({ prefix: garbagePrefix(manifest.org_id) }).catch(() => ({ items: [] }));
    for (const { key, createdAt: since } of page.items) {
      const name = nameOfKey(key);
      if (known.has(name)) continue;
      const ref = { name, kind: 'entries' as const, objects: 1, version: manifest.version };
      garbage.push({ ...ref, committed_at: since });
    }
    return { manifest: { ...manifest, garbage }, createdAt };
  });
}

/** Forgets which entry announced a run last. */
export function losingAnnouncements(): () => void {
  const { applyEntry } = Overlay.prototype;
  Overlay.prototype.applyEntry = function (records) {
    this.applyAll(records);
    for (const runId of this.intents.keys()) this.announcedAt.set(runId, 0);
  };
  return () => {
    Overlay.prototype.applyEntry = applyEntry;
  };
}

/** What was applied last stands. */
export function foldingTheLast(): () => void {
  const { apply } = Overlay.prototype;
  Overlay.prototype.apply = function (record) {
    if (record.kind === 'intent') this.intents.set(runIdOf(record), record);
    else this.facts.set(runIdOf(record), record);
  };
  return () => {
    Overlay.prototype.apply = apply;
  };
}
