import { constants, crc32, zstdCompressSync } from 'node:zlib';
import type { Encoding } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { writePageHeader } from 'hyparquet-writer/src/datapage.js';
import { deltaBinaryPack } from 'hyparquet-writer/src/delta.js';
import { packHybrid } from './hybrid.ts';
import { type NumberVector, type TextVector, type Vector, workNumbers } from './vectors.ts';

/**
 * The pages of a part as the hyparquet codec writes them: data page v2, zstd, each with the CRC-32 that Parquet
 * provides for, so that a ranged read can be checked too. They are made from codes and typed arrays; the library's
 * own column writer wants a JavaScript value per cell and takes five times as long (docs/adr/0001-parquet-codec.md).
 */
export interface Body {
  encoding: Encoding;
  bytes: Uint8Array;
}

export interface PageSizes {
  compressed: number;
  uncompressed: number;
}

/** 1 for a value, 0 for null; null where no row in the range is null. */
export type Levels = Uint8Array | null;

const ZSTD_LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
const NOTHING = new Uint8Array(0);
/** Of nothing: many columns have no value at all, and a compressor costs more to make than to use. */
let compressedNothing: Uint8Array | null = null;

function compressed(plain: Uint8Array): Uint8Array {
  if (plain.length > 0) return zstdCompressSync(plain, ZSTD_LEVEL);
  compressedNothing ??= zstdCompressSync(plain, ZSTD_LEVEL);
  return compressedNothing;
}

export function writeDataPage(
  out: ByteWriter,
  rows: number,
  optional: boolean,
  levels: Levels,
  body: Body,
): PageSizes {
  const definition = optional ? packHybrid(levels ?? new Uint8Array(rows).fill(1), 1) : NOTHING;
  const packed = compressed(body.bytes);
  const stored = new Uint8Array(definition.length + packed.length);
  stored.set(definition);
  stored.set(packed, definition.length);
  const start = out.offset;
  writePageHeader(out, {
    type: 'DATA_PAGE_V2',
    uncompressed_page_size: definition.length + body.bytes.length,
    compressed_page_size: stored.length,
    crc: crc32(stored) | 0,
    data_page_header_v2: {
      num_values: rows,
      num_nulls: levels === null ? 0 : rows - countOnes(levels),
      num_rows: rows,
      encoding: body.encoding,
      definition_levels_byte_length: definition.length,
      repetition_levels_byte_length: 0,
      is_compressed: true,
    },
  });
  return append(out, start, stored, definition.length + body.bytes.length);
}

export function writeDictionaryPage(out: ByteWriter, entries: readonly Uint8Array[]): PageSizes {
  const plain = new Uint8Array(entries.reduce((sum, entry) => sum + 4 + entry.length, 0));
  const view = new DataView(plain.buffer);
  let at = 0;
  for (const entry of entries) {
    view.setUint32(at, entry.length, true);
    plain.set(entry, at + 4);
    at += 4 + entry.length;
  }
  const stored = compressed(plain);
  const start = out.offset;
  writePageHeader(out, {
    type: 'DICTIONARY_PAGE',
    uncompressed_page_size: plain.length,
    compressed_page_size: stored.length,
    crc: crc32(stored) | 0,
    dictionary_page_header: { num_values: entries.length, encoding: 'PLAIN' },
  });
  return append(out, start, stored, plain.length);
}

function append(out: ByteWriter, start: number, stored: Uint8Array, uncompressed: number): PageSizes {
  const header = out.offset - start;
  out.appendBytes(stored);
  return { compressed: header + stored.length, uncompressed: header + uncompressed };
}

/** Dictionary indexes, from 0, of the values that are not null. */
export function dictionaryBody(indexes: Uint32Array, entries: number): Body {
  const width = entries <= 1 ? 0 : 32 - Math.clz32(entries - 1);
  const codes = packHybrid(indexes, width);
  const bytes = new Uint8Array(1 + codes.length);
  bytes[0] = width;
  bytes.set(codes, 1);
  return { encoding: 'RLE_DICTIONARY', bytes };
}

/** INT64, little-endian. Two 32-bit stores per value: a BigInt per value would cost more than the rest together. */
export function numberBody(vector: NumberVector, start: number, end: number): Body {
  const numbers = workNumbers(end - start);
  vector.copyTo(numbers, 0, start, end);
  const words = new Uint32Array((end - start) * 2);
  let at = 0;
  for (let i = 0; i < numbers.length; i++) {
    const value = numbers[i]!;
    // NaN alone differs from itself: null, of which nothing is written.
    if (value !== value) continue;
    words[at] = value;
    words[at + 1] = value / 2 ** 32;
    at += 2;
  }
  return { encoding: 'PLAIN', bytes: new Uint8Array(words.buffer, 0, at * 4) };
}

/** Lengths, then all the bytes in one piece: as `TextVector` has them. */
export function textBody(vector: TextVector, start: number, end: number): Body {
  const lengths = new Int32Array(end - start);
  let values = 0;
  for (let i = start; i < end; i++) {
    if (!vector.isNull(i)) lengths[values++] = vector.start(i + 1) - vector.start(i);
  }
  const from = vector.start(start);
  const to = vector.start(end);
  const page = new ByteWriter(to - from + 1024);
  deltaBinaryPack(page, lengths.subarray(0, values), 'INT32');
  page.appendBytes(vector.bytes.subarray(from, to));
  return { encoding: 'DELTA_LENGTH_BYTE_ARRAY', bytes: page.getBytes() };
}

/** BOOLEAN, one bit per row. Flags are never null. */
export function flagBody(vector: NumberVector, start: number, end: number): Body {
  const bytes = new Uint8Array(Math.ceil((end - start) / 8));
  for (let i = start; i < end; i++) {
    if (vector.raw(i) !== 0) bytes[(i - start) >> 3]! |= 1 << ((i - start) & 7);
  }
  return { encoding: 'PLAIN', bytes };
}

export function levelsOf(vector: Vector, start: number, end: number): Levels {
  const levels = vector.presence(start, end);
  return levels.includes(0) ? levels : null;
}

function countOnes(levels: Uint8Array): number {
  let ones = 0;
  for (let i = 0; i < levels.length; i++) ones += levels[i]!;
  return ones;
}
