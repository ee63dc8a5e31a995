import { z } from 'zod';
import { CorruptError, FormatError } from './errors.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export function encodeStored(value: unknown): Uint8Array {
  return encoder.encode(JSON.stringify(value));
}

/** A stored object's JSON, once its `format` is known to be one that we read. Throws CorruptError, FormatError. */
export function parseStored(key: string, what: string, formatMax: number, body: Uint8Array): unknown {
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(body));
  } catch (cause) {
    throw new CorruptError(key, 'it is not JSON', { cause });
  }
  const format = (json as { format?: unknown } | null)?.format;
  if (typeof format === 'number' && format > formatMax) {
    throw new FormatError(key, `the ${what} has format ${format}; this runfold reads up to ${formatMax}`);
  }
  return json;
}

export function checkStored<T>(key: string, schema: z.ZodType<T>, json: unknown): T {
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new CorruptError(key, z.prettifyError(parsed.error).replaceAll('\n', '; '));
  return parsed.data;
}
