import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { checkStored, encodeStored, parseStored } from '../core/stored-json.ts';
import { fail } from './pages-read.ts';

/** Version of what a history part has beside a part: its order, its three columns and the chunk directory. */
export const HISTORY_FORMAT = 1;
export const HISTORY_FORMAT_KEY = 'runfold.history_format';

/**
 * A row group of a history part in bytes:
 *
 *     "RFHG" · column chunks · directory as JSON · its length (u32) · its CRC-32 (u32) · "RFHG"      little-endian
 *
 * The chunks are what Parquet's footer points to; the rest lies in the gaps between them, which Parquet allows and
 * its readers skip. The directory says of this group what the footer says of all, so that one ranged read of these
 * bytes decodes the group.
 */
export const GROUP_MAGIC = Buffer.from('RFHG');
const TRAILER_BYTES = 12;

const count = z.number().int().nonnegative();
const directorySchema = z.looseObject({
  format: count.positive(),
  org_id: z.string(),
  rows: count.positive(),
  /** Offset from the start of the group, and size, of each column's chunk. */
  columns: z.record(z.string(), z.tuple([count, count])),
});
export type GroupDirectory = z.infer<typeof directorySchema>;

/** What follows the column chunks. */
export function encodeDirectory(directory: GroupDirectory): Uint8Array {
  const json = encodeStored(directory);
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(json.length, 0);
  trailer.writeUInt32LE(crc32(json), 4);
  GROUP_MAGIC.copy(trailer, 8);
  return Buffer.concat([json, trailer]);
}

/** `bytes` are those of a whole group. Throws FormatError, CorruptError or a plain Error. */
export function decodeDirectory(key: string, bytes: Uint8Array): GroupDirectory {
  const group = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const trailer = group.length - TRAILER_BYTES;
  if (trailer < GROUP_MAGIC.length || !isGroupMagic(group, 0) || !isGroupMagic(group, trailer + 8))
    fail('it is no row group of a history part');
  const length = group.readUInt32LE(trailer);
  if (length > trailer - GROUP_MAGIC.length) fail(`its directory claims ${length} bytes`);
  const json = group.subarray(trailer - length, trailer);
  if (crc32(json) !== group.readUInt32LE(trailer + 4)) fail('the checksum of its directory does not match');
  return checkStored(key, directorySchema, parseStored(key, 'history part', HISTORY_FORMAT, json));
}

/** Whether the bytes are a history part that has rows, rather than a head or any other Parquet file. */
export function isHistory(part: Uint8Array): boolean {
  return part.length > 8 && isGroupMagic(part, 4);
}

function isGroupMagic(bytes: Uint8Array, at: number): boolean {
  return GROUP_MAGIC.every((byte, i) => bytes[at + i] === byte);
}
