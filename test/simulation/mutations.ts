import { Overlay } from '../../src/catalog/fold.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { entryTime } from '../../src/log/tail.ts';
import { decodeGarbage, encodeGarbage } from '../../src/manifest/garbage.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../../src/manifest/manifest.ts';
import { type LogRecord, runIdOf } from '../../src/runs/record.ts';
import type { RecordSink } from '../../src/runs/recorder.ts';
import { garbageKey, garbagePrefix, nameOfKey, orgOfKey } from '../../src/store/keys.ts';
import { ABSENT, type ObjectStore, type PutOutcome } from '../../src/store/object-store.ts';
import type { Hooks } from './desk.ts';
import type { Setup } from './simulate.ts';
import { passThrough } from './witness.ts';

/** One rule of the protocol taken away, the setting in which that shows soonest, and the laws it may break. */
export interface Mutation {
  rule: string;
  hooks: Hooks;
  setup?: Partial<Setup>;
  /** Changes what no wrapper reaches; gives back what undoes it. */
  patch?: () => () => void;
  /** Why no simulation can notice: the rule is a second line of defence. */
  unnoticed?: string;
}

const CALM = { writer: { crash: 0, pause: 0 }, reader: { crash: 0, pause: 0 } };
const DYING = { lateMs: 200_000, faults: { late_write: 0.3 }, chaos: { writer: { crash: 0.03, pause: 0 } } };
const FREQUENT = { passGapMs: 3_000, compactors: 2 };

export const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'an intent goes before a run enters the active set',
    hooks: { sink: (sink) => sinkOf(sink, (records) => records.filter(({ kind }) => kind !== 'intent')) },
  },
  {
    rule: 'acknowledge after the append',
    hooks: {
      sink: (sink) => ({
        append: async (orgId, records, signal) => {
          sink.append(orgId, records, signal).catch(() => undefined);
        },
      }),
    },
  },
  {
    rule: 'a repeat appends the record again',
    setup: { chaos: { ...CALM, writer: { crash: 0.02, pause: 0 } } },
    hooks: { sink: forgetful },
  },
  {
    rule: 'an unknown append is not a success',
    hooks: { store: (store, role) => (role === 'writer' ? believing(store) : store) },
    setup: { limits: { attemptsMax: 2 }, faults: { refused: 0.3, late_write: 0.3 } },
  },
  {
    rule: 'an acknowledged entry bears the server time in its name, within entryLagMax',
    hooks: { limits: (role) => (role === 'writer' ? { entryLagMaxMs: 1e9 } : {}), serverClock: deaf },
  },
  {
    rule: 'a warm cursor goes back by entryLagMax',
    hooks: { limits: (role) => (role === 'reader' ? { entryLagMaxMs: 0 } : {}) },
    setup: { faults: { refused: 0.1, stall_before: 0.05 } },
  },
  {
    rule: 'coversUntil stays behind by entryLagMax',
    hooks: { limits: (role) => (role === 'compactor' ? { entryLagMaxMs: -60_000 } : {}) },
    setup: { ...FREQUENT, pageMax: 3 },
  },
  {
    rule: 'a round that outlives half the grace is done again',
    hooks: { limits: (role) => (role === 'reader' ? { entryGraceMs: 1e12 } : {}) },
    setup: { ...FREQUENT, readers: 4, pageMax: 3, chaos: { reader: { crash: 0, pause: 0.02 } } },
  },
  {
    rule: 'entries wait out the grace',
    hooks: { limits: (role) => (role === 'compactor' ? { entryGraceMs: 0, serverTimeResolutionMs: 0 } : {}) },
    setup: { ...FREQUENT, readers: 4 },
  },
  {
    rule: 'the grace counts from the commit, not from the creation',
    hooks: { store: (store, role, bare) => (role === 'compactor' ? agedByCreation(store, bare) : store) },
    setup: { passGapMs: 400_000, compactors: 3, readers: 6, minutes: 30, faults: { stall_before: 0.1 } },
  },
  {
    rule: 'only the garbage of committed versions is collected',
    hooks: { store: (store, role, bare) => (role === 'compactor' ? collectingAll(store, bare) : store) },
    setup: { ...FREQUENT, compactors: 3 },
  },
  {
    rule: 'the manifest is compared and swapped',
    hooks: {
      store: (store, role) => (role === 'compactor' ? unconditional(store, /\/manifest\.json$/) : store),
    },
    setup: { ...FREQUENT, compactors: 3 },
  },
  {
    rule: 'a canonical run is compared and swapped',
    hooks: { store: (store) => unconditional(store, /^authoritative-runs\//) },
    setup: { operators: 2 },
  },
  {
    rule: 'an unknown commit is not cleaned up',
    hooks: { store: (store, role) => (role === 'compactor' ? tidying(store) : store) },
    setup: { ...FREQUENT, limits: { inlineHeadBytesMax: 0, attemptsMax: 2 }, faults: { answer_lost: 0.15 } },
  },
  { rule: 'readers look into open intents', hooks: { resolveIntents: false } },
  {
    rule: 'an open intent stays in the log until intentTtl',
    hooks: { limits: (role) => (role === 'compactor' ? { intentTtlMs: 0 } : {}) },
    setup: { ...FREQUENT, ...DYING },
  },
  {
    rule: 'readers go on asking until no write of the intent can land any more',
    hooks: { limits: (role) => (role === 'compactor' ? { lateWriteMaxMs: -1 } : {}) },
    setup: { ...FREQUENT, ...DYING },
  },
  { rule: 'the highest revision wins', hooks: {}, patch: foldingTheLast },
  {
    rule: 'a tombstone outlives its entry',
    hooks: { store: (store) => forgettingTombstones(store) },
    setup: { ...FREQUENT, removals: 0.5, faults: { late_write: 0.1 } },
  },
  {
    rule: 'every body is checked against its checksum',
    hooks: { unverified: true },
    setup: { faults: { flipped_body: 0.5 }, listMetadata: false },
  },
  {
    rule: 'the collector names the generation that it deletes',
    hooks: { store: (store, role) => (role === 'compactor' ? deletingAnything(store) : store) },
    setup: FREQUENT,
    unnoticed:
      'names of entries, parts and lists are never used twice, so there is no other generation to hit; of a dirty marker there is, and a lost marker costs a slow full pass, not a law',
  },
];

function sinkOf(
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
function forgetful(sink: RecordSink): RecordSink {
  return sinkOf(sink, (records) =>
    records.filter((record) => {
      if (record.kind !== 'put') return true;
      const id = `${record.row.org_id}/${record.row.run_id}@${record.row.revision}`;
      if (seenRecords.has(id)) return false;
      seenRecords.add(id);
      return true;
    }),
  );
}
const seenRecords = new Set<string>();

/** Learns nothing. */
function deaf<T extends { learn: unknown }>(clock: T): T {
  clock.learn = () => undefined;
  return clock;
}

function believing(store: ObjectStore): ObjectStore {
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

function unconditional(store: ObjectStore, keys: RegExp): ObjectStore {
  return {
    ...passThrough(store),
    put: (key, body, options) =>
      store.put(key, body, keys.test(key) ? { ...options, ifGeneration: undefined } : options),
  };
}

/** Deletes what it wrote for a version once that version's commit is in doubt. */
function tidying(store: ObjectStore): ObjectStore {
  const written = new Map<string, Map<string, string>>();
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
      if (put.outcome !== 'unknown') return put;
      for (const [name, ifGeneration] of mine) await store.delete(name, { ifGeneration });
      return { outcome: 'conflict' };
    },
  };
}

function deletingAnything(store: ObjectStore): ObjectStore {
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

function forgettingTombstones(store: ObjectStore): ObjectStore {
  return showing(store, async (manifest, createdAt) => ({
    manifest: { ...manifest, tombstones: [] },
    createdAt,
  }));
}

/** Counts each list's grace from the creation of what is in it. */
function agedByCreation(store: ObjectStore, bare: ObjectStore): ObjectStore {
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
function collectingAll(store: ObjectStore, bare: ObjectStore): ObjectStore {
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

/** What was applied last stands. */
function foldingTheLast(): () => void {
  const { apply } = Overlay.prototype;
  Overlay.prototype.apply = function (record) {
    if (record.kind === 'intent') this.intents.set(runIdOf(record), record);
    else this.facts.set(runIdOf(record), record);
  };
  return () => {
    Overlay.prototype.apply = apply;
  };
}
void encodeGarbage;
void ABSENT;
