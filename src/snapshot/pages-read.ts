import { isAscii } from 'node:buffer';
import { crc32, gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { ColumnMetaData, CompressionCodec, PageHeader } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { deltaBinaryUnpack } from 'hyparquet/src/delta.js';

import { pickHybrid, unpackHybrid } from './hybrid.ts';
import { unpackSnappy } from './snappy.ts';

/**
 * Reads the pages of one column chunk of a part, of either writer. Written for bytes that may be anything: every
 * length and count is checked against what is really there before memory is taken, and whatever is wrong throws a
 * plain Error that decodePart turns into CorruptError. (hyparquet's own page reader trusts run lengths: five bytes
 * make it write 2^24 values into an array of eight.)
 */
export interface Page {
  rows: number;
  /** 1 per value, 0 per null; null: no nulls. */
  levels: Uint8Array | null;
  values: number;
  encoding: string;
  /** Unpacked when it is first asked for: rows that have no value in the page are read without. */
  readonly body: Uint8Array;
}

/** A page of ours holds 20 000 rows of at most a few KiB. */
const PAGE_BYTES_MAX = 256 * 1024 * 1024;

/** Texts as UTF-8, end to end. */
export interface Texts {
  lengths: Int32Array;
  bytes: Uint8Array;
}

export interface Chunk {
  /** The chunk's dictionary, unpacked when it is first asked for. */
  readonly entries: Texts | null;
  readonly pages: readonly Page[];
}

export function readChunk(bytes: Uint8Array, meta: ColumnMetaData, rows: number, optional: boolean): Chunk {
  const start = Number(meta.dictionary_page_offset ?? meta.data_page_offset);
  const end = start + Number(meta.total_compressed_size);
  if (!(start >= 4 && end >= start && end <= bytes.length)) fail(`its chunk lies at ${start} to ${end}`);
  if (Number(meta.num_values) !== rows) fail(`it has ${meta.num_values} values for ${rows} rows`);
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset + start, end - start), offset: 0 };
  let entries: () => Texts | null = () => null;
  const pages: Page[] = [];
  let seen = 0;
  while (seen < rows) {
    const header = parquetHeader(reader);
    const size = header.compressed_page_size;
    const from = start + reader.offset;
    if (!(size >= 0 && from + size <= end)) fail(`a page of ${size} bytes overruns its chunk`);
    const stored = bytes.subarray(from, from + size);
    reader.offset += size;
    if (header.crc !== undefined && header.crc !== (crc32(stored) | 0))
      fail('a page checksum does not match');
    if (header.type === 'DICTIONARY_PAGE') {
      const count = header.dictionary_page_header!.num_values;
      const size = header.uncompressed_page_size;
      entries = once(() => readPlainTexts(decompress(stored, size, meta.codec), count));
    } else {
      const page = readDataPage(header, stored, meta.codec, optional, rows - seen);
      seen += page.rows;
      pages.push(page);
    }
  }
  if (seen !== rows) fail(`its pages have ${seen} rows instead of ${rows}`);
  return {
    get entries() {
      return entries();
    },
    pages,
  };
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function readDataPage(
  header: PageHeader,
  stored: Uint8Array,
  codec: CompressionCodec,
  optional: boolean,
  rowsMax: number,
): Page {
  const v2 = header.data_page_header_v2;
  if (header.type !== 'DATA_PAGE_V2' || v2 === undefined) fail(`it has a page of type ${header.type}`);
  const { num_rows: rows, num_nulls: nulls, definition_levels_byte_length: levelBytes } = v2;
  if (!(rows > 0 && rows <= rowsMax && rows === v2.num_values)) fail(`a page claims ${rows} rows`);
  if (!(nulls >= 0 && nulls <= rows)) fail(`a page claims ${nulls} nulls`);
  if (v2.repetition_levels_byte_length !== 0 || !(levelBytes >= 0 && levelBytes <= stored.length)) {
    fail('the levels of a page overrun it');
  }
  let levels: Uint8Array | null = null;
  if (optional) {
    const decoded = new Uint8Array(rows);
    unpackHybrid(stored, 0, levelBytes, 1, decoded);
    const ones = countOnes(decoded, 0, rows);
    if (ones !== rows - nulls) fail(`a page has ${rows - ones} nulls instead of ${nulls}`);
    if (nulls > 0) levels = decoded;
  } else if (nulls !== 0 || levelBytes !== 0) {
    fail('a required column has nulls');
  }
  const size = header.uncompressed_page_size - levelBytes;
  const rest = stored.subarray(levelBytes);
  const body = once(() => (v2.is_compressed === false ? rest : decompress(rest, size, codec)));
  return {
    rows,
    levels,
    values: rows - nulls,
    encoding: v2.encoding,
    get body() {
      return body();
    },
  };
}

/** Of bytes that are 0 or 1 and begin at a multiple of four: four at a time. */
export function countOnes(levels: Uint8Array, from: number, to: number): number {
  const words = new Uint32Array(levels.buffer, levels.byteOffset, levels.length >> 2);
  let ones = 0;
  let at = from;
  while (at < to && at % 4 !== 0) ones += levels[at++]!;
  for (; at + 4 <= to; at += 4) ones += Math.imul(words[at >> 2]!, 0x01010101) >>> 24;
  while (at < to) ones += levels[at++]!;
  return ones;
}

/** What a page that lies about its size can make us allocate before it is found out. */
const CHUNK_BYTES_MAX = 4 * 1024 * 1024;

function decompress(stored: Uint8Array, size: number, codec: CompressionCodec): Uint8Array {
  if (!(size >= 0 && size <= PAGE_BYTES_MAX)) fail(`a page claims ${size} bytes`);
  // Some writers leave nothing at all where there are no values.
  if (size === 0) return new Uint8Array(0);
  // In one piece: by default zlib makes 16 KiB at a time, and joins them.
  const limit = { maxOutputLength: size, chunkSize: Math.min(Math.max(size + 1, 64), CHUNK_BYTES_MAX) };
  let plain: Uint8Array;
  if (codec === 'ZSTD') plain = zstdDecompressSync(stored, limit);
  else if (codec === 'GZIP') plain = gunzipSync(stored, limit);
  else if (codec === 'UNCOMPRESSED') plain = stored;
  else if (codec === 'SNAPPY') {
    plain = new Uint8Array(size);
    unpackSnappy(stored, plain);
  } else fail(`the codec ${codec} is unknown`);
  if (plain.length !== size) fail(`a page has ${plain.length} bytes instead of ${size}`);
  return plain;
}

/** Lengths and bytes, alternating. */
function readPlainTexts(body: Uint8Array, count: number): Texts {
  if (!(count >= 0 && count * 4 <= body.length)) fail(`${count} texts in ${body.length} bytes`);
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const lengths = new Int32Array(count);
  const bytes = new Uint8Array(body.length - 4 * count);
  let from = 0;
  let to = 0;
  for (let i = 0; i < count; i++) {
    const length = from + 4 <= body.length ? view.getUint32(from, true) : Number.POSITIVE_INFINITY;
    from += 4;
    const end = from + length;
    if (end > body.length) fail('a text overruns its page');
    lengths[i] = length;
    // For short texts a loop is quicker than making a view.
    if (length > 64) bytes.set(body.subarray(from, end), to);
    else for (let at = from, out = to; at < end; ) bytes[out++] = body[at++]!;
    from = end;
    to += length;
  }
  if (from !== body.length) fail('a page has bytes left over');
  return { lengths, bytes };
}

export function readTexts(page: Page): Texts {
  const { body, values: count } = page;
  if (page.encoding === 'DELTA_LENGTH_BYTE_ARRAY') {
    const lengths = new Int32Array(count);
    let offset = 0;
    if (count > 0) {
      const reader = { view: new DataView(body.buffer, body.byteOffset, body.byteLength), offset: 0 };
      deltaBinaryUnpack(reader, count, lengths);
      offset = reader.offset;
    } else {
      offset = body.length;
    }
    let total = 0;
    for (let i = 0; i < count; i++) {
      if (lengths[i]! < 0) fail('a text has a negative length');
      total += lengths[i]!;
    }
    if (offset + total !== body.length) fail('the texts of a page do not fill it');
    return { lengths, bytes: body.subarray(offset) };
  }
  if (page.encoding !== 'PLAIN') fail(`texts are encoded as ${page.encoding}`);
  return readPlainTexts(body, count);
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Each as a string. Where all are ASCII, as they mostly are, `asSlices` are of one string for all: made in no time, but
 * slow to hash and to compare.
 */
export function textsOf({ lengths, bytes }: Texts, asSlices: boolean): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const ascii = isAscii(bytes);
  const all = ascii && asSlices ? buffer.toString('latin1') : null;
  const texts = new Array<string>(lengths.length);
  let start = 0;
  for (let i = 0; i < texts.length; i++) {
    const end = start + lengths[i]!;
    if (all !== null) texts[i] = all.slice(start, end);
    else
      texts[i] = ascii ? buffer.toString('latin1', start, end) : decoder.decode(bytes.subarray(start, end));
    start = end;
  }
  return texts;
}

/** Indexes into the chunk's dictionary, checked against its size. */
export function readIndexes(page: Page, entries: number): Uint32Array {
  const { body, values } = page;
  const indexes = new Uint32Array(values);
  if (values === 0) return indexes;
  unpackHybrid(body, 1, body.length, body[0]!, indexes);
  for (let i = 0; i < values; i++) if (indexes[i]! >= entries) fail('a code is not in the dictionary');
  return indexes;
}

/** As `readIndexes`, of the values with these numbers, which rise; the others are not looked at. */
export function pickIndexes({ body, values }: Page, entries: number, wanted: Uint32Array): Uint32Array {
  const range = { at: 1, end: body.length, width: body[0]!, count: values };
  const indexes = pickHybrid(body, range, wanted);
  for (let k = 0; k < indexes.length; k++)
    if (indexes[k]! >= entries) fail('a code is not in the dictionary');
  return indexes;
}

/** Numbers of the page's rows into `out` from `at`; nulls as NaN. */
export function readNumbers(page: Page, out: Float64Array, at: number): void {
  const { body, levels, rows } = page;
  if (page.encoding !== 'PLAIN') fail(`numbers are encoded as ${page.encoding}`);
  if (body.length !== page.values * 8) fail(`${page.values} numbers in ${body.length} bytes`);
  const words = wordsOf(body);
  let word = 0;
  for (let i = 0; i < rows; i++) {
    if (levels !== null && levels[i] === 0) {
      out[at + i] = Number.NaN;
      continue;
    }
    const low = words[word++]!;
    const high = words[word++]!;
    // Also what is negative as INT64.
    if (high > HIGH_WORD_MAX) fail(`the number ${high * 2 ** 32 + low} is out of range`);
    out[at + i] = high * 2 ** 32 + low;
  }
}

/** Of 2^53 − 1. */
const HIGH_WORD_MAX = 2 ** 21 - 1;

/** The same bytes as 32-bit numbers; copied where they do not lie so. Parquet and every machine that runs Node are little-endian. */
function wordsOf(body: Uint8Array): Uint32Array {
  // Not slice: that of a Buffer is a view, which lies no better.
  const aligned = body.byteOffset % 4 === 0 ? body : Uint8Array.from(body);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, body.length / 4);
}

export function readFlags(page: Page, out: Float64Array, at: number): void {
  const { body, rows } = page;
  if (page.encoding !== 'PLAIN' || body.length !== Math.ceil(rows / 8)) fail('a page of flags is malformed');
  for (let i = 0; i < rows; i++) out[at + i] = (body[i >> 3]! >> (i & 7)) & 1;
}

export function fail(reason: string): never {
  throw new Error(reason);
}
