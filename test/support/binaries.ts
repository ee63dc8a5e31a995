import { execFile } from 'node:child_process';
import { access, constants, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const CACHE = new URL('../../.cache/', import.meta.url).pathname;
const BUILD_MS_MAX = 8 * 60_000;

export interface GoTool {
  /** Of the binary, on the PATH and in the cache. */
  name: string;
  /** What `go install` is given, without the version. */
  package: string;
  version: string;
}

/** The tool's path: from the PATH, or built once by `go install` into `.cache/`. Rejects with why there is none. */
export async function goTool(tool: GoTool): Promise<string> {
  const { name, version } = tool;
  const found = await onPath(name);
  if (found !== null) return found;
  const folder = join(CACHE, `${name}-v${version}`);
  const binary = join(folder, name);
  if (await executable(binary)) return binary;
  if ((await onPath('go')) === null) {
    throw new Error(`neither ${name} nor go, to build it, is on the PATH`);
  }
  await withLock(`${folder}.lock`, async () => {
    if (!(await executable(binary))) await build(tool, folder);
  });
  return binary;
}

/** Built aside and renamed, so that a build that was killed never looks like a finished one. */
async function build({ name, package: path, version }: GoTool, folder: string): Promise<void> {
  const aside = `${folder}.${process.pid}`;
  await promisify(execFile)('go', ['install', `${path}@v${version}`], {
    env: { ...process.env, GOBIN: aside, CGO_ENABLED: '0' },
    timeout: BUILD_MS_MAX,
  });
  // Go names a binary by its folder, which may be `server`.
  const built = join(aside, path.split('/').at(-1)!);
  if (built !== join(aside, name)) await rename(built, join(aside, name));
  await rename(aside, folder);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

/** Processes side by side build once: the lock is a file with the holder's pid; a dead holder's lock is broken. */
async function withLock(path: string, task: () => Promise<void>): Promise<void> {
  await mkdir(CACHE, { recursive: true });
  const until = performance.now() + BUILD_MS_MAX;
  for (;;) {
    const lock = await open(path, 'wx').catch(() => null);
    if (lock) {
      try {
        await lock.writeFile(String(process.pid));
        return await task();
      } finally {
        await lock.close();
        await rm(path, { force: true });
      }
    }
    if (performance.now() > until) throw new Error(`${path} is held by another build for too long`);
    await sleep(200);
    const holder = Number(await readFile(path, 'utf8').catch(() => ''));
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function onPath(name: string): Promise<string | null> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder !== '' && (await executable(join(folder, name)))) return join(folder, name);
  }
  return null;
}

async function executable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
