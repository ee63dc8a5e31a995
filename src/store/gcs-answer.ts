import type { IncomingHttpHeaders } from 'node:http';
import { crc32cFromBase64 } from '../core/crc32c.ts';
import { StoreError } from '../core/errors.ts';
import type { GcsAnswer } from './gcs-http.ts';
import type { ObjectMeta } from './object-store.ts';

/** The parts of GCS' object resource that runfold asks for. */
export interface ObjectResource {
  name: string;
  generation: string;
  size: string;
  crc32c: string;
  timeCreated: string;
  metadata?: Record<string, string>;
}

/** For the `fields` parameter: GCS leaves the rest (ACLs, links, owners) out of the answer. */
export const RESOURCE_FIELDS = 'name,generation,size,crc32c,timeCreated,metadata';

/** The server may have acted before it failed, so a write that is answered like this is in doubt. */
export function isDoubtful(status: number): boolean {
  return status === 408 || status >= 500;
}

/** A 404 that means the object. One that means the bucket is not absence but a wrong configuration. */
export function isObjectMissing(answer: GcsAnswer): boolean {
  return answer.status === 404 && !saysBucketMissing(explain(answer).message);
}

/** Every answer that is not an outcome of the port, as the error that it is. */
export function refusal(answer: GcsAnswer, url: string): StoreError {
  const { status } = answer;
  const { message, reason } = explain(answer);
  const said = `${url}: Cloud Storage answered ${status}${message && `: ${message}`}`;
  const details = { status, reason };
  const retryAfterMs = retryAfter(answer);
  if (status === 429 || /rateLimitExceeded/i.test(reason)) {
    return new StoreError('STORE_THROTTLED', said, { retryable: true, retryAfterMs, details });
  }
  if (isDoubtful(status)) {
    return new StoreError('STORE_UNAVAILABLE', said, { retryable: true, retryAfterMs, details });
  }
  if (status === 401 || status === 403) {
    return new StoreError('STORE_DENIED', said, {
      retryable: false,
      hint: 'Check who you are (`gcloud auth application-default login`) and that it has roles/storage.objectUser on the bucket.',
      details,
    });
  }
  if (status === 404) {
    return new StoreError('STORE_FAILED', said, {
      retryable: false,
      hint: 'Does the bucket exist? Create it with `gcloud storage buckets create`, or correct its name.',
      details,
    });
  }
  // The server checks the CRC-32C that a put carries: a mismatch means bytes damaged on the way, nothing stored.
  const retryable = status === 400 && /crc32c/i.test(message);
  return new StoreError('STORE_FAILED', said, { retryable, details });
}

/** The answer to a metadata request or a list, parsed. */
export function parseJson<T>(answer: GcsAnswer, url: string): T {
  try {
    return JSON.parse(decode(answer.body)) as T;
  } catch (cause) {
    throw strange(url, 'the answer is not JSON', cause);
  }
}

export function metaFromResource(key: string, resource: ObjectResource, url: string): ObjectMeta {
  const { generation, size, crc32c, timeCreated, metadata = {} } = resource;
  return checkMeta(url, {
    key,
    generation,
    sizeBytes: Number(size),
    crc32c: crc32cFromBase64(crc32c ?? ''),
    createdAt: Date.parse(timeCreated),
    metadata,
  });
}

/**
 * The headers of a download. `Last-Modified` stands for `timeCreated`, which downloads do not tell: the same
 * instant for objects that are never patched, as ours, cut to whole seconds.
 */
export function metaFromHeaders(key: string, headers: IncomingHttpHeaders, url: string): ObjectMeta {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith('x-goog-meta-')) metadata[name.slice('x-goog-meta-'.length)] = String(value);
  }
  const hash = /\bcrc32c=([^,\s]+)/.exec(String(headers['x-goog-hash'] ?? ''));
  return checkMeta(url, {
    key,
    generation: String(headers['x-goog-generation'] ?? ''),
    sizeBytes: Number(headers['x-goog-stored-content-length'] ?? Number.NaN),
    crc32c: crc32cFromBase64(hash?.[1] ?? ''),
    createdAt: Date.parse(headers['last-modified'] ?? ''),
    metadata,
  });
}

export function serverTimeOf(answer: GcsAnswer, url: string): number {
  if (answer.serverTime === null) throw strange(url, 'the answer has no Date');
  return answer.serverTime;
}

function checkMeta(url: string, meta: ObjectMeta): ObjectMeta {
  const numbers = meta.sizeBytes + meta.crc32c + meta.createdAt;
  if (!meta.generation || Number.isNaN(numbers)) {
    throw strange(url, 'the answer lacks generation, size, checksum or time');
  }
  return meta;
}

function strange(url: string, what: string, cause?: unknown): StoreError {
  return new StoreError('STORE_FAILED', `${url}: ${what}`, {
    retryable: false,
    hint: 'Is it Cloud Storage that answers at this endpoint?',
    cause,
  });
}

/** GCS explains itself in JSON, except on downloads, where the message alone is the body. */
function explain(answer: GcsAnswer): { message: string; reason: string } {
  const text = decode(answer.body.subarray(0, 4_096)).trim();
  try {
    const { error } = JSON.parse(text) as { error: { message: string; errors?: { reason?: string }[] } };
    return { message: error.message, reason: error.errors?.[0]?.reason ?? '' };
  } catch {
    return { message: text.slice(0, 300), reason: '' };
  }
}

/** Anchored: the message about an object quotes its name, which may be anything. */
function saysBucketMissing(message: string): boolean {
  return /^The specified bucket does not exist/i.test(message);
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
}

/** RFC 9110: seconds or a date; the date against the server's own clock. */
function retryAfter(answer: GcsAnswer): number | undefined {
  const text = answer.headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text)
    ? Number(text) * 1000
    : Date.parse(text) - Date.parse(answer.headers.date ?? '');
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
