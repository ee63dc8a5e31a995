import { isDeepStrictEqual } from 'node:util';
import { mapParallel } from '../core/concurrency.ts';
import { crc32c } from '../core/crc32c.ts';
import { InputError, OutcomeUnknownError } from '../core/errors.ts';
import type { Limits } from '../core/limits.ts';
import type { Random } from '../core/random.ts';
import { ABSENT, type ObjectMeta, type ObjectStore } from '../store/object-store.ts';
import { listAll } from '../store/pages.ts';
import {
  checkVersionRef,
  decodeVersion,
  encodeVersion,
  nameOf,
  type PublishedVersion,
  type StoredVersion,
  uploadKey,
  VERSION_FORMAT,
  type VersionRef,
  versionKey,
  versionsPrefix,
} from './version.ts';

export interface RegistryOptions {
  limits: Limits;
  random: Random;
  /** Server-calibrated time, ms. */
  now: () => number;
  /** How long a reservation keeps others away. Its end frees the name, not the right to commit: see `reserve`. */
  reservationMs?: number | undefined;
}

export interface ReserveOptions {
  /** Who publishes, for those who are refused. */
  owner: string;
  /**
   * Names this attempt: a call that is repeated with the same token gets the answer of the first one. Random, of 16 to
   * 128 letters, digits, `-` or `_` (a UUID will do), and nobody else's. Without it a repeat is refused by itself.
   */
  token?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** The right to commit one version. Hand it back as it is. */
export interface Reservation {
  ref: VersionRef;
  token: string;
  /** Where to upload, create-only: no other reservation has this key. */
  uploadKey: string;
  expires_at: number;
}

export interface PublishDetails {
  uri: string;
  metadata?: Readonly<Record<string, string>> | undefined;
}

/** Somebody has published this version, or is at it. `holder` says who. */
export interface Refusal {
  outcome: 'refused';
  code: 'VERSION_ALREADY_EXISTS' | 'VERSION_PUBLISH_IN_PROGRESS' | 'VERSION_RESERVATION_LOST';
  message: string;
  holder: { owner: string; since: number; expires_at: number | null };
}

export type Reserved = { outcome: 'reserved'; reservation: Reservation } | Refusal;
export type Published = { outcome: 'published'; version: PublishedVersion } | Refusal;

const RESERVATION_MS = 600_000;

/** Custom metadata that carries a committed version in a LIST. */
const LISTED = 'rf-version';
const LISTED_BYTES_MAX = 7 * 1024;

/**
 * Which versions of artifacts are published, unique across any number of writers: one object per version, created
 * once. A reservation is held by a token, not by time. When it has expired somebody may take it over, which gives it
 * another token: the owner that was slow can then still upload, under a name that nobody reads, but not commit.
 *
 * Every call may be repeated after OutcomeUnknownError: `reserve` and `publish` with a `token` of the caller, without
 * which the repeat may be refused because of the first call; the others as they are.
 */
export class VersionRegistry {
  readonly #store: ObjectStore;
  readonly #options: RegistryOptions;

  constructor(store: ObjectStore, options: RegistryOptions) {
    this.#store = store;
    this.#options = options;
  }

  /** One PUT where the version is free; else a GET, and one more PUT to take over a reservation that has expired. */
  async reserve(orgId: string, given: VersionRef, options: ReserveOptions): Promise<Reserved> {
    const { owner, signal } = options;
    const ref = checkVersionRef(given);
    const token = this.#tokenOf(options);
    for (let round = 0; round < this.#options.limits.contentionRoundsMax; round++) {
      const now = this.#options.now();
      const fresh: StoredVersion = {
        format: VERSION_FORMAT,
        org_id: orgId,
        ...ref,
        state: 'reserved',
        token,
        owner,
        reserved_at: now,
        expires_at: now + (this.#options.reservationMs ?? RESERVATION_MS),
        committed_at: null,
        uri: null,
        metadata: {},
      };
      const found = round === 0 ? null : await this.#read(orgId, ref, signal);
      if (
        found?.version.token === token &&
        (found.version.state === 'committed' || found.version.expires_at > now)
      )
        return this.#reserved(orgId, ref, found.version);
      if (found !== null && (found.version.state === 'committed' || found.version.expires_at > now))
        return refusal(ref, found.version);
      const put = await this.#put(fresh, found?.generation ?? ABSENT, signal);
      if (put.outcome === 'written') return this.#reserved(orgId, ref, fresh);
      // `conflict` and `unknown` alike: what is there now decides, and our token tells whether it is ours.
    }
    throw new OutcomeUnknownError(`The reservation of ${nameOf(ref)} was not confirmed.`);
  }

  /**
   * Makes a reserved version visible to every index that hydrates later. One PUT. `VERSION_RESERVATION_LOST`: it had
   * expired and another owner holds it, or it was released; nothing was published. A repeat gets the answer of the first
   * call; `VERSION_ALREADY_EXISTS` where it names another uri or other metadata: those were not published.
   */
  async commit(
    orgId: string,
    { ref, token }: Reservation,
    details: PublishDetails,
    signal?: AbortSignal,
  ): Promise<Published> {
    for (let round = 0; round < this.#options.limits.contentionRoundsMax; round++) {
      const found = await this.#read(orgId, ref, signal);
      if (found === null || found.version.token !== token) return lost(ref, found?.version ?? null);
      if (found.version.state === 'committed') return repeated(ref, found.version, details);
      const committed: StoredVersion = {
        ...found.version,
        state: 'committed',
        committed_at: this.#options.now(),
        uri: details.uri,
        metadata: { ...details.metadata },
      };
      // The commit point: a takeover since the read has changed the generation, and this is refused.
      const put = await this.#put(committed, found.generation, signal);
      if (put.outcome === 'written') return { outcome: 'published', version: publishedOf(committed) };
    }
    throw new OutcomeUnknownError(`The publication of ${nameOf(ref)} was not confirmed.`);
  }

  /** Gives a reservation up, so that others need not wait for its end. Nothing happens where it is no longer held. */
  async release(orgId: string, { ref, token }: Reservation, signal?: AbortSignal): Promise<void> {
    const found = await this.#read(orgId, ref, signal);
    if (found === null || found.version.token !== token || found.version.state === 'committed') return;
    await this.#store.delete(versionKey(orgId, ref), { ifGeneration: found.generation, signal });
  }

  /** In one step, for what is uploaded already: one PUT. */
  async publish(
    orgId: string,
    given: VersionRef,
    details: PublishDetails,
    options: ReserveOptions,
  ): Promise<Published> {
    const { owner, signal } = options;
    const ref = checkVersionRef(given);
    const now = this.#options.now();
    const version: StoredVersion = {
      format: VERSION_FORMAT,
      org_id: orgId,
      ...ref,
      state: 'committed',
      token: this.#tokenOf(options),
      owner,
      reserved_at: now,
      expires_at: now,
      committed_at: now,
      uri: details.uri,
      metadata: { ...details.metadata },
    };
    for (let round = 0; round < this.#options.limits.contentionRoundsMax; round++) {
      const found = round === 0 ? null : await this.#read(orgId, ref, signal);
      const isOwn = found?.version.token === version.token;
      if (isOwn && found.version.state === 'committed') return repeated(ref, found.version, details);
      const isFree =
        found === null || isOwn || (found.version.state === 'reserved' && found.version.expires_at <= now);
      if (!isFree) return refusal(ref, found.version);
      const put = await this.#put(version, found?.generation ?? ABSENT, signal);
      if (put.outcome === 'written') return { outcome: 'published', version: publishedOf(version) };
    }
    throw new OutcomeUnknownError(`The publication of ${nameOf(ref)} was not confirmed.`);
  }

  /**
   * All committed versions of an org. One LIST per 1000 where the store lists metadata; a GET each for those that did
   * not travel in it.
   */
  async published(orgId: string, signal?: AbortSignal): Promise<PublishedVersion[]> {
    const items = await listAll(this.#store, { prefix: versionsPrefix(orgId), signal });
    const read = await mapParallel(
      items,
      this.#options.limits.parallelMax,
      (item, stop) => this.#listed(item, stop),
      signal,
    );
    return read.filter((version) => version?.state === 'committed').map((version) => publishedOf(version!));
  }

  async #listed(item: ObjectMeta, signal: AbortSignal): Promise<StoredVersion | null> {
    const inline = item.metadata[LISTED];
    if (inline === 'reserved') return null;
    if (inline !== undefined) {
      const body = Buffer.from(inline, 'base64');
      if (crc32c(body) === item.crc32c) return decodeVersion(item.key, body);
    }
    const got = await this.#store.get(item.key, { signal });
    return got.outcome === 'found' ? decodeVersion(item.key, got.body) : null;
  }

  async #read(orgId: string, ref: VersionRef, signal: AbortSignal | undefined) {
    const key = versionKey(orgId, ref);
    const got = await this.#store.get(key, { signal });
    if (got.outcome !== 'found') return null;
    return { version: decodeVersion(key, got.body), generation: got.meta.generation };
  }

  #put(version: StoredVersion, ifGeneration: string | typeof ABSENT, signal: AbortSignal | undefined) {
    const body = encodeVersion(version);
    const inline = version.state === 'reserved' ? 'reserved' : Buffer.from(body).toString('base64');
    const travels =
      inline.length <= Math.min(LISTED_BYTES_MAX, this.#store.capabilities.metadataBytesMax - 512);
    return this.#store.put(versionKey(version.org_id, version), body, {
      ifGeneration,
      contentType: 'application/json',
      signal,
      ...(travels ? { metadata: { [LISTED]: inline } } : {}),
    });
  }

  #reserved(orgId: string, ref: VersionRef, { token, expires_at }: StoredVersion): Reserved {
    return {
      outcome: 'reserved',
      reservation: { ref, token, uploadKey: uploadKey(orgId, ref, token), expires_at },
    };
  }

  #tokenOf({ token }: ReserveOptions): string {
    if (token === undefined) return this.#newToken();
    if (/^[A-Za-z0-9_-]{16,128}$/.test(token)) return token;
    throw new InputError(`${JSON.stringify(token)} is not a token.`, {
      hint: 'Use a UUID, or 16 to 128 letters, digits, - and _.',
    });
  }

  #newToken(): string {
    const { random } = this.#options;
    return [0, 1, 2, 3].map(() => random.u32().toString(16).padStart(8, '0')).join('');
  }
}

/** A repeat after a lost answer is the same publication; what says something else is none, and must not look like one. */
function repeated(ref: VersionRef, held: StoredVersion, details: PublishDetails): Published {
  const isSame = held.uri === details.uri && isDeepStrictEqual(held.metadata, { ...details.metadata });
  if (isSame) return { outcome: 'published', version: publishedOf(held) };
  const what = held.uri === details.uri ? 'with other metadata' : `as ${held.uri}, not as ${details.uri}`;
  return { ...refusal(ref, held), message: `${nameOf(ref)} was published already, ${what}.` };
}

function refusal(ref: VersionRef, held: StoredVersion): Refusal {
  const isDone = held.state === 'committed';
  return {
    outcome: 'refused',
    code: isDone ? 'VERSION_ALREADY_EXISTS' : 'VERSION_PUBLISH_IN_PROGRESS',
    message: isDone
      ? `${nameOf(ref)} was published by ${held.owner}.`
      : `${nameOf(ref)} is being published by ${held.owner}.`,
    holder: {
      owner: held.owner,
      since: held.committed_at ?? held.reserved_at,
      expires_at: isDone ? null : held.expires_at,
    },
  };
}

function lost(ref: VersionRef, held: StoredVersion | null): Refusal {
  return {
    outcome: 'refused',
    code: 'VERSION_RESERVATION_LOST',
    message: `The reservation of ${nameOf(ref)} is no longer held: nothing was published.`,
    holder: {
      owner: held?.owner ?? '',
      since: held?.committed_at ?? held?.reserved_at ?? 0,
      expires_at: held === null || held.state === 'committed' ? null : held.expires_at,
    },
  };
}

function publishedOf({
  table,
  artifact,
  version,
  owner,
  uri,
  committed_at,
  metadata,
}: StoredVersion): PublishedVersion {
  return { table, artifact, version, owner, uri: uri!, committed_at: committed_at!, metadata };
}
