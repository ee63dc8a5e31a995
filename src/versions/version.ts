import { hash } from 'node:crypto';
import { z } from 'zod';
import { InputError } from '../core/errors.ts';
import { checkId } from '../core/ids.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';
import { type Dataset, datasetSchema } from '../runs/run.ts';

export const VERSION_FORMAT = 1;
const NAME_MAX = 512;
const PART_MAX = 120;

/** What a version is of: one artifact (`model`, `schema`, …) of one table. */
export interface ArtifactRef {
  table: Dataset;
  artifact: string;
}

export interface VersionRef extends ArtifactRef {
  version: string;
}

const time = z.number().int().nonnegative();

/** The one object of a version. It is created once; its state changes by compare-and-swap only. */
export const versionSchema = z.looseObject({
  format: z.literal(VERSION_FORMAT),
  org_id: z.string(),
  table: datasetSchema,
  artifact: z.string(),
  version: z.string(),
  state: z.enum(['reserved', 'committed']),
  /** Of the reservation that may commit: whoever lost it to a takeover can not. */
  token: z.string(),
  owner: z.string(),
  /** Server-calibrated, ms. */
  reserved_at: time,
  expires_at: time,
  committed_at: time.nullable(),
  /** Where the bytes are; null while they are on their way. */
  uri: z.string().nullable(),
  metadata: z.record(z.string(), z.string()),
});
export type StoredVersion = z.infer<typeof versionSchema>;

/** A committed version, as the index shows it. */
export interface PublishedVersion extends VersionRef {
  owner: string;
  uri: string;
  committed_at: number;
  metadata: Readonly<Record<string, string>>;
}

export function encodeVersion(version: StoredVersion): Uint8Array {
  return encodeStored(version);
}

/** Throws CorruptError or FormatError, naming the key. */
export function decodeVersion(key: string, body: Uint8Array): StoredVersion {
  return checkStored(key, versionSchema, parseStored(key, 'version', VERSION_FORMAT, body));
}

/** Beside the catalog, not in it: an org's catalog prefix holds nothing that its compactors do not know. */
export const VERSIONS_PREFIX = 'artifact-versions/orgs/';
export const UPLOADS_PREFIX = 'artifact-versions/uploads/';

export function versionsPrefix(orgId: string): string {
  return `${VERSIONS_PREFIX}${encodeURIComponent(checkId('org id', orgId))}/`;
}

export function versionKey(orgId: string, ref: VersionRef): string {
  return `${versionsPrefix(orgId)}${pathOf(ref)}.json`;
}

/** The name under which the holder of one reservation uploads: nobody else's token gives the same one. */
export function uploadKey(orgId: string, ref: VersionRef, token: string): string {
  return `${UPLOADS_PREFIX}${encodeURIComponent(checkId('org id', orgId))}/${pathOf(ref)}/${token}`;
}

/**
 * Table names come from outside and may hold anything: encoded, with a mark in front so that no part is empty or a
 * dot. Long ones are hashed, because stores allow keys of 1024 bytes only; the object itself has them whole.
 */
function pathOf({ table, artifact, version }: VersionRef): string {
  const parts = [table.namespace, table.name, artifact, version];
  return parts
    .map((part) => {
      const encoded = encodeURIComponent(part);
      return encoded.length <= PART_MAX ? `=${encoded}` : `~${hash('sha256', part)}`;
    })
    .join('/');
}

export function nameOf({ table, artifact, version }: VersionRef): string {
  return `${artifact} ${version} of ${table.namespace}.${table.name}`;
}

export function checkVersionRef({ table, artifact, version }: VersionRef): VersionRef {
  const named: [string, string, boolean][] = [
    ['table namespace', table.namespace, true],
    ['table name', table.name, false],
    ['artifact', artifact, false],
    ['version', version, false],
  ];
  for (const [what, text, mayBeEmpty] of named) {
    if (typeof text !== 'string' || (!mayBeEmpty && text === ''))
      throw new InputError(`The ${what} is missing.`);
    if (text.length > NAME_MAX || !text.isWellFormed())
      throw new InputError(`The ${what} is longer than ${NAME_MAX} characters, or no text.`);
  }
  return { table: { namespace: table.namespace, name: table.name }, artifact, version };
}
