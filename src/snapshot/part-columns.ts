import type { FileMetaData } from 'hyparquet';
import { CorruptError, errorMessage } from '../core/errors.ts';
import { COLUMNS, type ColumnDefinition, markOf, STORED_BY_NAME, type StoredColumn } from './columns.ts';
import { fail } from './pages-read.ts';
import { checkGroup, decodeColumn } from './part-decode.ts';
import type { VectorSource, Vectors } from './rows.ts';
import type { DictionaryVector, Vector } from './vectors.ts';

/**
 * The columns of one part, each decoded when it is first asked for: a refresh touches two or three of them, most views
 * a third. The bytes are kept until every column is decoded.
 *
 * Who decodes late must have checked the checksum of the whole part before: then a column that cannot be decoded was
 * written so, and no reading again helps.
 */
export class PartColumns implements VectorSource {
  readonly #key: string;
  readonly #bytes: Uint8Array;
  readonly #metadata: FileMetaData;
  readonly #rows: number;
  readonly #wanted: ReadonlySet<StoredColumn> | null;
  readonly #vectors: Vectors = {};
  /** Of the rows that were picked, for as long as somebody has their numbers. */
  readonly #picked = new WeakMap<Uint32Array, Vectors>();

  /** `wanted`: these columns only; null: all. */
  constructor(
    key: string,
    bytes: Uint8Array,
    metadata: FileMetaData,
    rows: number,
    wanted: ReadonlySet<StoredColumn> | null,
  ) {
    this.#key = key;
    this.#bytes = bytes;
    this.#metadata = metadata;
    this.#rows = rows;
    this.#wanted = wanted;
  }

  has(column: StoredColumn): boolean {
    return this.#wanted === null || this.#wanted.has(column);
  }

  /** Throws CorruptError, naming the object, for a column that cannot be decoded; again each time it is asked for. */
  load(column: StoredColumn): Vector {
    return this.#orCorrupt(() => this.decode(column));
  }

  /** As `load`, of the rows with these numbers, which rise. */
  pick(column: StoredColumn, rows: Uint32Array): Vector {
    return this.#orCorrupt(() => this.decode(column, rows));
  }

  /** As `load`; throws plain Errors. */
  decode(column: StoredColumn, rows: Uint32Array | null = null): Vector {
    const vectors = rows === null ? this.#vectors : this.#pickedOf(rows);
    const known = vectors[column];
    if (known !== undefined) return known;
    const definition = STORED_BY_NAME.get(column)!;
    const vector = this.#decode(definition, rows);
    const mark = markOf(definition);
    if (mark !== null && this.has(mark.name))
      checkGroup(definition, vector, mark, this.decode(mark.name, rows));
    vectors[column] = vector;
    return vector;
  }

  #pickedOf(rows: Uint32Array): Vectors {
    let vectors = this.#picked.get(rows);
    if (vectors === undefined) {
      vectors = {};
      this.#picked.set(rows, vectors);
    }
    return vectors;
  }

  /** Throws a plain Error where a row is not of that org. */
  checkOrg(orgId: string): void {
    const constant = COLUMNS.find(({ kind }) => kind === 'constant')!;
    const orgs = this.#decode(constant) as DictionaryVector;
    if (orgs.dictionary.some((org) => org !== null && org !== orgId)) fail('rows of another org');
  }

  /** The part as it is stored, and what its columns that are not decoded will come to, at most. */
  get sizeBytes(): number {
    let sizeBytes = this.#bytes.length;
    for (const { columns } of this.#metadata.row_groups) {
      for (const { meta_data } of columns) {
        const name = meta_data?.path_in_schema[0] as StoredColumn;
        if (this.has(name) && this.#vectors[name] === undefined)
          sizeBytes += Number(meta_data!.total_uncompressed_size);
      }
    }
    return sizeBytes;
  }

  #orCorrupt(decode: () => Vector): Vector {
    try {
      return decode();
    } catch (error) {
      throw new CorruptError(this.#key, errorMessage(error), { cause: error });
    }
  }

  #decode(definition: ColumnDefinition, rows: Uint32Array | null = null): Vector {
    try {
      return decodeColumn(this.#bytes, this.#metadata, definition, this.#rows, rows);
    } catch (error) {
      throw new Error(`column ${definition.name}: ${errorMessage(error)}`, { cause: error });
    }
  }
}
