import type { Rows } from './rows.ts';
import type { Codes, NumberVector, TextVector } from './vectors.ts';

/** What the manifest keeps of a part, to prune by. Times in ms; run ids in the order of their UTF-8 bytes. */
export interface PartStatistics {
  rows: number;
  run_id_min: string | null;
  run_id_max: string | null;
  created_at_min: number | null;
  created_at_max: number | null;
  updated_at_max: number | null;
  /** Of the runs that have finished; `unfinished` counts the others. */
  finished_at_max: number | null;
  unfinished: number;
}

export function partStatistics(rows: Rows): PartStatistics {
  const numbers = (column: 'created_at' | 'updated_at' | 'finished_at') =>
    rows.vector(column) as NumberVector;
  const known = (value: number) => (Number.isNaN(value) ? null : value);
  const ids = textBounds(rows.vector('run_id') as TextVector, 0, rows.length, true);
  const id = (utf8: Bounds['min']) =>
    utf8 === null ? null : Buffer.from(utf8 as Uint8Array).toString('utf8');
  return {
    rows: rows.length,
    run_id_min: id(ids.min),
    run_id_max: id(ids.max),
    created_at_min: known(numbers('created_at').min),
    created_at_max: known(numbers('created_at').max),
    updated_at_max: known(numbers('updated_at').max),
    finished_at_max: known(numbers('finished_at').max),
    unfinished: numbers('finished_at').nullCount,
  };
}

/** Least and greatest value of a range of one column: numbers, or texts as UTF-8 in byte order. Null: not known. */
export interface Bounds {
  min: number | Uint8Array | null;
  max: number | Uint8Array | null;
  nullCount: number;
}

export function numberBounds(vector: NumberVector, start: number, end: number, wanted: boolean): Bounds {
  if (start === 0 && end === vector.length) {
    const { min, max, nullCount } = vector;
    const known = wanted && nullCount < end;
    return { min: known ? min : null, max: known ? max : null, nullCount };
  }
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let nullCount = 0;
  for (let i = start; i < end; i++) {
    const value = vector.raw(i);
    if (value < min) min = value;
    if (value > max) max = value;
    if (value !== value) nullCount++;
  }
  const known = wanted && nullCount < end - start;
  return { min: known ? min : null, max: known ? max : null, nullCount };
}

export function textBounds(vector: TextVector, start: number, end: number, wanted: boolean): Bounds {
  let min = -1;
  let max = -1;
  let nullCount = 0;
  for (let i = start; i < end; i++) {
    if (vector.isNull(i)) {
      nullCount++;
    } else if (wanted) {
      // Ids mostly rise, and what is above the greatest is not below the least.
      if (max === -1) min = max = i;
      else if (compareRows(vector, i, max) > 0) max = i;
      else if (compareRows(vector, i, min) < 0) min = i;
    }
  }
  const bytesOf = (i: number) =>
    i === -1 ? null : vector.bytes.subarray(vector.start(i), vector.start(i + 1));
  return { min: bytesOf(min), max: bytesOf(max), nullCount };
}

/** Of rows that have every entry. */
export function entryBounds(entries: readonly Uint8Array[], nullCount: number, wanted: boolean): Bounds {
  const bounds: Bounds = { min: null, max: null, nullCount };
  if (wanted) for (const entry of entries) widen(bounds, entry, entry);
  return bounds;
}

/** `local` maps a code to 1 + its place in `entries`. */
export function dictionaryBounds(
  codes: Codes,
  local: Uint32Array,
  entries: readonly Uint8Array[],
  start: number,
  end: number,
  wanted: boolean,
): Bounds {
  const used = new Uint8Array(entries.length + 1);
  let nullCount = 0;
  for (let i = start; i < end; i++) {
    const code = codes[i]!;
    if (code === 0) nullCount++;
    else used[local[code]!] = 1;
  }
  const bounds: Bounds = { min: null, max: null, nullCount };
  if (!wanted) return bounds;
  entries.forEach((entry, at) => {
    if (used[at + 1] === 1) widen(bounds, entry, entry);
  });
  return bounds;
}

export function joinBounds(parts: readonly Bounds[]): Bounds {
  const whole: Bounds = { min: null, max: null, nullCount: 0 };
  for (const part of parts) {
    whole.nullCount += part.nullCount;
    if (part.min !== null && part.max !== null) widen(whole, part.min, part.max);
  }
  return whole;
}

function widen(bounds: Bounds, min: number | Uint8Array, max: number | Uint8Array): void {
  if (bounds.min === null || compare(min, bounds.min) < 0) bounds.min = min;
  if (bounds.max === null || compare(max, bounds.max) > 0) bounds.max = max;
}

function compare(a: number | Uint8Array, b: number | Uint8Array): number {
  return typeof a === 'number' ? a - (b as number) : Buffer.compare(a, b as Uint8Array);
}

/** In the order of their bytes, which is that of code points. */
function compareRows(vector: TextVector, a: number, b: number): number {
  const { bytes } = vector;
  const endA = vector.start(a + 1);
  const endB = vector.start(b + 1);
  let i = vector.start(a);
  let j = vector.start(b);
  while (i < endA && j < endB) {
    const difference = bytes[i++]! - bytes[j++]!;
    if (difference !== 0) return difference;
  }
  return endA - i - (endB - j);
}
