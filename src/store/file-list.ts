import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../core/clock.ts';
import { failed, isErrno } from './file-errors.ts';
import { keyProblem, PRIVATE_DIR } from './file-keys.ts';
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
}

/** A directory changed within this time may change again without its mtime showing it (git calls it "racy"). */
const RACY_MS = 2_000;
const CACHED_DIRS_MAX = 32;

/**
 * Walks the tree in the byte order of full keys, reading only directories that can hold keys in range. A
 * directory's name sorts with its slash: that is how all keys below it sort among its siblings.
 */
export class FileTree {
  readonly #root: string;
  readonly #cache = new Map<string, { stamp: string; entries: readonly string[] }>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Lazy and synchronous: every `next` shows the tree as it is, or was when its directory was entered. */
  *walk(options: ListOptions): Generator<Found> {
    const { prefix, end } = options;
    const from = [prefix, options.start ?? '', options.pageToken ?? ''].sort(compareKeys).at(-1)!;
    const dir = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    if (dir !== '' && keyProblem(dir.slice(0, -1)) !== null) return;
    const range = { prefix, from, end };
    if (options.delimiter === undefined) yield* this.#keys(dir, range);
    else yield* this.#groups(dir, range);
  }

  *#keys(dir: string, range: Range): Generator<Found> {
    for (const key of this.#inRange(dir, range)) {
      if (key.endsWith('/')) yield* this.#keys(key, range);
      else yield found(key);
    }
  }

  /** Every directory below the prefix is a group, if anything in range is in it: empty directories stay behind. */
  *#groups(dir: string, range: Range): Generator<Found> {
    for (const key of this.#inRange(dir, range)) {
      if (!key.endsWith('/')) yield found(key);
      else if (!this.#keys(key, range).next().done) {
        // '0' follows '/' in ASCII.
        yield { kind: 'prefix', key, resume: `${key.slice(0, -1)}0` };
      }
    }
  }

  *#inRange(dir: string, { prefix, from, end }: Range): Generator<string> {
    const entries = this.#entries(dir);
    // A directory that `from` points into sorts just before `from` itself.
    for (let i = Math.max(0, lowerBound(entries, from) - 1); i < entries.length; i++) {
      const key = entries[i]!;
      if (end !== undefined && key >= end) return;
      if (key < from && !(key.endsWith('/') && from.startsWith(key))) continue;
      if (!key.startsWith(prefix)) return;
      yield key;
    }
  }

  /**
   * Sorted full keys of the objects in `dir` and, with their slash, of its directories. Reading 100 000 names
   * takes 70 ms, so that paging through them would be quadratic: the names are kept as long as the directory's
   * mtime, ctime and inode stand still. That is exact only if every later change must move the mtime, so names are
   * kept only of directories that had been quiet for longer than any file system's clock is coarse.
   */
  #entries(dir: string): readonly string[] {
    const path = join(this.#root, dir);
    try {
      const stat = statSync(path, { bigint: true });
      const stamp = `${stat.ino} ${stat.mtimeNs} ${stat.ctimeNs}`;
      const cached = this.#cache.get(dir);
      if (cached?.stamp === stamp) return cached.entries;
      const quietMs = systemClock.now() - Math.max(Number(stat.ctimeMs), Number(stat.mtimeMs));
      const entries = readEntries(path, dir);
      this.#cache.delete(dir);
      if (quietMs > RACY_MS) this.#keep(dir, stamp, entries);
      return entries;
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
      throw failed('list', dir === '' ? this.#root : dir, error);
    }
  }

  #keep(dir: string, stamp: string, entries: readonly string[]): void {
    if (this.#cache.size >= CACHED_DIRS_MAX) this.#cache.delete(this.#cache.keys().next().value!);
    this.#cache.set(dir, { stamp, entries });
  }
}

/** No key has a character below `!`, so that nothing fits between a key and its resume point. */
function found(key: string): Found {
  return { kind: 'object', key, resume: `${key}!` };
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
