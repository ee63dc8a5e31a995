/**
 * Parquet's mix of run-length and bit-packed runs, which definition levels and dictionary codes are made of. Both ways
 * go from typed array to typed array: through a writer that grows byte by byte they were a tenth of a fold.
 */

/** At least this many equal values are worth a run of their own. */
const RUN_MIN = 8;

/** `values` of `width` bits, 0 to 24. The runs are those that hyparquet-writer makes. */
export function packHybrid(values: Uint8Array | Uint32Array, width: number): Uint8Array {
  const count = values.length;
  // A run takes at most 5 bytes of length and 3 of value for 8 values or more; a group of 8 packed ones `width` bytes.
  const out = new Uint8Array(Math.ceil(count / 8) * Math.max(width, 3) + Math.ceil(count / 8 + 1) * 5);
  let at = 0;
  const varint = (value: number) => {
    for (; value >= 0x80; value >>>= 7) out[at++] = (value & 0x7f) | 0x80;
    out[at++] = value;
  };
  const pack = (start: number, end: number) => {
    if (end === start) return;
    varint((((end - start) / 8) << 1) | 1);
    let buffer = 0;
    let bits = 0;
    const last = Math.min(end, count);
    for (let i = start; i < last; i++) {
      buffer |= values[i]! << bits;
      bits += width;
      for (; bits >= 8; bits -= 8) {
        out[at++] = buffer;
        buffer >>>= 8;
      }
    }
    // The last group is filled up with zeros.
    for (bits += (end - last) * width; bits > 0; bits -= 8) {
      out[at++] = buffer;
      buffer >>>= 8;
    }
  };
  let packed = 0;
  let i = 0;
  while (i < count) {
    const value = values[i]!;
    let end = i + 1;
    while (end < count && values[end] === value) end++;
    if (end - i < RUN_MIN) {
      i += 8;
      continue;
    }
    pack(packed, i);
    varint((end - i) << 1);
    for (let bits = 0; bits < width; bits += 8) out[at++] = value >>> bits;
    i = end;
    packed = end;
  }
  pack(packed, Math.max(i, packed));
  return out.subarray(0, at);
}

/**
 * Exactly `out.length` values of `width` bits from `at` to `end`. Written for bytes that may be anything: whatever is
 * wrong throws a plain Error.
 */
export function unpackHybrid(
  bytes: Uint8Array,
  at: number,
  end: number,
  width: number,
  out: Uint8Array | Uint32Array,
): void {
  forEachRun(bytes, { at, end, width, count: out.length }, (run) => {
    if (run.value !== null) out.fill(run.value, run.start, run.stop);
    else if (width === 1) unpackBits(bytes, run.at, out, run.start, run.stop);
    else unpackGroups(bytes, run.at, width, out, run.start, run.stop);
  });
}

/** Of `count` values as in `unpackHybrid`, those with the numbers `wanted`, which rise: the others are passed over. */
export function pickHybrid(bytes: Uint8Array, range: HybridRange, wanted: Uint32Array): Uint32Array {
  const out = new Uint32Array(wanted.length);
  let k = 0;
  forEachRun(bytes, range, ({ value, at, start, stop }) => {
    for (; k < wanted.length && wanted[k]! < stop; k++)
      out[k] = value ?? valueAt(bytes, at, range.width, (wanted[k]! - start) * range.width);
  });
  return out;
}

interface HybridRange {
  at: number;
  end: number;
  width: number;
  count: number;
}

/** The values [start, stop): all `value`, or, where that is null, packed from byte `at` on. */
interface HybridRun {
  value: number | null;
  at: number;
  start: number;
  stop: number;
}

function forEachRun(
  bytes: Uint8Array,
  { at, end, width, count }: HybridRange,
  visit: (run: HybridRun) => void,
): void {
  if (width > 24) throw new Error(`codes of ${width} bits`);
  let done = 0;
  while (done < count) {
    let header = 0;
    let shift = 0;
    for (let byte = 0x80; byte >= 0x80; shift += 7) {
      if (at >= end || shift > 28) throw new Error('a run of codes is cut off');
      byte = bytes[at++]!;
      header += (byte & 0x7f) * 2 ** shift;
    }
    if (header % 2 === 0) {
      const size = (width + 7) >> 3;
      let value = 0;
      for (let b = 0; b < size; b++) value |= bytes[at + b]! << (8 * b);
      at += size;
      const stop = done + header / 2;
      if (at > end || stop > count || stop === done) throw new Error('a run of codes is too long');
      visit({ value, at, start: done, stop });
      done = stop;
      continue;
    }
    const packed = (header - 1) / 2;
    const stop = Math.min(done + packed * 8, count);
    if (at + packed * width > end || stop === done) throw new Error('a run of packed codes is cut off');
    visit({ value: null, at, start: done, stop });
    done = stop;
    at += packed * width;
  }
}

function unpackBits(
  bytes: Uint8Array,
  at: number,
  out: Uint8Array | Uint32Array,
  start: number,
  end: number,
): void {
  let i = start;
  for (; i + 8 <= end; i += 8, at++) {
    const byte = bytes[at]!;
    out[i] = byte & 1;
    out[i + 1] = (byte >> 1) & 1;
    out[i + 2] = (byte >> 2) & 1;
    out[i + 3] = (byte >> 3) & 1;
    out[i + 4] = (byte >> 4) & 1;
    out[i + 5] = (byte >> 5) & 1;
    out[i + 6] = (byte >> 6) & 1;
    out[i + 7] = byte >> 7;
  }
  for (; i < end; at++) {
    const byte = bytes[at]!;
    const stop = Math.min(i + 8, end);
    for (let bit = 0; i < stop; i++, bit++) out[i] = (byte >> bit) & 1;
  }
}

function unpackGroups(
  bytes: Uint8Array,
  at: number,
  width: number,
  out: Uint8Array | Uint32Array,
  start: number,
  end: number,
): void {
  for (let i = start, bit = 0; i < end; i++, bit += width) out[i] = valueAt(bytes, at, width, bit);
}

/** At most 24 bits of a value and 7 before them: one word holds both. */
function valueAt(bytes: Uint8Array, at: number, width: number, bit: number): number {
  const from = at + (bit >> 3);
  let word = 0;
  if (from <= bytes.length - 4) {
    word = bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24);
  } else {
    for (let b = 0; from + b < bytes.length; b++) word |= bytes[from + b]! << (8 * b);
  }
  return (word >>> (bit & 7)) & ((1 << width) - 1);
}
