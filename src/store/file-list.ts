import { readdirSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, throwIfAborted } from '../core/clock.ts';
import { isRunfoldError } from '../core/errors.ts';
import { failed, isErrno } from './file-errors.ts';
import { directoryOf, keyProblem, PRIVATE_DIR } from './file-keys.ts';
import { compareKeys } from './memory.ts';
import type { ListOptions } from './object-store.ts';

/** A key, or with a delimiter the prefix of a group; `resume` is the least key that may come after it. */
export interface Found {
  readonly kind: 'object' | 'prefix';
  readonly key: string;
  readonly resume: string;
}

interface Range {
  prefix: string;
  from: string;
  end: string | undefined;
  signal: AbortSignal | undefined;
}

/** A directory changed within this time may change again without its mtime showing it (git calls it "racy"). */
const RACY_MS = 2_000;
const CACHED_DIRS_MAX = 32;

/**
 * ext2–4 and xfs, by statfs. A replace changes the directory entry in place there. Elsewhere (tmpfs does, btrfs may)
 * the entry moves, so that reading the directory at that moment shows neither the old nor the new one.
 */
const ENTRIES_STAY = new Set([0xef53, 0x58465342]);

/** Runs `critical` while no object directly in `dir` is being replaced. */
export type Exclusively = <T>(dir: string, signal: AbortSignal | undefined, critical: () => T) => Promise<T>;

/**
 * Walks the tree in the byte order of full keys, reading only directories that can hold keys in range. A
 * directory's name sorts with its slash: that is how all keys below it sort among its siblings.
 */
export class FileTree {
  readonly #root: string;
  readonly #exclusively: Exclusively;
  readonly #cache = new Map<string, { stamp: string; entries: readonly string[] }>();
  #entriesStay: boolean | undefined;

  constructor(root: string, exclusively: Exclusively) {
    this.#root = root;
    this.#exclusively = exclusively;
  }

  /** The first `max` objects, or groups, in range. */
  async find(options: ListOptions, max: number): Promise<Found[]> {
    const { prefix, end, signal } = options;
    const from = [prefix, options.start ?? '', options.pageToken ?? ''].sort(compareKeys).at(-1)!;
    const dir = directoryOf(prefix);
    const result: Found[] = [];
    if (dir === '' || keyProblem(dir.slice(0, -1)) === null) {
      await this.#walk(dir, { prefix, from, end, signal }, options.delimiter !== undefined, max, result);
    }
    return result;
  }

  async #walk(dir: string, range: Range, grouped: boolean, max: number, result: Found[]): Promise<void> {
    for (const key of inRange(await this.#entries(dir, range.signal), range)) {
      if (!key.endsWith('/')) {
        // No key has a character below `!`, so that nothing fits between a key and its resume point.
        result.push({ kind: 'object', key, resume: `${key}!` });
      } else if (!grouped) {
        await this.#walk(key, range, false, max, result);
      } else if (await this.#hasObjects(key, range)) {
        // '0' follows '/' in ASCII.
        result.push({ kind: 'prefix', key, resume: `${key.slice(0, -1)}0` });
      }
      if (result.length >= max) return;
    }
  }

  /** Empty directories stay behind when their objects are deleted; they are no group. */
  async #hasObjects(dir: string, range: Range): Promise<boolean> {
    const first: Found[] = [];
    await this.#walk(dir, range, false, 1, first);
    return first.length > 0;
  }

  /**
   * Sorted full keys of the objects in `dir` and, with their slash, of its directories. Reading 100 000 names
   * takes 70 ms, so that paging through them would be quadratic: the names are kept as long as the directory's
   * mtime, ctime and inode stand still. That is exact only if every later change must move the mtime, so names are
   * kept only of directories that had been quiet for longer than any file system's clock is coarse.
   */
  async #entries(dir: string, signal: AbortSignal | undefined): Promise<readonly string[]> {
    throwIfAborted(signal);
    const path = join(this.#root, dir);
    try {
      const stat = statSync(path, { bigint: true });
      const stamp = `${stat.ino} ${stat.mtimeNs} ${stat.ctimeNs}`;
      const cached = this.#cache.get(dir);
      if (cached?.stamp === stamp) return cached.entries;
      const quietMs = systemClock.now() - Math.max(Number(stat.ctimeMs), Number(stat.mtimeMs));
      this.#entriesStay ??= ENTRIES_STAY.has(statfsSync(this.#root).type);
      const entries = this.#entriesStay
        ? readEntries(path, dir)
        : await this.#readExclusively(path, dir, signal);
      this.#cache.delete(dir);
      if (quietMs > RACY_MS) this.#keep(dir, stamp, entries);
      return entries;
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
      throw failed('list', dir === '' ? this.#root : dir, error);
    }
  }

  async #readExclusively(path: string, dir: string, signal: AbortSignal | undefined) {
    try {
      return await this.#exclusively(dir, signal, () => readEntries(path, dir));
    } catch (error) {
      // A store that may only be read has no locks.
      if (isRunfoldError(error) && error.code === 'STORE_FAILED') return readEntries(path, dir);
      throw error;
    }
  }

  #keep(dir: string, stamp: string, entries: readonly string[]): void {
    if (this.#cache.size >= CACHED_DIRS_MAX) this.#cache.delete(this.#cache.keys().next().value!);
    this.#cache.set(dir, { stamp, entries });
  }
}

function* inRange(entries: readonly string[], { prefix, from, end }: Range): Generator<string> {
  // A directory that `from` points into sorts just before `from` itself.
  for (let i = Math.max(0, lowerBound(entries, from) - 1); i < entries.length; i++) {
    const key = entries[i]!;
    if (end !== undefined && key >= end) return;
    if (key < from && !(key.endsWith('/') && from.startsWith(key))) continue;
    if (!key.startsWith(prefix)) return;
    yield key;
  }
}

/** Skips names that no key can have, symbolic links and devices: no write of ours made them. */
function readEntries(path: string, dir: string): readonly string[] {
  const keys: string[] = [];
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (dir === '' && entry.name === PRIVATE_DIR) continue;
    const slash = entry.isDirectory() ? '/' : entry.isFile() ? '' : null;
    if (slash === null || keyProblem(entry.name) !== null) continue;
    keys.push(`${dir}${entry.name}${slash}`);
  }
  return keys.sort(compareKeys);
}

function lowerBound(entries: readonly string[], from: string): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const mid = (low + high) >>> 1;
    if (entries[mid]! < from) low = mid + 1;
    else high = mid;
  }
  return low;
}
