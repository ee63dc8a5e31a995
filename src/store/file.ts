import { accessSync, closeSync, existsSync, mkdirSync, read, statSync, unlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Clock, systemClock, throwIfAborted } from '../core/clock.ts';
import { CorruptError, FormatError, InputError } from '../core/errors.ts';
import { defaultLimits } from '../core/limits.ts';
import { Directories } from './file-directories.ts';
import { checkMetadata, failed, inDoubt, isErrno } from './file-errors.ts';
import { openObject, readMeta } from './file-frame.ts';
import { checkKey, directoryOf, PRIVATE_DIR } from './file-keys.ts';
import { FileTree } from './file-list.ts';
import { FileRoot, removedMeanwhile } from './file-root.ts';
import { removeLeftovers } from './file-staging.ts';
import { FileWriter, holds } from './file-writer.ts';
import {
  type CallOptions,
  type Capabilities,
  type DeleteOptions,
  type DeleteOutcome,
  type GetOptions,
  type GetOutcome,
  LIST_PAGE_MAX,
  type ListOptions,
  type ListPage,
  type ObjectMeta,
  type ObjectStore,
  type PutOptions,
  type PutOutcome,
} from './object-store.ts';

export interface FileStoreOptions {
  /** The server's clock. All processes on one store must share it, as processes of one host do. */
  clock?: Clock;
  /** `false` leaves durability to the operating system: for tests and demos. Default true. */
  fsync?: boolean;
  /** `false`: what is missing is not made, the directory least of all. Default true. */
  create?: boolean;
  /** How long a replace or delete waits for another process that holds the lock. */
  lockWaitMsMax?: number;
}

/** The generation by which `list` shows an object whose header cannot be believed. */
export const CORRUPT_GENERATION = 'corrupt';

/** Headers read, or calls answered, before other work of the process gets its turn: a few milliseconds. */
const BURST = 128;

const readAsync = promisify(read);

/**
 * Opens the store in `dir`, and makes the directory where it is missing, unless `create` is false. Removes unfinished
 * files older than an hour. A directory that may only be read opens too: reads work, writes are STORE_DENIED.
 * Throws InputError when `dir` is a file, or missing and not to be made; StoreError when it can be neither read nor
 * made.
 */
export async function openFileStore(dir: string, options: FileStoreOptions = {}): Promise<FileStore> {
  const root = resolve(dir);
  const create = options.create ?? true;
  const found = statSync(root, { throwIfNoEntry: false });
  if (found && !found.isDirectory()) throw new InputError(`${root} is not a directory.`);
  if (!found && !create && isMissing(root)) {
    throw new InputError(`There is no store at ${root}.`, {
      hint: 'Check --store; `runfold import` makes one.',
      details: { missing: root },
    });
  }
  const { home, made } = homeAt(root, found !== undefined);
  const directories = new Directories(home, options.fsync ?? true);
  const leftovers = join(root, PRIVATE_DIR, 'tmp');
  if (!create && !existsSync(leftovers)) return new FileStore(home, directories, options);
  try {
    for (let at = root; made !== undefined && at !== dirname(made); at = dirname(at)) {
      await directories.sync(dirname(at));
    }
    await directories.ensure(leftovers);
    removeLeftovers(leftovers);
  } catch (error) {
    if (!found || !isErrno(error, 'EACCES', 'EPERM', 'EROFS')) throw failed('open', root, error);
  }
  return new FileStore(home, directories, options);
}

/** The only place that makes the directory: while a store is open nobody does (file-root.ts). */
function homeAt(root: string, exists: boolean): { home: FileRoot; made: string | undefined } {
  try {
    const made = exists ? undefined : mkdirSync(root, { recursive: true });
    return { home: new FileRoot(root), made };
  } catch (error) {
    throw failed('open', root, error);
  }
}

/** Not merely out of reach: behind a file, or behind a directory that may not be entered. */
function isMissing(root: string): boolean {
  try {
    accessSync(root);
    return false;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true;
    throw failed('open', root, error);
  }
}

/**
 * Objects as files below one directory of a local file system, for any number of processes on one host. Survives
 * `kill -9` at any instant, and power loss after a write has returned.
 *
 * A write goes to a file of its own under `.runfold/tmp`, is fsynced, and then takes its name in one step:
 * - *create* by link(2), which the kernel refuses when the name exists. It takes no lock, and needs none: a name
 *   that exists is only ever removed under the lock, by a delete whose instant is its unlink. A create is before
 *   it (conflict) or after it (written), and nothing the lock holder does between check and unlink or rename can
 *   make it both, because while the name exists no create succeeds.
 * - *replace* and *delete* under the lock of the key's directory: compare the generation, then rename(2) or
 *   unlink(2). The name exists from the check on (see above), so that nobody without the lock can change what was
 *   compared. A replace of whatever is there takes the lock too, or it could slip between another's check and
 *   rename and be lost.
 * Then the directory is fsynced and the write returns. Others may see it a moment earlier.
 *
 * Gets take no lock and never see half an object: an opened file keeps its bytes whatever happens to its name.
 * Lists take a directory's lock while they read it, but only on file systems that need it (see file-list.ts).
 *
 * The directory itself is made when the store is opened and never again: once it is gone, or another one lies in its
 * place (a volume that was unmounted), every call that would find nothing or make something is STORE_UNAVAILABLE.
 *
 * Not possible here: a key beside keys that continue it after a slash (`a` and `a/b`), also when those are deleted,
 * as empty directories stay. Not for network file systems.
 */
export class FileStore implements ObjectStore {
  readonly url: string;
  readonly capabilities: Capabilities = {
    listMetadata: true,
    metadataBytesMax: 8 * 1024,
    conditionalGet: true,
    conditionalDelete: true,
  };
  readonly #root: FileRoot;
  readonly #tmp: string;
  readonly #clock: Clock;
  readonly #directories: Directories;
  readonly #writer: FileWriter;
  readonly #tree: FileTree;
  #calls = 0;

  /** Use `openFileStore`. */
  constructor(root: FileRoot, directories: Directories, options: FileStoreOptions) {
    this.url = `file:${root.path}`;
    this.#root = root;
    this.#tmp = join(root.path, PRIVATE_DIR, 'tmp');
    this.#clock = options.clock ?? systemClock;
    this.#directories = directories;
    this.#writer = new FileWriter({
      root,
      stagingDir: this.#tmp,
      locksDir: join(root.path, PRIVATE_DIR, 'locks'),
      clock: this.#clock,
      fsync: options.fsync ?? true,
      lockWaitMsMax: options.lockWaitMsMax ?? defaultLimits.requestDeadlineMs,
    });
    this.#tree = new FileTree(root.path, (dir, signal, read) => this.#writer.locked(dir, signal, read));
  }

  /**
   * About 20 µs and no thread where the object has less than 64 KiB. The body is not compared with `meta.crc32c`
   * (see verified.ts). Throws CorruptError when the header or the length is wrong, and STORE_UNAVAILABLE where the
   * directory of the store is gone.
   */
  async get(key: string, options: GetOptions = {}): Promise<GetOutcome> {
    await this.#turn(options.signal);
    const path = this.#path(key);
    const serverTime = this.#clock.now();
    const opened = openObject(path, key, options.range === undefined);
    if (opened === null) {
      this.#root.check();
      return { outcome: 'absent', serverTime };
    }
    const { meta, bodyStart, bodyHead, fd } = opened;
    try {
      if (options.ifGenerationNot === meta.generation) return { outcome: 'unchanged', serverTime };
      const start = Math.min(options.range?.start ?? 0, meta.sizeBytes);
      const end = Math.min(options.range?.end ?? meta.sizeBytes, meta.sizeBytes);
      const body = new Uint8Array(Math.max(0, end - start));
      const head = bodyHead.subarray(start, Math.max(start, end));
      body.set(head);
      let done = head.length;
      while (done < body.length) {
        throwIfAborted(options.signal);
        const { bytesRead } = await readAsync(fd, body, done, body.length - done, bodyStart + start + done);
        if (bytesRead === 0) throw new CorruptError(key, 'its file ends early');
        done += bytesRead;
      }
      return { outcome: 'found', meta, body, serverTime };
    } catch (error) {
      throw failed('read', key, error);
    } finally {
      closeSync(fd);
    }
  }

  /** Throws as `get` does. */
  async head(key: string, options: CallOptions = {}): Promise<ObjectMeta | null> {
    await this.#turn(options.signal);
    const meta = readMeta(this.#path(key), key);
    if (meta === null) this.#root.check();
    return meta;
  }

  /**
   * Two fsyncs, of the file and of its directory; parallel writes to one directory share the second. A conflict
   * that can be seen beforehand costs none. Throws StoreError (nothing was written) when the disk refuses, the
   * metadata is too large, or the lock stays with another process; CorruptError when the generation to replace
   * cannot be read. A put without a precondition replaces a corrupt object.
   */
  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutOutcome> {
    await this.#turn(options.signal);
    const path = this.#path(key);
    checkMetadata(key, options.metadata, this.capabilities.metadataBytesMax);
    let meta: ObjectMeta | null;
    try {
      if (!holds(path, key, options.ifGeneration)) {
        this.#root.check();
        return { outcome: 'conflict' };
      }
      await this.#directories.ensure(this.#tmp);
      await this.#directories.ensure(dirname(path));
      meta = await this.#writer.write(key, path, body, options);
    } catch (error) {
      if (inDoubt(error)) return { outcome: 'unknown', cause: failed('write', key, error) };
      if (!isErrno(error, 'ENOENT')) throw failed('write', key, error);
      for (const dir of [this.#tmp, dirname(path)]) this.#directories.forget(dir);
      this.#root.check();
      throw removedMeanwhile(key, error);
    }
    if (meta === null) return { outcome: 'conflict' };
    return (await this.#settle(key, path)) ?? { outcome: 'written', meta };
  }

  /** One fsync. Throws as `put` does; a corrupt object is never deleted. */
  async delete(key: string, options: DeleteOptions): Promise<DeleteOutcome> {
    await this.#turn(options.signal);
    const path = this.#path(key);
    const check = () => {
      const found = readMeta(path, key);
      if (found === null) return 'absent';
      return found.generation === options.ifGeneration ? null : 'conflict';
    };
    let outcome: 'absent' | 'conflict' | 'deleted' | null = check();
    if (outcome === 'absent') this.#root.check();
    if (outcome !== null) return { outcome };
    try {
      outcome = await this.#writer.locked(directoryOf(key), options.signal, () => {
        const refused = check();
        if (refused === null) unlinkSync(path);
        return refused ?? 'deleted';
      });
    } catch (error) {
      if (inDoubt(error)) return { outcome: 'unknown', cause: failed('delete', key, error) };
      throw failed('delete', key, error);
    }
    if (outcome !== 'deleted') return { outcome };
    return (await this.#settle(key, path)) ?? { outcome };
  }

  /**
   * Reads the directories in range and one header per item: about 10 µs each. Each page of a directory with
   * 100 000 names costs another 70 ms while that directory is being written to. An object with a broken header is
   * listed, so that one of them does not hide the others: by generation `corrupt`, with size and createdAt 0 and
   * crc32c −1, which no good object has. Getting it throws. Files that no write of ours made are corrupt objects,
   * unless their name cannot be a key. A page token holds whatever happens to the objects that it came from.
   */
  async list(options: ListOptions): Promise<ListPage> {
    await this.#turn(options.signal);
    const serverTime = this.#clock.now();
    const pageMax = Math.max(1, Math.min(options.limit ?? LIST_PAGE_MAX, LIST_PAGE_MAX));
    const found = await this.#tree.find(options, pageMax + 1);
    if (found.length === 0) this.#root.check();
    const page = found.slice(0, pageMax);
    const next = found.length > pageMax ? page.at(-1)!.resume : null;
    const items: ObjectMeta[] = [];
    const prefixes: string[] = [];
    for (const [i, { kind, key }] of page.entries()) {
      if (i % BURST === BURST - 1) {
        await setImmediate();
        throwIfAborted(options.signal);
      }
      if (kind === 'prefix') prefixes.push(key);
      else {
        const meta = listedMeta(this.#path(key), key);
        if (meta !== null) items.push(meta);
      }
    }
    return { items, prefixes, next, serverTime };
  }

  async close(): Promise<void> {
    this.#writer.close();
  }

  /**
   * Small calls finish without a trip through the event loop. A caller that makes one after the other would keep
   * timers, signals and everybody else waiting for as long as it goes on.
   */
  async #turn(signal: AbortSignal | undefined): Promise<void> {
    if (++this.#calls % BURST === 0) await setImmediate();
    throwIfAborted(signal);
  }

  #path(key: string): string {
    checkKey(key);
    return join(this.#root.path, key);
  }

  /** What is left after the name has changed: from here on a failure cannot undo it. */
  async #settle(key: string, path: string): Promise<{ outcome: 'unknown'; cause: unknown } | null> {
    try {
      await this.#directories.sync(dirname(path));
      return null;
    } catch (error) {
      return { outcome: 'unknown', cause: failed('make durable', key, error) };
    }
  }
}

function listedMeta(path: string, key: string): ObjectMeta | null {
  try {
    return readMeta(path, key);
  } catch (error) {
    if (!(error instanceof CorruptError || error instanceof FormatError)) throw error;
    return { key, generation: CORRUPT_GENERATION, sizeBytes: 0, crc32c: -1, createdAt: 0, metadata: {} };
  }
}
