import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestProject } from 'vitest/node';
import { errorMessage } from '../../src/core/errors.ts';
import { freePort, goTool } from './binaries.ts';

const VERSION = '1.56.1';
const BINARY = 'fake-gcs-server';

/** A pull that hangs must not eat the test run: after this the next source gets its turn. */
const CONTAINER_MS_MAX = 60_000;
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
  const given = process.env[GIVEN];
  if (given) return await running(given);
  const problems: string[] = [];
  for (const source of [inContainer, fromBinary]) {
    try {
      return await source();
    } catch (error) {
      problems.push(errorMessage(error));
    }
  }
  throw new Error(`no GCS emulator: ${problems.join('; ')}`);
}

const GIVEN = 'RUNFOLD_GCS_ENDPOINT';

/** Whether it is somebody's own, which goes on when we have ended. */
export function isGiven({ source }: Pick<Emulator, 'source'>): boolean {
  return source === GIVEN;
}

async function running(endpoint: string): Promise<Emulator> {
  await fetch(new URL('/storage/v1/b?project=test', endpoint), {
    signal: AbortSignal.timeout(HEALTHY_MS_MAX),
  });
  return { endpoint, source: GIVEN, stop: async () => {} };
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

async function fromBinary(): Promise<Emulator> {
  return await launch(
    await goTool({ name: BINARY, package: `github.com/fsouza/${BINARY}`, version: VERSION }),
  );
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
