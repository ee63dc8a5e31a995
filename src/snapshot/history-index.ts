import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { z } from 'zod';
import { CorruptError, errorMessage, FormatError } from '../core/errors.ts';
import { type Dataset, datasetSchema } from '../runs/run.ts';
import type { HistoryRows } from './history-rows.ts';
import { fail } from './pages-read.ts';
import type { NumberVector } from './vectors.ts';

/** One row group of a history part: `[offset, offset + size)` of the object can be read and decoded by itself. */
export interface HistoryGroup {
  offset: number;
  size: number;
  rows: number;
  /** Of those bytes: a ranged read is checked like a whole object (law 8). */
  crc32c: number;
  /** Table of the first and of the last row; null: runs without a table. */
  first: Dataset | null;
  last: Dataset | null;
  created_at_min: number;
  /**
   * Over `first_created_at` where there is one: `created_at` may move back between revisions, and the row that
   * supersedes another must be read wherever the other is.
   */
  created_at_max: number;
  updated_at_max: number;
}

/** What the rows themselves say about their group. */
export function describeGroup(
  history: HistoryRows,
): Omit<HistoryGroup, 'offset' | 'size' | 'rows' | 'crc32c'> {
  const { rows } = history;
  const created = rows.vector('created_at') as NumberVector;
  const first = rows.vector('first_created_at') as NumberVector;
  return {
    first: history.table(0),
    last: history.table(rows.length - 1),
    created_at_min: created.min,
    created_at_max: first.max > created.max ? first.max : created.max,
    updated_at_max: (rows.vector('updated_at') as NumberVector).max,
  };
}

const INDEX_FORMAT = 1;
const HEAD_BYTES = 5;
/** Of an index of half a million groups, unpacked. */
const INDEX_BYTES_MAX = 64 * 1024 * 1024;

/**
 * The index of one part as text for the manifest, some 30 characters per group: a version byte, the CRC-32 of
 * what follows, and deflated columns: numbers as differences in LEB128, tables as JSON without the prefix they share.
 */
export function encodeGroups(groups: readonly HistoryGroup[]): string {
  const numbers = new Leb128Writer();
  const createdMin = groups.reduce((min, group) => Math.min(min, group.created_at_min), MAX);
  const createdMax = groups.reduce((max, group) => Math.max(max, group.created_at_max), 0);
  for (const value of [groups.length, createdMin, createdMax]) numbers.push(value);
  groups.forEach(({ offset }, i) => {
    const before = groups[i - 1];
    numbers.pushSigned(offset - (before === undefined ? 0 : before.offset + before.size));
  });
  groups.forEach(({ size }, i) => {
    numbers.pushSigned(size - (groups[i - 1]?.size ?? 0));
  });
  groups.forEach(({ rows }, i) => {
    numbers.pushSigned(rows - (groups[i - 1]?.rows ?? 0));
  });
  for (const group of groups) numbers.push(group.created_at_min - createdMin);
  for (const group of groups) numbers.push(createdMax - group.created_at_max);
  for (const group of groups) numbers.pushSigned(group.updated_at_max - group.created_at_max);
  const checksums = new Uint8Array(groups.length * 4);
  const view = new DataView(checksums.buffer);
  for (const [i, group] of groups.entries()) view.setUint32(4 * i, group.crc32c, true);
  const plain = Buffer.concat([numbers.bytes(), checksums, Buffer.from(JSON.stringify(frontCoded(groups)))]);
  const packed = deflateRawSync(plain, { level: 9 });
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = INDEX_FORMAT;
  head.writeUInt32LE(crc32(packed), 1);
  return Buffer.concat([head, packed]).toString('base64');
}

/** `key` names the object that held the text. Throws CorruptError; FormatError where a newer runfold wrote it. */
export function decodeGroups(key: string, text: string): HistoryGroup[] {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length > HEAD_BYTES && bytes[0]! > INDEX_FORMAT) {
    throw new FormatError(
      key,
      `the index of a history part has format ${bytes[0]}; this runfold reads up to ${INDEX_FORMAT}`,
    );
  }
  try {
    const packed = bytes.subarray(HEAD_BYTES);
    if (bytes[0] !== INDEX_FORMAT || crc32(packed) !== bytes.readUInt32LE(1)) fail('its checksum is wrong');
    // Node skips what is not base64, and the last character may hold bits of no byte.
    if (bytes.toString('base64') !== text) fail('it is not the base64 that was written');
    return parseGroups(inflateRawSync(packed, { maxOutputLength: INDEX_BYTES_MAX }));
  } catch (cause) {
    throw new CorruptError(key, `the index of a history part cannot be read: ${errorMessage(cause)}`, {
      cause,
    });
  }
}

function parseGroups(plain: Buffer): HistoryGroup[] {
  const numbers = new Leb128Reader(plain);
  const [count, createdMin, createdMax] = [numbers.next(), numbers.next(), numbers.next()];
  if (count > plain.length) fail(`it claims ${count} groups`);
  const column = (next: () => number) => Array.from({ length: count }, next);
  const signed = () => numbers.nextSigned();
  const [gaps, sizes, rows] = [column(signed), column(signed), column(signed)];
  const [mins, maxs, updates] = [
    column(() => numbers.next()),
    column(() => numbers.next()),
    column(() => numbers.nextSigned()),
  ];
  const checksums = plain.subarray(numbers.at, numbers.at + 4 * count);
  const tables = new FrontDecoder(
    tablesSchema.parse(JSON.parse(plain.toString('utf8', numbers.at + 4 * count))),
  );
  let [end, size, rowCount] = [0, 0, 0];
  const groups = gaps.map((gap, i): HistoryGroup => {
    size += sizes[i]!;
    rowCount += rows[i]!;
    const created_at_max = createdMax - maxs[i]!;
    const group = {
      offset: end + gap,
      size,
      rows: rowCount,
      crc32c: checksums.readUInt32LE(4 * i),
      first: tables.next(),
      last: tables.next(),
      created_at_min: createdMin + mins[i]!,
      created_at_max,
      updated_at_max: created_at_max + updates[i]!,
    };
    end = group.offset + size;
    if (!groupSchema.safeParse(group).success || gap < 0) fail(`group ${i} makes no sense`);
    return group;
  });
  return groups;
}

const count = z.number().int().nonnegative();
const groupSchema = z.object({
  offset: count,
  size: count.positive(),
  rows: count.positive(),
  crc32c: count,
  first: datasetSchema.nullable(),
  last: datasetSchema.nullable(),
  created_at_min: count,
  created_at_max: count,
  updated_at_max: count,
});

/** 0: the table before, again; null: no table; else for namespace and name the length shared with it, and the rest. */
const tablesSchema = z.array(
  z.union([z.literal(0), z.null(), z.tuple([count, z.string(), count, z.string()])]),
);
type FrontCoded = z.infer<typeof tablesSchema>;

function frontCoded(groups: readonly HistoryGroup[]): FrontCoded {
  let before: Dataset = { namespace: '', name: '' };
  return groups
    .flatMap(({ first, last }) => [first, last])
    .map((table) => {
      if (table === null) return null;
      const { namespace, name } = before;
      before = table;
      if (table.namespace === namespace && table.name === name) return 0;
      const [a, b] = [shared(namespace, table.namespace), shared(name, table.name)];
      return [a, table.namespace.slice(a), b, table.name.slice(b)];
    });
}

class FrontDecoder {
  readonly #coded: FrontCoded;
  #at = 0;
  #before: Dataset = { namespace: '', name: '' };

  constructor(coded: FrontCoded) {
    this.#coded = coded;
  }

  next(): Dataset | null {
    const coded = this.#coded[this.#at++];
    if (coded === undefined) fail('it lacks tables');
    if (coded === null) return null;
    if (coded === 0) return this.#before;
    const [a, namespace, b, name] = coded;
    this.#before = {
      namespace: this.#before.namespace.slice(0, a) + namespace,
      name: this.#before.name.slice(0, b) + name,
    };
    return this.#before;
  }
}

function shared(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

const MAX = Number.MAX_SAFE_INTEGER;

class Leb128Writer {
  readonly #bytes: number[] = [];

  push(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes.push((rest % 0x80) | 0x80);
    this.#bytes.push(rest);
  }

  /** The sign in the lowest bit of the first byte; the whole doubled, as is usual, would pass 2^53. */
  pushSigned(value: number): void {
    const size = Math.abs(value);
    const rest = Math.floor(size / 0x40);
    this.#bytes.push(((size % 0x40) << 1) | (value < 0 ? 1 : 0) | (rest > 0 ? 0x80 : 0));
    if (rest > 0) this.push(rest);
  }

  bytes(): Buffer {
    return Buffer.from(this.#bytes);
  }
}

class Leb128Reader {
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  next(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined || scale > 2 ** 49) fail('a number is cut off');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    if (value > MAX) fail('a number is too great');
    return value;
  }

  nextSigned(): number {
    const byte = this.#bytes[this.at++];
    if (byte === undefined) fail('a number is cut off');
    const size = ((byte & 0x7f) >> 1) + (byte < 0x80 ? 0 : this.next() * 0x40);
    return (byte & 1) === 1 ? -size : size;
  }
}
