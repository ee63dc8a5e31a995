import { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { constants, createGzip, createZstdCompress, gzip, zstdCompress } from 'node:zlib';

const encoders = {
  zstd: (body: Uint8Array) =>
    promisify(zstdCompress)(body, { params: { [constants.ZSTD_c_compressionLevel]: 3 } }),
  gzip: (body: Uint8Array) => promisify(gzip)(body, { level: 4 }),
} as const;

export type Encoding = keyof typeof encoders;

/** The best encoding that the client takes; null: as it is. */
export function encodingOf(acceptEncoding: string | null): Encoding | null {
  const taken = new Set(
    (acceptEncoding ?? '')
      .toLowerCase()
      .split(',')
      .map((item) => item.split(';'))
      .filter(([, quality]) => !/^\s*q=0(\.0*)?\s*$/.test(quality ?? ''))
      .map(([name]) => name!.trim()),
  );
  return taken.has('zstd') ? 'zstd' : taken.has('gzip') ? 'gzip' : null;
}

export function compress(body: Uint8Array, encoding: Encoding): Promise<Uint8Array> {
  return encoders[encoding](body);
}

/** The same as it flows; whoever reads slowly slows the source. */
export function compressStream(
  body: ReadableStream<Uint8Array>,
  encoding: Encoding,
): ReadableStream<Uint8Array> {
  const stream = encoding === 'gzip' ? createGzip({ level: 4 }) : createZstdCompress();
  return body.pipeThrough(Duplex.toWeb(stream) as ReadableWritablePair<Uint8Array, Uint8Array>);
}
