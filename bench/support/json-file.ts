import { readFileSync } from 'node:fs';
import { InputError } from '../../src/core/errors.ts';
import type { Circumstances } from './circumstances.ts';
import type { Report } from './report.ts';

/** Throws InputError with `hint` when there is no such file, or no JSON in it. */
export function readJsonFile(path: string, hint: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new InputError(`${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}.`, {
      hint,
      cause,
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${path} is no JSON.`, { hint, cause });
  }
}

/** What `--json` prints. Results from before something was kept are without it. */
export type Kept = { scenario: string; data: unknown; measured_at: string; machine: string } & Partial<
  Omit<Circumstances, 'measured_at' | 'machine'> & Omit<Report, 'data'>
>;

export function readKept(path: string): Kept {
  const hint = 'Keep a result with --json > FILE.json.';
  const kept = readJsonFile(path, hint) as Partial<Kept> | null;
  if (
    typeof kept?.scenario === 'string' &&
    typeof kept.measured_at === 'string' &&
    typeof kept.machine === 'string' &&
    typeof kept.data === 'object'
  ) {
    return kept as Kept;
  }
  throw new InputError(`${path} is no result of a bench.`, { hint });
}
