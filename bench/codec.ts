import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { parquetReadObjects } from 'hyparquet';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import type { Projection } from '../src/runs/projection.ts';
import { decodePart, partCodec } from '../src/snapshot/codec.ts';
import { parquetjsCodec } from '../src/snapshot/codec-parquetjs.ts';
import { COLUMNS, type ColumnDefinition, isOptional, type StoredColumn } from '../src/snapshot/columns.ts';
import { Rows, RowsBuilder } from '../src/snapshot/rows.ts';
import {
  type Report,
  type ScenarioOptions,
  type Spread,
  showSpread,
  spread,
  thousands,
} from './support/report.ts';
import { realisticRows } from './support/rows.ts';

const ORG = 'acme';
/** Records that one fold merges into the part. */
const RECORDS = 1_000;
const ROUNDS = 15;
const WARMUPS = 5;

interface Contender {
  name: string;
  /** Rounds that count, and rounds before them for the compiler; slow contenders run fewer. */
  rounds: number;
  warmups: number;
  encode(rows: Rows): Promise<Uint8Array>;
  decode(part: Uint8Array): Promise<unknown>;
}

interface Result {
  codec: string;
  rows: number;
  bytes: number;
  encodeMs: Spread;
  decodeMs: Spread;
  /** Decode, merge and encode, in CPU time of all threads, which other load disturbs less. Null: it makes no Rows. */
  foldCpuMs: Spread | null;
}

/** Contenders take turns, so that a noisy moment on the machine falls on all of them. */
export async function run({ quick }: ScenarioOptions): Promise<Report> {
  const contenders = await listContenders();
  const results: Result[] = [];
  const notes: string[] = [];
  for (const count of quick ? [2_000] : [20_000, 100_000]) {
    const projections = realisticRows({ orgId: ORG, count, seed: 1 });
    const builder = new RowsBuilder(ORG, count);
    for (const projection of projections) builder.add(projection);
    const rows = builder.build();
    notes.push(`${thousands(count)} rows take ${(rows.sizeBytes / count).toFixed(0)} bytes each in memory.`);
    results.push(...(await measure(contenders, rows, quick ? 2 : ROUNDS)));
  }
  notes.push(
    `Median (least–most) of interleaved rounds, after warm-up. Fold: decode, replace ${thousands(RECORDS)} rows, encode; rows/s of one core.`,
    '"values" is hyparquet(-writer) through its public API, one JavaScript value per cell.',
  );
  return {
    title: 'Parquet codecs',
    head: ['codec', 'rows', 'encode ms', 'decode ms', 'fold CPU ms', 'fold rows/s', 'bytes', 'bytes/row'],
    rows: results.map((result) => [
      result.codec,
      thousands(result.rows),
      showSpread(result.encodeMs),
      showSpread(result.decodeMs),
      result.foldCpuMs === null ? '' : showSpread(result.foldCpuMs),
      result.foldCpuMs === null ? '' : thousands(result.rows / (result.foldCpuMs.median / 1_000)),
      thousands(result.bytes),
      (result.bytes / result.rows).toFixed(1),
    ]),
    notes,
    data: results,
  };
}

async function measure(contenders: readonly Contender[], rows: Rows, roundsMax: number): Promise<Result[]> {
  const samples = contenders.map(() => ({
    encode: [] as number[],
    decode: [] as number[],
    fold: [] as number[],
  }));
  const sizes: number[] = [];
  const fresh = realisticRows({ orgId: ORG, count: RECORDS, seed: 2 });
  for (let round = -WARMUPS; round < roundsMax; round++) {
    for (const [at, contender] of contenders.entries()) {
      if (round < -contender.warmups || round >= contender.rounds) continue;
      const start = performance.now();
      const part = await contender.encode(rows);
      const encoded = performance.now();
      const decoded = await contender.decode(part);
      const done = performance.now();
      let folded = Number.NaN;
      if (decoded instanceof Rows) {
        const before = process.cpuUsage();
        await contender.encode(merge(await decodePart('part', part), fresh));
        const { user, system } = process.cpuUsage(before);
        folded = (user + system) / 1_000;
      }
      sizes[at] = part.length;
      if (round < 0) continue;
      samples[at]!.encode.push(encoded - start);
      samples[at]!.decode.push(done - encoded);
      samples[at]!.fold.push(folded);
    }
  }
  return contenders.map((contender, at) => ({
    codec: contender.name,
    rows: rows.length,
    bytes: sizes[at]!,
    encodeMs: spread(samples[at]!.encode),
    decodeMs: spread(samples[at]!.decode),
    foldCpuMs: Number.isNaN(samples[at]!.fold[0]) ? null : spread(samples[at]!.fold),
  }));
}

/** What a fold does to the head: look runs up, drop their rows, add the new ones. */
function merge(rows: Rows, fresh: readonly Projection[]): Rows {
  const replaced = new Uint8Array(rows.length);
  const every = Math.floor(rows.length / fresh.length);
  for (let k = 0; k < fresh.length; k++) replaced[rows.indexOf(rows.runId(k * every))] = 1;
  const kept = new Uint32Array(rows.length);
  let count = 0;
  for (let i = 0; i < rows.length; i++) if (replaced[i] === 0) kept[count++] = i;
  const builder = new RowsBuilder(rows.orgId, rows.length);
  builder.gather(rows, kept.subarray(0, count));
  for (const projection of fresh) builder.add(projection);
  return builder.build();
}

async function listContenders(): Promise<Contender[]> {
  const hyparquet = await partCodec('hyparquet');
  const decode = (part: Uint8Array) => decodePart('part', part);
  return [
    {
      name: 'hyparquet (default)',
      rounds: ROUNDS,
      warmups: WARMUPS,
      encode: (rows) => hyparquet.encode(rows),
      decode,
    },
    { name: 'values', rounds: 5, warmups: 2, encode: encodeValues, decode: decodeValues },
    {
      name: 'parquetjs snappy',
      rounds: 3,
      warmups: 1,
      encode: (rows) => parquetjsCodec().encode(rows),
      decode,
    },
    {
      name: 'parquetjs gzip',
      rounds: 3,
      warmups: 1,
      encode: (rows) => parquetjsCodec({ compression: 'GZIP' }).encode(rows),
      decode,
    },
  ];
}

const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

async function encodeValues(rows: Rows): Promise<Uint8Array> {
  const columnData = COLUMNS.map((definition: ColumnDefinition): ColumnSource => {
    const { name, kind } = definition;
    const stored = kind === 'constant' ? null : rows.vector(name as StoredColumn);
    const at = (i: number) => (stored === null ? rows.orgId : stored.at(i));
    const nullable = isOptional(definition);
    const cells = Array.from({ length: rows.length }, (_, i) => {
      const value = at(i);
      if (kind === 'flag') return value === 1;
      if (value === null) return value;
      return kind === 'integer' ? BigInt(value) : kind === 'time' ? new Date(value) : value;
    });
    const type =
      kind === 'flag' ? 'BOOLEAN' : kind === 'integer' ? 'INT64' : kind === 'time' ? 'TIMESTAMP' : 'STRING';
    return { name, data: cells, type, nullable };
  });
  const compressors = { ZSTD: (input: Uint8Array) => zstdCompressSync(input, LEVEL) };
  return new Uint8Array(parquetWriteBuffer({ columnData, codec: 'ZSTD', compressors, rowGroupSize: 20_000 }));
}

async function decodeValues(part: Uint8Array): Promise<unknown> {
  const compressors = { ZSTD: (input: Uint8Array) => zstdDecompressSync(input) };
  return parquetReadObjects({ file: part.buffer as ArrayBuffer, compressors, rowFormat: 'object' });
}
