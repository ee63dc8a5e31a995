import { closeSync, fsync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { FileRoot } from './file-root.ts';

const fsyncAsync = promisify(fsync);
const KNOWN_MAX = 50_000;

/**
 * Makes directories and their entries durable. fsync of a file does not keep its name, fsync of its directory
 * does. With `fsync: false` it only makes directories.
 */
export class Directories {
  readonly #root: FileRoot;
  readonly #fsync: boolean;
  readonly #known = new Set<string>();
  readonly #syncs = new Map<string, { running: Promise<void>; next: Promise<void> | null }>();

  constructor(root: FileRoot, fsync: boolean) {
    this.#root = root;
    this.#fsync = fsync;
  }

  /**
   * Makes `dir` and all above it durable, once per process: another process may have made them a moment ago and
   * be killed before its fsync, so that they exist proves nothing. Throws STORE_UNAVAILABLE where the store's own
   * directory is gone.
   */
  async ensure(dir: string): Promise<void> {
    if (this.#known.has(dir)) return;
    this.#root.make(dir);
    for (let at = dir; at !== this.#root.path && at.startsWith(this.#root.path); at = dirname(at)) {
      await this.sync(dirname(at));
    }
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.add(dir);
  }

  /** Somebody removed it. */
  forget(dir: string): void {
    this.#known.delete(dir);
  }

  /** Resolves after an fsync of `dir` that began after this call; callers that wait share the next one. */
  async sync(dir: string): Promise<void> {
    if (!this.#fsync) return;
    const found = this.#syncs.get(dir);
    if (!found) return this.#start(dir);
    const start = () => this.#start(dir);
    found.next ??= found.running.then(start, start);
    return found.next;
  }

  #start(dir: string): Promise<void> {
    const slot: { running: Promise<void>; next: Promise<void> | null } = {
      running: fsyncDirectory(dir).finally(() => {
        if (slot.next === null) this.#syncs.delete(dir);
      }),
      next: null,
    };
    this.#syncs.set(dir, slot);
    return slot.running;
  }
}

async function fsyncDirectory(dir: string): Promise<void> {
  const fd = openSync(dir, 'r');
  try {
    await fsyncAsync(fd);
  } finally {
    closeSync(fd);
  }
}
