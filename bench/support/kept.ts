import { InputError } from '../../src/core/errors.ts';
import type { Circumstances } from './circumstances.ts';
import { readJsonFile } from './json-file.ts';
import type { Report } from './report.ts';

/** What `--out` keeps and `--json` prints. Results from before something was kept are without it. */
export type Kept = { scenario: string; data: unknown; measured_at: string; machine: string } & Partial<
  Omit<Circumstances, 'measured_at' | 'machine'> & Omit<Report, 'data'>
>;

export function readKept(path: string): Kept {
  const hint = 'Keep a result with --out FILE.json.';
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
