import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Clock, cancelled } from '../core/clock.ts';
import { Problem } from './problem.ts';

export interface BodyLimits {
  readonly bytesMax: number;
  readonly nestingMax: number;
  readonly deadlineMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

type Bounds = Omit<BodyLimits, 'nestingMax'>;

/**
 * The JSON of a request. Bounded in bytes before and after decompression, in time, and in nesting; the first bound
 * that breaks ends the reading. `undefined` where there is no body.
 */
export async function readJson(request: Request, limits: BodyLimits): Promise<unknown> {
  const bytes = await readBytes(request, limits);
  if (bytes === null) return undefined;
  const text = decode(bytes);
  if (text.trim() === '') return undefined;
  checkMediaType(request.headers.get('content-type'));
  checkNesting(text, limits.nestingMax);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new Problem('INVALID_INPUT', 'The body is not JSON.', { cause });
  }
}

/** The bytes of a request, with the same bounds but that of nesting. Null where there is no body. */
export async function readBytes(request: Request, limits: Bounds): Promise<Uint8Array | null> {
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > limits.bytesMax) throw tooLarge(limits);
  if (request.body === null) return null;
  const encoding = (request.headers.get('content-encoding') ?? 'identity').trim().toLowerCase();
  return decompress(await receive(request.body, limits), encoding, limits);
}

async function receive(body: ReadableStream<Uint8Array>, limits: Bounds): Promise<Uint8Array> {
  const reader = body.getReader();
  const timer = new AbortController();
  const late = limits.clock.sleep(limits.deadlineMs, timer.signal).then(
    () => {
      throw new Problem('REQUEST_TIMEOUT', `The body did not come within ${limits.deadlineMs} ms.`, {
        headers: { connection: 'close' },
      });
    },
    () => new Promise<never>(() => undefined),
  );
  const stopped = new Promise<never>((_, reject) => {
    limits.signal.addEventListener('abort', () => reject(cancelled(limits.signal)), { once: true });
  });
  for (const promise of [late, stopped]) promise.catch(() => undefined);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), late, stopped]);
      if (done) return Buffer.concat(chunks, size);
      size += value.length;
      if (size > limits.bytesMax) throw tooLarge(limits);
      chunks.push(value);
    }
  } catch (error) {
    reader.cancel().catch(() => undefined);
    if (error instanceof Problem || limits.signal.aborted) throw error;
    throw new Problem('INVALID_INPUT', 'The body broke off.', { cause: error });
  } finally {
    timer.abort(null);
  }
}

async function decompress(bytes: Uint8Array, encoding: string, limits: Bounds): Promise<Uint8Array> {
  if (encoding === 'identity' || encoding === '') return bytes;
  const stream = encoding === 'gzip' ? createGunzip() : encoding === 'zstd' ? createZstdDecompress() : null;
  if (stream === null) {
    throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'The content encoding is not known.', {
      hint: 'Send the body as it is, or with gzip or zstd.',
      headers: { 'accept-encoding': 'gzip, zstd' },
    });
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    stream.end(bytes);
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      // A small body may unpack to gigabytes: it is stopped here.
      if (size > limits.bytesMax) throw tooLarge(limits);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, size);
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    throw new Problem('INVALID_INPUT', `The body is not ${encoding}.`, { cause });
  } finally {
    stream.destroy();
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Problem('INVALID_INPUT', 'The body is not UTF-8.', { cause });
  }
}

function checkMediaType(contentType: string | null): void {
  const type = (contentType ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (type === 'application/json' || /^application\/[a-z0-9.-]+\+json$/.test(type)) return;
  throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'The body must be application/json.', {
    headers: { accept: 'application/json' },
  });
}

/** Everything that walks the value later is recursive: a stack that overflows would be our defect, not the sender's. */
function checkNesting(text: string, max: number): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === 0x5c) i++;
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) inString = true;
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > max) throw new Problem('INVALID_INPUT', `The body nests deeper than ${max}.`);
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
}

function tooLarge({ bytesMax }: Bounds): Problem {
  return new Problem('BODY_TOO_LARGE', `The body has more than ${bytesMax} bytes.`, {
    details: { limit_bytes: bytesMax },
    headers: { connection: 'close' },
  });
}
