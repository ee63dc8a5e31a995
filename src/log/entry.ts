import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { z } from 'zod';
import { crc32c } from '../core/crc32c.ts';
import { CorruptError } from '../core/errors.ts';
import { exactCheck } from '../core/exact-check.ts';
import { defaultLimits } from '../core/limits.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';
import { type LogRecord, recordSchema } from '../runs/record.ts';
import type { ObjectMeta } from '../store/object-store.ts';
import { DICTIONARY_V1 } from './dictionary.ts';

export const ENTRY_FORMAT = 1;
/** Custom metadata that carries the compressed body; the digit is the dictionary's version. */
export const INLINE_KEY = 'rf-entry-1';
/** Left free for the store's own custom metadata (WRITE_ID) beside the payload. */
const INLINE_SPARE_BYTES = 256;

export interface Entry {
  org_id: string;
  records: LogRecord[];
}

const entrySchema = z.object({
  format: z.literal(ENTRY_FORMAT),
  org_id: z.string(),
  records: z.array(recordSchema).min(1),
});

const isExact = exactCheck(entrySchema);

export function encodeEntry({ org_id, records }: Entry): Uint8Array {
  return encodeStored({ format: ENTRY_FORMAT, org_id, records });
}

/** Throws CorruptError or FormatError, naming the key. */
export function decodeEntry(key: string, orgId: string, body: Uint8Array): Entry {
  const json = parseStored(key, 'entry', ENTRY_FORMAT, body);
  // A reader checks a thousand records before it answers: what is exactly as it should be needs no copy by the schema.
  const entry = isExact(json) ? (json as Entry) : checkStored(key, entrySchema, json);
  const foreign = entry.records.some((record) => record.kind !== 'delete' && record.row.org_id !== orgId);
  if (entry.org_id !== orgId || foreign) throw new CorruptError(key, 'it belongs to another org');
  return entry;
}

/** The body for custom metadata, where it fits: then one LIST carries the records. */
export function inlinePayload(body: Uint8Array, metadataBytesMax: number): Record<string, string> {
  const room = metadataBytesMax - INLINE_SPARE_BYTES - INLINE_KEY.length;
  if (room <= 0 || body.length > 64 * metadataBytesMax) return {};
  const text = deflateRawSync(body, { dictionary: DICTIONARY_V1, level: 9 }).toString('base64');
  return text.length <= room ? { [INLINE_KEY]: text } : {};
}

/**
 * The body that a LIST item carried; null when it carried none. The object's own checksum covers the body, so a
 * payload that was damaged on its way cannot pass for it.
 */
export function inlineBody(item: ObjectMeta): Uint8Array | null {
  const text = item.metadata[INLINE_KEY];
  if (text === undefined) return null;
  try {
    const body = inflateRawSync(Buffer.from(text, 'base64'), {
      dictionary: DICTIONARY_V1,
      maxOutputLength: defaultLimits.entryBytesMax,
    });
    if (crc32c(body) === item.crc32c) return body;
  } catch {
    // Falls through: the body of the object itself decides.
  }
  return null;
}
