import { InputError } from '../core/errors.ts';

/** Fields that hold ms since the epoch, wherever they are nested in what the CLI shows. */
const TIME_FIELD = /^at$|_at$|_at_min$|_at_max$|^since$|^covers_until$|^horizon$/;
type TimeField =
  | 'at'
  | `${string}_at`
  | `${string}_at_${'min' | 'max'}`
  | 'since'
  | 'covers_until'
  | 'horizon';

/** The same value with its times as ISO-8601 UTC strings. */
export type Iso<T> = T extends readonly (infer E)[]
  ? Iso<E>[]
  : T extends object
    ? { [K in keyof T]: K extends TimeField ? (null extends T[K] ? string | null : string) : Iso<T[K]> }
    : T;

/** The edge between runfold's ms and the ISO strings of all CLI output. */
export function isoTimes<T>(value: T): Iso<T> {
  return convert(value) as Iso<T>;
}

function convert(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(convert);
  if (value === null || typeof value !== 'object') return value;
  const fields = Object.entries(value).map(([name, field]) => [
    name,
    typeof field === 'number' && TIME_FIELD.test(name) ? iso(field) : convert(field),
  ]);
  return Object.fromEntries(fields);
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

const UNITS_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;
const ISO = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?$/;

/** ms of a duration such as `500ms`, `30s`, `90m`, `24h` or `90d`. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,6})(ms|[smhdw])$/.exec(text);
  const ms = match === null ? 0 : Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
  if (ms > 0) return ms;
  throw new InputError(`${JSON.stringify(text)} is not a duration.`, {
    hint: 'Write a number and a unit: 500ms, 30s, 90m, 24h, 90d or 2w.',
  });
}

/** ms since the epoch of an ISO-8601 time (UTC unless it says otherwise) or of an age such as `90m`, `24h`, `7d`. */
export function parseTime(text: string, now: number): number {
  const age = /^(\d{1,6})([smhdw])$/.exec(text);
  if (age !== null) return now - Number(age[1]) * UNITS_MS[age[2] as keyof typeof UNITS_MS];
  // A date-time without a zone would be local time to Date.
  const utc = text.length > 10 && !/(Z|[+-]\d{2}:\d{2})$/.test(text) ? `${text}Z` : text;
  const ms = ISO.test(text) ? Date.parse(utc) : Number.NaN;
  // Date takes 31 February for 2 March.
  const isDay =
    Number.isFinite(ms) &&
    new Date(`${text.slice(0, 10)}T00:00:00Z`).toISOString().startsWith(text.slice(0, 10));
  if (isDay) return ms;
  throw new InputError(`${JSON.stringify(text)} is not a time.`, {
    hint: 'Write 2026-11-20, 2026-11-20T04:30:00Z, or an age such as 90m, 24h or 7d.',
  });
}
