import { z } from 'zod';
import { CorruptError, FormatError } from '../core/errors.ts';
import { checkStored, encodeStored, orNoJson, refuseNewer } from '../core/stored-json.ts';
import { READER_FEATURES, WRITER_FEATURES } from './features.ts';
import { keepHead, parseManifest } from './inline-head.ts';

export const MANIFEST_FORMAT = 1;

const time = z.number().int().nonnegative();
const count = z.number().int().nonnegative();
const stateHash = z.string().regex(/^[0-9a-f]{32}$/);

/** One immutable Parquet file of rows. */
export const partSchema = z.looseObject({
  /** uuidv7: the object is `snapshots/<name>.parquet`, unless `inline` holds it. */
  name: z.string(),
  /** 0: the head, hot. From 1: history, sealed; six parts of one level merge into one of the next. */
  level: count,
  /** Runs in it. A history part holds a row per table of each run: `rows` may be more. */
  runs: count,
  rows: count,
  size_bytes: count,
  crc32c: count,
  /** Of the part's object; null when it is inline. */
  generation: z.string().nullable(),
  state_hash: stateHash,
  created_at_min: time.nullable(),
  created_at_max: time.nullable(),
  updated_at_max: time.nullable(),
  /** Null while a run in it has not finished. */
  finished_at_max: time.nullable(),
  /** Server time of the fold that wrote it: tombstones up to then are worked in. */
  written_at: time,
  /** Index of a history part's row groups (FORMAT.md, "History parts"); null for the head. */
  groups: z.string().nullable(),
  /** The file itself, base64: a small head needs no object and no second round. */
  inline: z.string().nullable(),
  /** The version of the projection whose columns it has; missing: the first. */
  projection: count.optional(),
});
export type Part = z.infer<typeof partSchema>;

/** A garbage list that some committed version wrote and nobody has finished collecting. */
export const garbageRefSchema = z.looseObject({
  name: z.string(),
  kind: z.enum(['entries', 'snapshot']),
  objects: count,
  /** The version whose commit made the objects unneeded, and the server time of that commit once it is known. */
  version: count,
  committed_at: time.nullable(),
});
export type GarbageRef = z.infer<typeof garbageRefSchema>;

export const quarantinedSchema = z.looseObject({
  key: z.string(),
  reason: z.string(),
  since: time,
  /** `repair` has made good what it said: it is passed over until it is deleted, and nothing is missing. */
  released: z.boolean().optional(),
});
export type Quarantined = z.infer<typeof quarantinedSchema>;

/** An intent that a compactor looked into and found unconfirmed; readers need not ask again. */
export const lookedAtSchema = z.looseObject({ run_id: z.string(), revision: count, looked_at: time });
export type LookedAt = z.infer<typeof lookedAtSchema>;

export const tombstoneSchema = z.looseObject({
  run_id: z.string(),
  revision: count,
  deleted_at: time,
  /** Server time of the fold that took it in: parts written before may still hold the run. */
  folded_at: time,
});
export type Tombstone = z.infer<typeof tombstoneSchema>;

export const policySchema = z.looseObject({
  /** Forget runs that ended longer ago than this, ms; null: never. */
  retain_ms: z.number().int().positive().nullable(),
  /** Keep superseded versions readable for this long, ms. */
  time_travel_ms: count,
  /** Delete archives of traces this long after they were made, ms; null or missing: never. */
  trace_retain_ms: z.number().int().positive().nullable().optional(),
});
export type Policy = z.infer<typeof policySchema>;

export const manifestSchema = z.looseObject({
  format: z.literal(MANIFEST_FORMAT),
  org_id: z.string(),
  version: z.number().int().positive(),
  /** Unique to one attempt of one compactor: settles a commit whose answer was lost. */
  write_id: z.string(),
  /** Features that a reader (writer) must know to use (replace) this manifest. */
  reader_features: z.array(z.string()),
  writer_features: z.array(z.string()),
  /** The runfold version that brought each of them: what a refusal tells to upgrade to. */
  feature_versions: z.record(z.string(), z.string()).optional(),
  created_at: time,
  /** Server time at which the version before this one was committed; null for the first. */
  previous_committed_at: time.nullable(),
  /** Only in a copy that `repair` put in the place of a version whose manifest was lost: what it held, nobody knows. */
  lost: z.literal(true).optional(),
  /** Every acknowledged entry named before this server time is folded. */
  covers_until: time,
  parts: z.array(partSchema),
  /** Runs in all parts; one that was sealed and came back is counted in each. */
  rows: count,
  active: count,
  state_hash: stateHash,
  /** What this version did to the previous one: state_hash = previous ⊕ added ⊖ removed. */
  fold: z.looseObject({
    entries: count,
    records: count,
    ties: count,
    added_hash: stateHash,
    removed_hash: stateHash,
  }),
  /** Sums over all versions. */
  totals: z.looseObject({ entries: count, records: count, ties: count, rows_written: count }),
  policy: policySchema,
  /** Terminal runs that finished before this server time are forgotten, but for the latest success of a table. */
  horizon: time.nullable(),
  intents: z.array(lookedAtSchema),
  tombstones: z.array(tombstoneSchema),
  quarantine: z.array(quarantinedSchema),
  garbage: z.array(garbageRefSchema),
});
export type Manifest = z.infer<typeof manifestSchema>;

/** Throws where a defect made a manifest that no reader would accept: better no commit than that one. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  return encodeStored(manifestSchema.parse(manifest));
}

/** Throws CorruptError or FormatError, naming the key. */
export function decodeManifest(key: string, orgId: string, body: Uint8Array): Manifest {
  const { json, inline } = orNoJson(key, () => parseManifest(body));
  refuseNewer(key, 'manifest', MANIFEST_FORMAT, json);
  refuseUnknown(key, 'reader', json, READER_FEATURES);
  const manifest = checkStored(key, manifestSchema, json);
  if (manifest.org_id !== orgId) throw new CorruptError(key, 'it belongs to another org');
  if (inline !== null) keepHead(manifest.parts, inline);
  return manifest;
}

/** A compactor calls this before it replaces a manifest. */
export function checkWritable(key: string, manifest: Manifest): void {
  refuseUnknown(key, 'writer', manifest, WRITER_FEATURES);
}

/** `json` may be anything: this comes before its schema is looked at, which a feature may have changed. */
function refuseUnknown(key: string, who: 'reader' | 'writer', json: unknown, known: readonly string[]): void {
  const stored = json as Partial<Record<string, unknown>> | null;
  const features = stored?.[`${who}_features`];
  if (!Array.isArray(features)) return;
  const unknown = features.map(String).filter((feature) => !known.includes(feature));
  if (unknown.length === 0) return;
  const versions = (stored?.feature_versions ?? {}) as Partial<Record<string, unknown>>;
  const named = unknown.map((feature) => {
    const since = Object.hasOwn(versions, feature) ? versions[feature] : null;
    return typeof since === 'string' && VERSION.test(since) ? `${feature} (since runfold ${since})` : feature;
  });
  const needs = `the manifest needs the ${who} feature${unknown.length > 1 ? 's' : ''} ${named.join(', ')}`;
  const may = who === 'reader' ? 'cannot read it' : 'can read it, but must not replace it';
  throw new FormatError(key, `${needs}; this runfold ${may}`, { details: { features: unknown } });
}

/** What stands there came from a bucket, and is shown to people. */
const VERSION = /^[0-9A-Za-z.+-]{1,32}$/;
