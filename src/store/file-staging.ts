import { closeSync, fsync, openSync, readdirSync, rmSync, statSync, write, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../core/clock.ts';

const writeAsync = promisify(write);
const fsyncAsync = promisify(fsync);

const SYNC_BYTES_MAX = 64 * 1024;
const LEFTOVER_AGE_MS = 3_600_000;

/** Opens a new file in the staging directory; the name must be new as well. */
export function openStaged(path: string): number {
  return openSync(path, 'wx', 0o666);
}

/** Writes header and body, makes them durable and closes the descriptor, also when it fails. */
export async function fillStaged(fd: number, parts: readonly Uint8Array[], fsynced: boolean): Promise<void> {
  try {
    for (const part of parts) {
      for (let done = 0; done < part.length; ) {
        // Small writes only reach the page cache: faster than a trip through the thread pool.
        if (part.length <= SYNC_BYTES_MAX) done += writeSync(fd, part, done);
        else done += (await writeAsync(fd, part, done, part.length - done, null)).bytesWritten;
      }
    }
    if (fsynced) await fsyncAsync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Removes what killed processes left behind. A live process that took this long finds its file gone when it comes
 * to name it, and its write fails without effect.
 */
export function removeLeftovers(dir: string): void {
  const before = systemClock.now() - LEFTOVER_AGE_MS;
  for (const name of names(dir)) {
    const path = join(dir, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isFile() && stat.mtimeMs < before) rmSync(path, { force: true });
  }
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
