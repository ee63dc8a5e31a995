/**
 * Snappy into exactly `out`. Written for bytes that may be anything: whatever is wrong throws a plain Error, and the time
 * taken is bounded by both lengths. (hyparquet's own takes a literal of 2^31 bytes for one of negative length, and goes
 * round in the input.)
 */
export function unpackSnappy(input: Uint8Array, out: Uint8Array): void {
  let at = 0;
  let done = 0;
  const number = (bytes: number) => {
    let value = 0;
    for (let b = 0; b < bytes; b++) value += byte() * 2 ** (8 * b);
    return value;
  };
  const byte = () => {
    if (at >= input.length) throw new Error('snappy data is cut off');
    return input[at++]!;
  };
  // The length, which the page says too.
  while (byte() >= 0x80);
  while (at < input.length) {
    const tag = byte();
    const kind = tag & 3;
    if (kind === 0) {
      const short = tag >>> 2;
      const length = (short < 60 ? short : number(short - 59)) + 1;
      if (at + length > input.length || done + length > out.length)
        throw new Error('snappy data overruns its page');
      out.set(input.subarray(at, at + length), done);
      at += length;
      done += length;
      continue;
    }
    const length = kind === 1 ? ((tag >>> 2) & 7) + 4 : (tag >>> 2) + 1;
    const offset = kind === 1 ? (tag >>> 5) * 256 + byte() : number(kind === 2 ? 2 : 4);
    if (offset === 0 || offset > done || done + length > out.length)
      throw new Error('snappy data copies from nowhere');
    // Byte by byte: a copy may read what it has just written.
    for (const end = done + length; done < end; done++) out[done] = out[done - offset]!;
  }
  if (done !== out.length) throw new Error('snappy data is too short');
}
