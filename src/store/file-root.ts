import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { StoreError } from '../core/errors.ts';
import { failed, isErrno } from './file-errors.ts';

/**
 * The store's directory as it was when the store was opened. A volume that is unmounted, or a directory that is moved
 * away, must not look like an empty store, and a write must not begin a new one in its place. So the directory is never
 * made again, and wherever something is absent or has to be made, one stat(2) asks whether it is still the same.
 */
export class FileRoot {
  readonly path: string;
  readonly #device: number;
  readonly #inode: number;

  /** Throws what stat throws: the directory exists. */
  constructor(path: string) {
    const { dev, ino } = statSync(path);
    this.path = path;
    this.#device = dev;
    this.#inode = ino;
  }

  /** Throws StoreError STORE_UNAVAILABLE where the directory is gone or is another one. */
  check(): void {
    const found = this.#stat();
    if (found?.dev === this.#device && found.ino === this.#inode) return;
    const what = found === undefined ? 'is gone' : 'is not the one that was opened';
    throw new StoreError('STORE_UNAVAILABLE', `The directory of the store, ${this.path}, ${what}.`, {
      retryable: false,
      hint: 'Mount it, or move it back. Where it was replaced on purpose, start this process again.',
      details: { path: this.path },
    });
  }

  /** Makes `dir` and what is missing between it and the store's directory; never that itself. Throws as `check` does. */
  make(dir: string): void {
    this.check();
    const missing: string[] = [];
    for (let at = dir; at !== this.path && !makeOne(at); at = dirname(at)) missing.push(at);
    for (const at of missing.reverse()) {
      if (makeOne(at)) continue;
      this.check();
      throw removedMeanwhile(at);
    }
  }

  #stat() {
    try {
      return statSync(this.path, { throwIfNoEntry: false });
    } catch (error) {
      throw failed('find', this.path, error);
    }
  }
}

export function removedMeanwhile(what: string, cause?: unknown): StoreError {
  return new StoreError('STORE_UNAVAILABLE', `Directories were removed while ${what} was written.`, {
    retryable: true,
    cause,
  });
}

/** False where the directory above is missing. */
function makeOne(dir: string): boolean {
  try {
    mkdirSync(dir);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    if (isErrno(error, 'EEXIST') && statSync(dir, { throwIfNoEntry: false })?.isDirectory()) return true;
    throw error;
  }
}
