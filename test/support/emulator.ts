import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { access, constants, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import { errorMessage } from '../../src/core/errors.ts';

const VERSION = '1.56.1';
const CACHE = new URL('../../.cache/', import.meta.url).pathname;
const BINARY = 'fake-gcs-server';

/** A pull that hangs must not eat the test run: after this the next source gets its turn. */
const CONTAINER_MS_MAX = 60_000;
const BUILD_MS_MAX = 8 * 60_000;
const HEALTHY_MS_MAX = 15_000;

export interface Emulator {
  endpoint: string;
  /** Where it came from, for people. */
  source: string;
  stop(): Promise<void>;
}

export type GcsProvided = { endpoint: string; source: string } | { endpoint: null; reason: string };

declare module 'vitest' {
  interface ProvidedContext {
    gcs: GcsProvided;
  }
}

/** Vitest global setup: one emulator per test run. Having none is a reason to skip (see gcs.ts), not an error. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  try {
    const emulator = await startEmulator();
    project.provide('gcs', { endpoint: emulator.endpoint, source: emulator.source });
    return () => emulator.stop();
  } catch (error) {
    console.warn(`Tests over Cloud Storage are skipped: ${errorMessage(error)}`);
    project.provide('gcs', { endpoint: null, reason: errorMessage(error) });
    return async () => {};
  }
}

/**
 * A Cloud Storage emulator, from the first of: RUNFOLD_GCS_ENDPOINT (one that runs already), a container,
 * `fake-gcs-server` on the PATH, the same built once by `go install` into `.cache/`. Rejects with why there is none.
 */
export async function startEmulator(): Promise<Emulator> {
  const given = process.env.RUNFOLD_GCS_ENDPOINT;
  if (given) return await running(given);
  const problems: string[] = [];
  for (const source of [inContainer, fromPath, fromGo]) {
    try {
      return await source();
    } catch (error) {
      problems.push(errorMessage(error));
    }
  }
  throw new Error(`no GCS emulator: ${problems.join('; ')}`);
}

async function running(endpoint: string): Promise<Emulator> {
  await fetch(new URL('/storage/v1/b?project=test', endpoint), {
    signal: AbortSignal.timeout(HEALTHY_MS_MAX),
  });
  return { endpoint, source: 'RUNFOLD_GCS_ENDPOINT', stop: async () => {} };
}

async function inContainer(): Promise<Emulator> {
  const { CloudStorageEmulatorContainer } = await import('@testcontainers/gcloud');
  const starting = new CloudStorageEmulatorContainer(`fsouza/${BINARY}:${VERSION}`).start();
  const late = AbortSignal.timeout(CONTAINER_MS_MAX);
  const container = await Promise.race([
    starting,
    new Promise<never>((_, reject) => {
      late.addEventListener('abort', () => reject(new Error('the container did not start in time')));
    }),
  ]).catch((error) => {
    starting.then((tooLate) => tooLate.stop()).catch(() => {});
    throw error;
  });
  return {
    endpoint: container.getEmulatorEndpoint(),
    source: `container fsouza/${BINARY}:${VERSION}`,
    stop: async () => void (await container.stop()),
  };
}

async function fromPath(): Promise<Emulator> {
  const binary = await onPath(BINARY);
  if (binary === null) throw new Error(`${BINARY} is not on the PATH`);
  return await launch(binary);
}

async function fromGo(): Promise<Emulator> {
  const folder = join(CACHE, `${BINARY}-v${VERSION}`);
  const binary = join(folder, BINARY);
  if (!(await executable(binary))) {
    if ((await onPath('go')) === null) throw new Error('go, to build it, is not on the PATH');
    await withLock(`${folder}.lock`, async () => {
      if (!(await executable(binary))) await build(folder);
    });
  }
  return await launch(binary);
}

/** Built aside and renamed, so that a build that was killed never looks like a finished one. */
async function build(folder: string): Promise<void> {
  const aside = `${folder}.${process.pid}`;
  await promisify(execFile)('go', ['install', `github.com/fsouza/${BINARY}@v${VERSION}`], {
    env: { ...process.env, GOBIN: aside, CGO_ENABLED: '0' },
    timeout: BUILD_MS_MAX,
  });
  await rename(aside, folder);
}

async function launch(binary: string): Promise<Emulator> {
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const flags = ['-scheme', 'http', '-host', '127.0.0.1', '-port', `${port}`, '-backend', 'memory'];
  const urls = ['-public-host', host, '-external-url', `http://${host}`, '-log-level', 'error'];
  const child = spawn(binary, [...flags, ...urls], { stdio: 'ignore' });
  const kill = () => void child.kill('SIGKILL'); // it holds nothing worth a graceful end
  process.once('exit', kill);
  const stop = async () => {
    process.off('exit', kill);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    kill();
    await gone;
  };
  try {
    await healthy(child, `http://${host}`);
  } catch (error) {
    await stop();
    throw error;
  }
  return { endpoint: `http://${host}`, source: binary, stop };
}

async function healthy(child: ChildProcess, endpoint: string): Promise<void> {
  let failure: unknown = null;
  child.once('error', (error) => {
    failure = error;
  });
  const until = performance.now() + HEALTHY_MS_MAX;
  while (performance.now() < until) {
    if (failure !== null) throw failure;
    if (child.exitCode !== null) throw new Error(`${BINARY} ended with exit code ${child.exitCode}`);
    const answer = await fetch(`${endpoint}/_internal/healthcheck`).catch(() => null);
    if (answer?.ok) return;
    await sleep(20);
  }
  throw new Error(`${BINARY} was not healthy within ${HEALTHY_MS_MAX} ms`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

/** Test runs side by side build once: the lock is a file with the holder's pid; a dead holder's lock is broken. */
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
