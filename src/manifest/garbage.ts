import { z } from 'zod';
import { CorruptError } from '../core/errors.ts';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';

export const GARBAGE_FORMAT = 1;

/** What one fold makes unneeded if its manifest commits. Written before the commit; void if that never happens. */
export const garbageListSchema = z.looseObject({
  format: z.literal(GARBAGE_FORMAT),
  org_id: z.string(),
  /** The version and attempt that must have committed before anything here may be deleted. */
  version: z.number().int().positive(),
  write_id: z.string(),
  /** `snapshot`: the copy of a superseded manifest, and the parts that only it and older ones named. */
  kind: z.enum(['entries', 'snapshot']),
  objects: z.array(z.object({ key: z.string(), generation: z.string() })),
});
export type GarbageList = z.infer<typeof garbageListSchema>;

export function encodeGarbage(list: GarbageList): Uint8Array {
  return encodeStored(list);
}

/** Throws CorruptError or FormatError, naming the key. */
export function decodeGarbage(key: string, orgId: string, body: Uint8Array): GarbageList {
  const list = checkStored(key, garbageListSchema, parseStored(key, 'garbage list', GARBAGE_FORMAT, body));
  if (list.org_id !== orgId) throw new CorruptError(key, 'it belongs to another org');
  return list;
}
