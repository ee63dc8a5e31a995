import { styleText } from 'node:util';
import { isTerminal, type RunStatus } from '../runs/run.ts';

const integers = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `20,000`. */
export function count(value: number): string {
  return integers.format(value);
}

/** `1 run`, `2,000 runs`. */
export function counted(value: number, noun: string, plural = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** `512 B`, `4.0 KiB`. */
export function bytes(value: number): string {
  let unit = 0;
  let scaled = value;
  while (scaled >= 1024 && unit < BYTE_UNITS.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return `${unit === 0 || scaled >= 100 ? count(scaled) : scaled.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** `8 ms`, `1.2 s`, `3 min`, `5 h`, `12 d`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${ms < 10 ? Number(ms.toFixed(1)) : count(ms)} ms`;
  if (ms < 100_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 2 * 3_600_000) return `${count(ms / 60_000)} min`;
  return ms < 2 * 86_400_000 ? `${count(ms / 3_600_000)} h` : `${count(ms / 86_400_000)} d`;
}

const UNITS = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1_000, 's'],
] as const;

/** What somebody has set, nothing rounded off: `50 h`, `140 min`. */
export function exactDuration(ms: number): string {
  const [size, unit] = UNITS.find(([size]) => ms % size === 0) ?? [1, 'ms'];
  return `${count(ms / size)} ${unit}`;
}

/** `3 min ago`. */
export function ago(ms: number, now: number): string {
  return now - ms < 1_000 ? 'just now' : `${duration(Math.max(0, now - ms))} ago`;
}

/** Names come from other people's events: nothing in them may move the cursor or start a new line. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd');
}

export function dim(text: string): string {
  return styleText('dim', text);
}

export function bold(text: string): string {
  return styleText('bold', text);
}

export function status(value: RunStatus): string {
  if (value === 'SUCCEEDED') return styleText('green', value);
  if (value === 'FAILED' || value === 'TIMED_OUT') return styleText('red', value);
  return isTerminal(value) ? styleText('dim', value) : styleText('cyan', value);
}

/** A reason and what to do about it, as sentences. */
export function withHint(reason: string, hint: string | null): string {
  if (hint === null) return reason;
  return `${reason}${/[.!?]$/.test(reason) ? '' : '.'} ${hint}`;
}
