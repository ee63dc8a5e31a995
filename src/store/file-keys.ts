import { badKey } from './file-errors.ts';

/** First segment of no key: locks and unfinished files live there. */
export const PRIVATE_DIR = '.runfold';

/** As on GCS. */
const KEY_BYTES_MAX = 1_024;
const SEGMENT_BYTES_MAX = 255;

/**
 * Printable ASCII without the backslash: then code units, UTF-8 bytes and file names are the same thing on every
 * file system, in the same order.
 */
const ALPHABET = /^[!-[\]-~]+$/;

/** Throws InputError for keys that cannot, or must not, be a path below the store's directory. */
export function checkKey(key: string): void {
  const problem = keyProblem(key);
  if (problem !== null) throw badKey(key, problem);
}

export function keyProblem(key: string): string | null {
  if (key.length === 0) return 'is empty';
  if (!ALPHABET.test(key)) return 'has a character that is not printable ASCII, or a backslash';
  if (key.length > KEY_BYTES_MAX) return `is longer than ${KEY_BYTES_MAX} bytes`;
  const segments = key.split('/');
  if (segments[0] === PRIVATE_DIR) return `starts with ${PRIVATE_DIR}, which belongs to the store itself`;
  for (const segment of segments) {
    if (segment === '') return 'has an empty segment';
    if (segment === '.' || segment === '..') return `has the segment ${segment}`;
    if (segment.length > SEGMENT_BYTES_MAX) return `has a segment longer than ${SEGMENT_BYTES_MAX} bytes`;
  }
  return null;
}

/** With its slash; empty for keys without one. */
export function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}
