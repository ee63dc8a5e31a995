import { linkSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, throwIfAborted } from '../core/clock.ts';
import { crc32c } from '../core/crc32c.ts';
import { StoreError } from '../core/errors.ts';
import { systemRandom, uniform } from '../core/random.ts';
import { isErrno, overlapping } from './file-errors.ts';
import { encodeHeader, readMeta } from './file-frame.ts';
import { directoryOf } from './file-keys.ts';
import { BUSY, FileLocks } from './file-locks.ts';
import type { FileRoot } from './file-root.ts';
import { fillStaged, openStaged } from './file-staging.ts';
import { ABSENT, type ObjectMeta, type PutOptions } from './object-store.ts';

const LOCK_POLL_MS_MAX = 25;

export interface FileWriterOptions {
  root: FileRoot;
  /** Where unfinished files are written; on the same file system as the objects. */
  stagingDir: string;
  locksDir: string;
  clock: Clock;
  fsync: boolean;
  lockWaitMsMax: number;
}

/** The write path of FileStore, whose docstring says why it is atomic. */
export class FileWriter {
  readonly #options: FileWriterOptions;
  readonly #locks: FileLocks;

  constructor(options: FileWriterOptions) {
    this.#options = options;
    this.#locks = new FileLocks(options.root, options.locksDir);
  }

  /** The object under its name, not yet durable there; null when the precondition does not hold. */
  async write(key: string, path: string, body: Uint8Array, options: PutOptions): Promise<ObjectMeta | null> {
    const { clock, fsync, stagingDir } = this.#options;
    const { ifGeneration, signal } = options;
    // Before anybody can see the object, as the port demands.
    const createdAt = clock.now();
    const meta: ObjectMeta = {
      key,
      generation: newGeneration(createdAt),
      sizeBytes: body.length,
      crc32c: crc32c(body),
      createdAt,
      metadata: { ...options.metadata },
    };
    const staged = join(stagingDir, meta.generation);
    const fd = openStaged(staged);
    try {
      await fillStaged(fd, [encodeHeader(meta, options), body], fsync);
      throwIfAborted(signal);
      const publish = () => publishStaged(staged, path, key, ifGeneration);
      const written =
        ifGeneration === ABSENT ? publish() : await this.locked(directoryOf(key), signal, publish);
      return written ? meta : null;
    } finally {
      discard(staged);
    }
  }

  /**
   * Runs `critical` under the lock of a directory of objects, waiting for other processes.
   * Throws StoreError DEADLINE_EXCEEDED after `lockWaitMsMax`, and the signal's reason.
   */
  async locked<T>(dir: string, signal: AbortSignal | undefined, critical: () => T): Promise<T> {
    const { clock, lockWaitMsMax } = this.#options;
    await this.#locks.ready();
    const lock = this.#locks.lockOf(dir);
    const until = clock.monotonic() + lockWaitMsMax;
    for (let pollMs = 1; ; pollMs = Math.min(LOCK_POLL_MS_MAX, pollMs * 2)) {
      throwIfAborted(signal);
      const result = this.#locks.tryHold(lock, critical);
      if (result !== BUSY) return result;
      if (clock.monotonic() > until) throw this.#lockTimeout(dir, lock);
      // An abort during the sleep is reported by the next round, in our words.
      await clock.sleep(pollMs * (0.5 + uniform(systemRandom)), signal).catch(() => {});
    }
  }

  close(): void {
    this.#locks.close();
  }

  #lockTimeout(dir: string, lock: number): StoreError {
    const { lockWaitMsMax } = this.#options;
    const path = this.#locks.pathOf(lock);
    return new StoreError(
      'DEADLINE_EXCEEDED',
      `Another process held the lock of the directory "${dir}" for over ${lockWaitMsMax} ms.`,
      {
        retryable: true,
        hint: `A process that is stopped or stuck holds ${path}: find it with \`lsof\` or \`fuser\`, end it.`,
        details: { dir, path },
      },
    );
  }
}

type Precondition = PutOptions['ifGeneration'];

/** Whether the precondition holds now. Outside the lock only `false` is final: generations never return. */
export function holds(path: string, key: string, ifGeneration: Precondition): boolean {
  if (ifGeneration === undefined) return true;
  if (ifGeneration !== ABSENT) return readMeta(path, key)?.generation === ifGeneration;
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) throw overlapping(key);
  return found === undefined;
}

/** The commit point of every put. False when the precondition does not hold. */
function publishStaged(staged: string, path: string, key: string, ifGeneration: Precondition): boolean {
  if (ifGeneration !== ABSENT) {
    if (!holds(path, key, ifGeneration)) return false;
    renameSync(staged, path);
    return true;
  }
  try {
    linkSync(staged, path);
    return true;
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw overlapping(key);
    return false;
  }
}

/** By now the outcome is settled: a leftover is harmless and goes when a store is next opened. */
function discard(staged: string): void {
  try {
    rmSync(staged, { force: true });
  } catch {}
}

/** Time, so that generations are never reused for lack of randomness, and 64 random bits. */
function newGeneration(timeMs: number): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return hex(Math.floor(timeMs), 12) + hex(systemRandom.u32(), 8) + hex(systemRandom.u32(), 8);
}
