import { InputError } from './errors.ts';
import type { Random } from './random.ts';

const HEX = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** A version 7 UUID (RFC 9562): 48 bits of `timeMs`, 74 random bits. Sorts by time as text. */
export function uuidv7(timeMs: number, random: Random): string {
  const [a, b, c] = [random.u32(), random.u32(), random.u32()];
  const time = Math.max(0, Math.floor(timeMs)).toString(16).padStart(12, '0');
  const randA = (a & 0xfff).toString(16).padStart(3, '0');
  const variant = (0x8000 | ((a >>> 12) & 0x3fff)).toString(16);
  const randB = (b & 0xffff).toString(16).padStart(4, '0') + c.toString(16).padStart(8, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randA}-${variant}-${randB}`;
}

/** The time in a version 7 UUID, ms since the epoch; null when `text` is not one. */
export function uuidv7Time(text: string): number | null {
  if (!HEX.test(text)) return null;
  return Number.parseInt(text.slice(0, 8) + text.slice(9, 13), 16);
}

/** The least UUID of that millisecond: an inclusive lower bound for listing by time. */
export function uuidv7Floor(timeMs: number): string {
  if (!Number.isFinite(timeMs)) throw new InputError(`Not a time: ${timeMs}`);
  const time = Math.max(0, Math.floor(timeMs)).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-000000000000`;
}
