import { z } from 'zod';
import { CorruptError, FormatError } from './errors.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export function encodeStored(value: unknown): Uint8Array {
  return encoder.encode(JSON.stringify(value));
}

/** Throws plain Errors. */
export function parseJson(body: Uint8Array): unknown {
  return JSON.parse(decoder.decode(body));
}

/** A stored object's JSON, once its `format` is known to be one that we read. Throws CorruptError, FormatError. */
export function parseStored(key: string, what: string, formatMax: number, body: Uint8Array): unknown {
  const json = orNoJson(key, () => parseJson(body));
  refuseNewer(key, what, formatMax, json);
  return json;
}

/** What `parse` gives; CorruptError for whatever it throws. */
export function orNoJson<T>(key: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new CorruptError(key, 'it is not JSON', { cause });
  }
}

/** Throws FormatError. */
export function refuseNewer(key: string, what: string, formatMax: number, json: unknown): void {
  const format = (json as { format?: unknown } | null)?.format;
  if (typeof format === 'number' && format > formatMax) {
    throw new FormatError(key, `the ${what} has format ${format}; this runfold reads up to ${formatMax}`);
  }
}

export function checkStored<T>(key: string, schema: z.ZodType<T>, json: unknown): T {
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new CorruptError(key, problemOf(parsed.error, json));
  return parsed.data;
}

/** Fields that are named; who has lost more of them has not lost single fields. */
const NAMED_MAX = 3;

/** What is wrong with a stored object, in one sentence that names the fields. */
function problemOf({ issues }: z.ZodError, json: unknown): string {
  if (json === null || typeof json !== 'object' || Array.isArray(json)) return 'it is not a JSON object';
  const isMissing = ({ path }: z.core.$ZodIssue) => valueAt(json, path) === undefined;
  const missing = issues.filter(isMissing).map(nameOf);
  const wrong = issues.filter((issue) => !isMissing(issue));
  return [
    ...(missing.length > 0 ? [`it has no ${listed(missing)}`] : []),
    ...(wrong.length > 0
      ? [listed(wrong.map((issue) => `${nameOf(issue)} is wrong (${lowerFirst(issue.message)})`))]
      : []),
  ].join('; ');
}

function nameOf({ path }: z.core.$ZodIssue): string {
  return path.length === 0 ? 'the whole' : z.core.toDotPath(path);
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMED_MAX);
  const more = names.length - shown.length;
  if (more > 0) return `${shown.join(', ')} and ${more} more`;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  let value = json;
  for (const step of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[step];
  return value;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
