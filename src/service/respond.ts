import { compress, compressStream, encodingOf } from './compress.ts';
import type { Answer } from './route.ts';

export function toResponse(answer: Answer): Response {
  if (answer instanceof Response) return answer;
  const { status = 200, json, headers } = answer;
  return new Response(JSON.stringify(json), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers },
  });
}

const streams = new WeakMap<Response, { packed: boolean }>();

/** An answer that is sent as it is made, never held. `packed`: compressing it would gain nothing. */
export function streamed(
  body: ReadableStream<Uint8Array>,
  headers: Record<string, string>,
  { packed = false }: { packed?: boolean } = {},
): Response {
  const response = new Response(body, { headers });
  streams.set(response, { packed });
  return response;
}

/** A caller's own id where it is harmless in a log, else a new one. Stated in docs/SERVICE.md and in openapi.ts. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get('x-request-id') ?? '';
  return /^[A-Za-z0-9._:+/=@~-]{1,128}$/.test(given) ? given : crypto.randomUUID();
}

/** What every answer has: its request's id, safe defaults, and the encoding that the caller takes. */
export async function finish(
  request: Request,
  response: Response,
  requestId: string,
  bytesMin: number,
): Promise<Response> {
  const headers = new Headers(response.headers);
  headers.set('x-request-id', requestId);
  headers.set('x-content-type-options', 'nosniff');
  headers.set('referrer-policy', 'no-referrer');
  if (!headers.has('cache-control')) headers.set('cache-control', 'no-store');
  const { status } = response;
  const type = headers.get('content-type') ?? '';
  headers.append('vary', 'Accept, Accept-Encoding');
  if (response.body === null || request.method === 'HEAD') return new Response(null, { status, headers });
  // Ranges are of the bytes as they are.
  if (type.startsWith('text/event-stream') || headers.has('content-range'))
    return new Response(response.body, { status, headers });
  const stream = streams.get(response);
  if (stream !== undefined) {
    const encoding = stream.packed ? null : encodingOf(request.headers.get('accept-encoding'));
    if (encoding === null) return new Response(response.body, { status, headers });
    headers.set('content-encoding', encoding);
    return new Response(compressStream(response.body, encoding), { status, headers });
  }
  const body = new Uint8Array(await response.arrayBuffer());
  const encoding = body.length < bytesMin ? null : encodingOf(request.headers.get('accept-encoding'));
  if (encoding === null) {
    headers.set('content-length', String(body.length));
    return new Response(body, { status, headers });
  }
  const packed = (await compress(body, encoding)) as Uint8Array<ArrayBuffer>;
  headers.set('content-encoding', encoding);
  headers.set('content-length', String(packed.length));
  return new Response(packed, { status, headers });
}
