import { isAscii } from 'node:buffer';
import { parseJson } from '../core/stored-json.ts';

/** A manifest's JSON, and the inline head in it where that was cut out: its text, and what it decodes to. */
export interface CutManifest {
  json: unknown;
  inline: { text: string; bytes: Uint8Array } | null;
}

/** Shorter ones are parsed with the rest in no time. */
const CUT_BYTES_MIN = 4 * 1024;
const OPENING = Buffer.from('"inline":"');
/** Stands for the head while the rest is parsed. Letters only, so that none but `\u` escapes can spell it otherwise. */
const STAND_IN = 'InlineHeadThatWasCutOut';

/**
 * As `parseJson`, to the same value and the same errors, without the time that more than a MiB of base64 in a string
 * takes to be decoded as UTF-8 and parsed: that string is cut out of the bytes before, and put into its part after.
 *
 * Why it is exact: in JSON, a `"` behind `"inline":` opens a string, whatever the first of these quotes was: had it
 * closed a string, `inline` would be no JSON. A string of base64 alone ends at the next `"`, and does not depend on
 * what surrounds it. Whatever is not so plain is parsed whole.
 */
export function parseManifest(body: Uint8Array): CutManifest {
  return parseCut(Buffer.from(body.buffer, body.byteOffset, body.length)) ?? whole(body);
}

function whole(body: Uint8Array): CutManifest {
  return { json: parseJson(body), inline: null };
}

function parseCut(body: Buffer): CutManifest | null {
  const head = longInline(body);
  if (head === null) return null;
  const { start, end } = head;
  const rest = Buffer.concat([body.subarray(0, start), Buffer.from(STAND_IN), body.subarray(end)]);
  if (rest.indexOf(STAND_IN) !== start || rest.includes(STAND_IN, start + 1) || rest.includes('\\u'))
    return null;
  const inline = decodeInline(body, start, end);
  if (inline === null) return null;
  let json: unknown;
  try {
    json = parseJson(rest);
  } catch {
    // The whole has the same fault, and an error of its own for it.
    return null;
  }
  const part = partOf(json);
  if (part === null) return null;
  part.inline = inline.text;
  return { json, inline };
}

/** The first string behind `"inline":` that is long. */
function longInline(body: Buffer): { start: number; end: number } | null {
  for (let at = body.indexOf(OPENING); at >= 0; ) {
    const start = at + OPENING.length;
    const end = body.indexOf('"', start);
    if (end < 0) return null;
    if (end - start >= CUT_BYTES_MIN) return { start, end };
    at = body.indexOf(OPENING, start);
  }
  return null;
}

/** Null where it holds anything but base64, which `Buffer.from` passes over. */
function decodeInline(body: Buffer, start: number, end: number): CutManifest['inline'] {
  if (!isAscii(body.subarray(start, end))) return null;
  const text = body.toString('latin1', start, end);
  const bytes = Buffer.from(text, 'base64');
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const isPlain = text.length % 4 === 0 && bytes.length === (text.length / 4) * 3 - padding;
  return isPlain ? { text, bytes } : null;
}

/** The part that the stand-in is in; null where it is somewhere else, or what stands there was said again later. */
function partOf(json: unknown): { inline: unknown } | null {
  const { parts } = (json ?? {}) as { parts?: unknown };
  if (!Array.isArray(parts)) return null;
  return parts.find((part) => Object(part) === part && part.inline === STAND_IN) ?? null;
}

const heads = new WeakMap<object, Uint8Array>();

/** So that the part need not be decoded again by whoever reads it first. */
export function keepHead(
  parts: readonly { inline: string | null }[],
  { text, bytes }: NonNullable<CutManifest['inline']>,
): void {
  const part = parts.find(({ inline }) => inline === text);
  if (part !== undefined) heads.set(part, bytes);
}

/** The bytes of a part that is inline. Those that were decoded with the manifest are given away: nothing else keeps them. */
export function inlineBytes(part: { inline: string }): Uint8Array {
  const kept = heads.get(part);
  heads.delete(part);
  return kept ?? Buffer.from(part.inline, 'base64');
}
