import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Where the shared material lies: `RUNFOLD_SHARED`, else `../shared` beside the repository. */
export const sharedDir = resolve(process.env.RUNFOLD_SHARED ?? join(import.meta.dirname, '../../../shared'));

export function sharedFile(...segments: string[]): string {
  return join(sharedDir, ...segments);
}

/**
 * Null when that part of the shared material is here, else the reason to skip by. Throws where
 * `RUNFOLD_REQUIRE_SHARED=1` makes its absence a failure.
 */
export function sharedMissing(...segments: string[]): string | null {
  const path = sharedFile(...segments);
  if (existsSync(path)) return null;
  const reason = `${path} is not there (set RUNFOLD_SHARED)`;
  if (process.env.RUNFOLD_REQUIRE_SHARED === '1') throw new Error(`RUNFOLD_REQUIRE_SHARED=1, but ${reason}`);
  return reason;
}
