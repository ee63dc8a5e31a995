import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { crc32c } from '../core/crc32c.ts';
import { isRunfoldError, StoreError } from '../core/errors.ts';
import type { FileRoot } from './file-root.ts';

const LOCKS = 64;
const SQLITE_BUSY = 5;

export const BUSY = Symbol('busy');

/**
 * Mutual exclusion between the processes of one host, which a `kill -9` releases at once and a stopped process
 * keeps: the operating system's file locks. Node has no call for them, but its SQLite takes them: an immediate
 * transaction on an empty database is such a lock. Nothing is ever written, the files stay empty, and the journal
 * is kept in memory so that none appears beside them.
 */
export class FileLocks {
  readonly #root: FileRoot;
  readonly #dir: string;
  readonly #open = new Map<number, DatabaseSync>();
  #sqlite: typeof import('node:sqlite') | null = null;
  #closed = false;

  constructor(root: FileRoot, dir: string) {
    this.#root = root;
    this.#dir = dir;
  }

  /** Before the first `tryHold`. Loads `node:sqlite` only now: readers and creators never need it. */
  async ready(): Promise<void> {
    this.#sqlite ??= await import('node:sqlite');
  }

  /** One of 64: unrelated directories may share a lock and then wait for each other, some microseconds. */
  lockOf(dir: string): number {
    return crc32c(Buffer.from(dir)) % LOCKS;
  }

  pathOf(lock: number): string {
    return join(this.#dir, `${lock}.sqlite`);
  }

  /**
   * Runs `critical` while no other process runs one under the same lock, or answers BUSY at once. It is
   * synchronous on purpose: a lock is held for some system calls and never across an await, so calls of one
   * process exclude each other by themselves. Costs about 10 µs.
   * Throws StoreError when the lock file cannot be used, and whatever `critical` throws.
   */
  tryHold<T>(lock: number, critical: () => T): T | typeof BUSY {
    const database = this.#database(lock);
    try {
      database.exec('BEGIN IMMEDIATE');
    } catch (error) {
      if (sqliteCode(error) === SQLITE_BUSY) return BUSY;
      this.#drop(lock);
      throw unusable(this.pathOf(lock), error);
    }
    try {
      return critical();
    } finally {
      try {
        database.exec('ROLLBACK');
      } catch {
        this.#drop(lock);
      }
    }
  }

  close(): void {
    this.#closed = true;
    for (const lock of [...this.#open.keys()]) this.#drop(lock);
  }

  #database(lock: number): DatabaseSync {
    const found = this.#open.get(lock);
    if (found) return found;
    if (this.#closed || this.#sqlite === null) {
      throw new StoreError('STORE_FAILED', 'The file store is closed.', { retryable: false });
    }
    const path = this.pathOf(lock);
    try {
      this.#root.make(this.#dir);
      const database = new this.#sqlite.DatabaseSync(path);
      database.exec('PRAGMA journal_mode = MEMORY');
      this.#open.set(lock, database);
      return database;
    } catch (error) {
      if (isRunfoldError(error)) throw error;
      throw unusable(path, error);
    }
  }

  /** Closing the connection releases what it holds. */
  #drop(lock: number): void {
    const database = this.#open.get(lock);
    this.#open.delete(lock);
    try {
      database?.close();
    } catch {
      // Already closed.
    }
  }
}

function sqliteCode(error: unknown): number {
  return Number((error as { errcode?: number })?.errcode ?? 0) & 0xff;
}

function unusable(path: string, cause: unknown): StoreError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StoreError('STORE_FAILED', `Could not lock ${path}: ${reason}.`, {
    retryable: false,
    hint: 'The directory must be writable, on a local file system with file locks, with files left to open.',
    cause,
    details: { path },
  });
}
