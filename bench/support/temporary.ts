import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../../src/core/errors.ts';

export interface TemporaryFolder {
  path: string;
  remove(): void;
}

/** A folder that is gone when the process ends, however it ends but by SIGKILL. Throws InputError where none can be made. */
export function temporaryFolder(prefix: string): TemporaryFolder {
  let path: string;
  try {
    path = mkdtempSync(join(tmpdir(), prefix));
  } catch (cause) {
    throw new InputError(
      `No temporary folder can be made in ${tmpdir()}: ${(cause as NodeJS.ErrnoException).code}.`,
      {
        hint: 'Set TMPDIR to a folder that can be written to.',
        cause,
      },
    );
  }
  const remove = () => {
    process.off('exit', remove);
    rmSync(path, { recursive: true, force: true });
  };
  process.once('exit', remove);
  return { path, remove };
}
