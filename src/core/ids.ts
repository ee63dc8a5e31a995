import { createHash } from 'node:crypto';
import { InputError } from './errors.ts';
import { defaultLimits } from './limits.ts';

const ID = /^[A-Za-z0-9](?:[A-Za-z0-9._:@~+=-]*[A-Za-z0-9_=~+-])?$/;

/**
 * Org, run, task and queue ids become parts of object keys, so their alphabet is closed: letters, digits and
 * `._:@~+=-`, starting with a letter or digit, not ending in a dot, without `..`, at most `idLengthMax` characters.
 */
export function checkId(what: string, id: unknown, lengthMax = defaultLimits.idLengthMax): string {
  const problem = idProblem(id, lengthMax);
  if (problem === null) return id as string;
  throw new InputError(`The ${what} ${show(id)} ${problem}.`, {
    hint: `${idRule(lengthMax)}.`,
    details: { what },
  });
}

/** What ids may be, without a full stop. */
export function idRule(lengthMax = defaultLimits.idLengthMax): string {
  return `Use letters, digits and ._:@~+=- (first a letter or digit), at most ${lengthMax} characters`;
}

export function isId(id: unknown, lengthMax = defaultLimits.idLengthMax): id is string {
  return idProblem(id, lengthMax) === null;
}

function idProblem(id: unknown, lengthMax: number): string | null {
  if (typeof id !== 'string') return 'is not a string';
  if (id.length === 0) return 'is empty';
  if (id.length > lengthMax) return `is longer than ${lengthMax} characters`;
  if (id.includes('..')) return 'contains ".."';
  if (!ID.test(id)) return 'has characters that are not allowed';
  return null;
}

function show(id: unknown): string {
  const text = typeof id === 'string' ? id : String(id);
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}

/** An id as one segment of an object key. */
export function encodeSegment(id: string): string {
  return encodeURIComponent(id);
}

/** Longer encoded names would not leave a key below the 1024 bytes that stores allow. */
const NAME_SEGMENT_MAX = 96;

/**
 * Any text as one segment of an object key, and no two texts as the same one. Names of tables come from outside: none of
 * them may be a path. Percent-encoded; a leading dot or tilde as well, so that no segment is `.` or `..` and what begins
 * with a tilde is ours: `~` is the empty text, `~` and a hash stands for one that is too long or is not Unicode.
 */
export function nameSegment(name: string): string {
  if (name === '') return '~';
  const encoded = name.isWellFormed()
    ? encodeURIComponent(name).replace(/^[.~]/, (first) => (first === '.' ? '%2E' : '%7E'))
    : '';
  if (encoded !== '' && encoded.length <= NAME_SEGMENT_MAX) return encoded;
  // As JSON: there half a surrogate pair is an escape.
  return `~${createHash('sha256').update(JSON.stringify(name)).digest('hex').slice(0, 40)}`;
}

export function decodeSegment(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
