import {
  type Vector as ArrowVector,
  Bool,
  type Data,
  type DataType,
  Dictionary,
  Field,
  Int32,
  Int64,
  List,
  makeData,
  makeVector,
  RecordBatch,
  Schema,
  Struct,
  Table,
  Timestamp,
  TimeUnit,
  tableToIPC,
  Utf8,
} from 'apache-arrow';
import { COLUMNS, type ColumnDefinition, isOptional, type StoredColumn } from './columns.ts';
import type { Rows } from './rows.ts';
import { DictionaryVector, type NumberVector, TextVector } from './vectors.ts';

/**
 * The rows as an Arrow table, in `COLUMNS` order, without a JavaScript value per cell: times are
 * Timestamp<ms, UTC>, integers Int64, few-valued texts Dictionary<Utf8>, datasets List<Struct<namespace, name>>.
 * Columns that were not read are left out. The only module that loads apache-arrow: import it lazily.
 */
export function toArrow(rows: Rows): Table {
  const ids = new Ids();
  const columns = COLUMNS.filter(({ name }) => rows.has(name)).map((definition: ColumnDefinition) => {
    const data = columnData(definition, rows, ids);
    const about = new Map([['about', definition.about]]);
    return { data, field: new Field(definition.name, data.type, isOptional(definition), about) };
  });
  const schema = new Schema(
    columns.map(({ field }) => field),
    new Map([['runfold.org_id', rows.orgId]]),
  );
  const type = new Struct(schema.fields);
  const children = columns.map(({ data }) => data);
  return new Table(
    schema,
    new RecordBatch(schema, makeData({ type, length: rows.length, nullCount: 0, children })),
  );
}

/** Ids of dictionaries within one schema: the same for all tables of the same columns, so that they can be joined. */
class Ids {
  #next = 0;

  type(): Dictionary<Utf8, Int32> {
    return new Dictionary(new Utf8(), new Int32(), this.#next++);
  }
}

function columnData(definition: ColumnDefinition, rows: Rows, ids: Ids): Data<DataType> {
  if (definition.kind === 'constant') {
    return dictionaryData(ids.type(), new Int32Array(rows.length), utf8Dictionary([rows.orgId]), NO_NULLS);
  }
  const vector = rows.vector(definition.name as StoredColumn);
  if (vector instanceof TextVector) return textData(vector);
  if (vector instanceof DictionaryVector) {
    return definition.kind === 'datasets' ? datasetsData(vector, ids) : codesData(vector, ids);
  }
  if (definition.kind === 'flag') return flagData(vector);
  const data = { length: vector.length, ...nullsOf(vector), data: int64s(vector) };
  return definition.kind === 'time'
    ? makeData({ type: new Timestamp(TimeUnit.MILLISECOND, 'UTC'), ...data })
    : makeData({ type: new Int64(), ...data });
}

function codesData(vector: DictionaryVector, ids: Ids): Data<DataType> {
  // A loop, as everywhere here: `from` with a function takes ten times as long.
  const indexes = new Int32Array(vector.length);
  for (let i = 0; i < indexes.length; i++) indexes[i] = Math.max(0, vector.codes[i]! - 1);
  const entries = vector.dictionary.slice(1) as string[];
  return dictionaryData(ids.type(), indexes, utf8Dictionary(entries), nullsOf(vector));
}

/** Namespaces and names are dictionaries too: a table that many runs write is one text. */
function datasetsData(vector: DictionaryVector, ids: Ids): Data<DataType> {
  const valueOffsets = new Int32Array(vector.length + 1);
  for (let i = 0; i < vector.length; i++) {
    valueOffsets[i + 1] = valueOffsets[i]! + vector.datasets(vector.codes[i]!).length;
  }
  const namespaces = new Interner();
  const names = new Interner();
  const perCode = vector.dictionary.map((_, code) =>
    vector
      .datasets(code)
      .map(({ namespace, name }) => [namespaces.code(namespace), names.code(name)] as const),
  );
  const length = valueOffsets[vector.length]!;
  const namespaceCodes = new Int32Array(length);
  const nameCodes = new Int32Array(length);
  let at = 0;
  for (let i = 0; i < vector.length; i++) {
    for (const [namespace, name] of perCode[vector.codes[i]!]!) {
      namespaceCodes[at] = namespace;
      nameCodes[at++] = name;
    }
  }
  const children = [
    dictionaryData(ids.type(), namespaceCodes, utf8Dictionary(namespaces.texts), NO_NULLS),
    dictionaryData(ids.type(), nameCodes, utf8Dictionary(names.texts), NO_NULLS),
  ];
  const struct = new Struct([
    new Field('namespace', children[0]!.type, false),
    new Field('name', children[1]!.type, false),
  ]);
  const child = makeData({ type: struct, length, nullCount: 0, children });
  const type = new List(new Field('item', struct, false));
  return makeData({ type, length: vector.length, nullCount: 0, valueOffsets, child });
}

class Interner {
  readonly texts: string[] = [];
  readonly #codes = new Map<string, number>();

  code(text: string): number {
    const known = this.#codes.get(text);
    if (known !== undefined) return known;
    this.#codes.set(text, this.texts.length);
    return this.texts.push(text) - 1;
  }
}

function dictionaryData(
  type: Dictionary<Utf8, Int32>,
  indexes: Int32Array,
  dictionary: ArrowVector<Utf8>,
  nulls: Nulls,
): Data<DataType> {
  return makeData({ type, length: indexes.length, ...nulls, data: indexes, dictionary });
}

function utf8Dictionary(texts: readonly string[]): ArrowVector<Utf8> {
  const encoded = texts.map((text) => Buffer.from(text));
  const valueOffsets = new Int32Array(texts.length + 1);
  encoded.forEach((bytes, i) => {
    valueOffsets[i + 1] = valueOffsets[i]! + bytes.length;
  });
  const data = new Uint8Array(Buffer.concat(encoded));
  return makeVector(makeData({ type: new Utf8(), length: texts.length, nullCount: 0, valueOffsets, data }));
}

function textData(vector: TextVector): Data<Utf8> {
  const valueOffsets = new Int32Array(vector.offsets.length);
  for (let i = 0; i < valueOffsets.length; i++) valueOffsets[i] = vector.start(i);
  return makeData({
    type: new Utf8(),
    length: vector.length,
    ...nullsOf(vector),
    valueOffsets,
    data: vector.bytes,
  });
}

function flagData(vector: NumberVector): Data<Bool> {
  const data = new Uint8Array(Math.ceil(vector.length / 8));
  for (let i = 0; i < vector.length; i++) if (vector.raw(i) === 1) data[i >> 3]! |= 1 << (i & 7);
  return makeData({ type: new Bool(), length: vector.length, nullCount: 0, data });
}

/** Stored as two 32-bit words each: no BigInt is made. */
function int64s(vector: NumberVector): BigInt64Array {
  const words = new Uint32Array(vector.length * 2);
  for (let i = 0; i < vector.length; i++) {
    const value = vector.raw(i);
    if (value !== value) continue;
    words[2 * i] = value;
    words[2 * i + 1] = value / 2 ** 32;
  }
  return new BigInt64Array(words.buffer);
}

interface Nulls {
  nullCount: number;
  nullBitmap?: Uint8Array;
}

const NO_NULLS: Nulls = { nullCount: 0 };

function nullsOf(vector: { length: number; isNull(i: number): boolean }): Nulls {
  const nullBitmap = new Uint8Array(Math.ceil(vector.length / 8));
  let nullCount = 0;
  for (let i = 0; i < vector.length; i++) {
    if (vector.isNull(i)) nullCount++;
    else nullBitmap[i >> 3]! |= 1 << (i & 7);
  }
  return nullCount === 0 ? NO_NULLS : { nullCount, nullBitmap };
}

/** The rows as an Arrow IPC stream: `application/vnd.apache.arrow.stream`. */
export function toArrowStream(rows: Rows): Uint8Array {
  return tableToIPC(toArrow(rows), 'stream');
}

const END_OF_STREAM_BYTES = 8;

/**
 * One stream of many tables of the same columns, one record batch each; a later batch replaces the dictionaries of the one
 * before, as the format allows. Memory holds one table. Nothing pushed gives a stream of no rows.
 */
export class ArrowStream {
  #schemaBytes = 0;
  #end: Uint8Array = new Uint8Array(0);

  push(rows: Rows): Uint8Array {
    const bytes = toArrowStream(rows);
    // A message is a marker, the length of its metadata, and that; the schema is the first, and has no body.
    const schemaBytes = 8 + new DataView(bytes.buffer, bytes.byteOffset).getInt32(4, true);
    const first = this.#schemaBytes === 0;
    this.#schemaBytes = schemaBytes;
    this.#end = bytes.subarray(bytes.length - END_OF_STREAM_BYTES);
    return bytes.subarray(first ? 0 : schemaBytes, bytes.length - END_OF_STREAM_BYTES);
  }

  finish(): Uint8Array {
    return this.#end;
  }
}
