import { createHash } from 'node:crypto';
import type { OrgSnapshot } from './org-cache.ts';
import { Problem } from './problem.ts';
import type { Answer, Call } from './route.ts';
import type { View } from './view-cache.ts';

/** The org's catalog, as fresh as the caller asks: see docs/SERVICE.md, "Freshness". */
export function snapshotFor({ service, org, request, signal }: Call): Promise<OrgSnapshot> {
  return service.orgs.get(org, maxAgeOf(request.headers.get('cache-control')), signal);
}

/** Null: no wish. `no-cache` is `max-age=0`. */
export function maxAgeOf(cacheControl: string | null): number | null {
  const text = (cacheControl ?? '').toLowerCase();
  if (/(^|[\s,])no-(cache|store)\b/.test(text)) return 0;
  const match = /(?:^|[\s,])max-age\s*=\s*"?(\d{1,9})/.exec(text);
  return match === null ? null : Number(match[1]) * 1_000;
}

/** The view as JSON with its ETag, made once per state and question. 304 where the caller has it. */
export async function viewAnswer(
  { service, request }: Call,
  snapshot: OrgSnapshot,
  make: () => unknown,
): Promise<Answer> {
  refuseOtherTypes(request);
  const { pathname, search } = new URL(request.url);
  const key = `${snapshot.tag} ${pathname}${search}`;
  let view = service.views.get(key);
  if (view === undefined) {
    view = viewOf(await make());
    service.views.set(key, view);
  }
  return answerOf(request, view, stateOf(service, snapshot));
}

/** Headers that tell of the state that an answer was made from. */
export function stateOf({ orgs }: Call['service'], snapshot: OrgSnapshot): Record<string, string> {
  return {
    age: String(Math.floor(orgs.ageMs(snapshot) / 1_000)),
    ...(snapshot.incomplete === null ? {} : { 'x-runfold-incomplete': snapshot.incomplete }),
  };
}

export const ARROW = 'application/vnd.apache.arrow.stream';

export function wantsArrow(request: Request): boolean {
  return (request.headers.get('accept') ?? '').toLowerCase().includes(ARROW);
}

/** Who asks for Arrow and takes nothing else must not be given JSON. */
function refuseOtherTypes(request: Request): void {
  const accept = (request.headers.get('accept') ?? '').toLowerCase();
  if (!wantsArrow(request) || /\*\/\*|application\/(\*|json)/.test(accept)) return;
  throw notAcceptable('This route gives no Arrow.');
}

/** `available`: what the route gives instead. */
export function notAcceptable(detail: string): Problem {
  return new Problem('NOT_ACCEPTABLE', detail, {
    hint: 'Ask for `application/json`. A service with Arrow gives it from `runs`, `active` and `export`.',
    details: { available: ['application/json'] },
  });
}

/** The view, or 304 where the caller has it already. */
export function answerOf(
  request: Request,
  { body, etag }: View,
  more: Record<string, string> = {},
): Response {
  const headers = { etag, 'cache-control': 'private, no-cache', 'content-type': 'application/json', ...more };
  if (matches(request.headers.get('if-none-match'), etag))
    return new Response(null, { status: 304, headers });
  return new Response(body, { headers });
}

/** Weak: the same content may come in several encodings. From the bytes, so that all processes agree. */
export function viewOf(value: unknown): View {
  return viewOfBytes(new TextEncoder().encode(JSON.stringify(value)));
}

export function viewOfBytes(body: Uint8Array<ArrayBuffer>): View {
  return { body, etag: `W/"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` };
}

export function matches(ifNoneMatch: string | null, etag: string): boolean {
  if (ifNoneMatch === null) return false;
  const opaque = etag.replace(/^W\//, '');
  return ifNoneMatch
    .split(',')
    .some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === opaque);
}
