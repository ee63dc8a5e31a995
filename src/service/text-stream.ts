/** How many bytes of `bytes` are whole UTF-8 characters: what is cut at the end may still come. */
export function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/**
 * One range of bytes, `to` exclusive; a negative `from` counts from the end. Null: none was asked for, or several or
 * something else, which a server may pass over (RFC 9110, 14.2).
 */
export function byteRange(header: string | null): { from: number; to: number } | null {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '');
  if (match === null) return null;
  const [, first = '', last = ''] = match;
  if (first === '') return last === '' || Number(last) === 0 ? null : { from: -Number(last), to: Infinity };
  if (last !== '' && Number(last) < Number(first)) return null;
  return { from: Number(first), to: last === '' ? Infinity : Number(last) + 1 };
}
