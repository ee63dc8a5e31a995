import crc32cLibrary from 'crc-32/crc32c.js';

/** CRC-32C (Castagnoli) as an unsigned 32-bit integer: what GCS keeps of every object. */
export function crc32c(bytes: Uint8Array): number {
  return crc32cLibrary.buf(bytes) >>> 0;
}

/** The base64 form (big-endian) that the GCS API speaks. */
export function crc32cToBase64(value: number): string {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return Buffer.from(bytes).toString('base64');
}

export function crc32cFromBase64(text: string): number {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === 4 ? bytes.readUInt32BE(0) : Number.NaN;
}
