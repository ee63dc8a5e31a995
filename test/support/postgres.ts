import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';
import { errorMessage } from '../../src/core/errors.ts';
import { freePort } from './binaries.ts';

const IMAGE = 'postgres:17-alpine';
const CONTAINER_MS_MAX = 60_000;
const START_MS_MAX = 30_000;
const run = promisify(execFile);

export interface PostgresServer {
  /** Of a superuser or owner, naming a database in which schemas may be created. */
  url: string;
  /** Where it came from, for people. */
  source: string;
  stop(): Promise<void>;
}

export interface PostgresForTest extends PostgresServer {
  /** A schema that no other test has. */
  freshSchema(): string;
}

/**
 * A real PostgreSQL for one test file, stopped when the file ends. Without one: the reason, or, where REQUIRE_PG=1
 * (CI), an error.
 */
export async function postgresForTest(): Promise<PostgresForTest | { skipped: string }> {
  let server: PostgresServer;
  try {
    server = await startPostgres();
  } catch (error) {
    if (process.env.REQUIRE_PG === '1') throw new Error(`REQUIRE_PG=1, but ${errorMessage(error)}`);
    console.warn(`Tests over PostgreSQL are skipped: ${errorMessage(error)}`);
    return { skipped: errorMessage(error) };
  }
  afterAll(() => server.stop());
  return { ...server, freshSchema: () => `t_${randomUUID().replaceAll('-', '')}` };
}

/** From the first of: RUNFOLD_PG_URL, the server's own binaries (Debian's folders or the PATH), a container. */
export async function startPostgres(): Promise<PostgresServer> {
  const given = process.env.RUNFOLD_PG_URL;
  if (given) return { url: given, source: 'RUNFOLD_PG_URL', stop: async () => {} };
  const problems: string[] = [];
  for (const source of [fromBinaries, inContainer]) {
    try {
      return await source();
    } catch (error) {
      problems.push(errorMessage(error));
    }
  }
  throw new Error(`no PostgreSQL: ${problems.join('; ')}`);
}

async function inContainer(): Promise<PostgresServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const starting = new GenericContainer(IMAGE)
    .withEnvironment({ POSTGRES_HOST_AUTH_METHOD: 'trust' })
    .withExposedPorts(5432)
    .withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    .start();
  const late = sleep(CONTAINER_MS_MAX, undefined, { ref: false }).then(() => {
    throw new Error('the container did not start in time');
  });
  const container = await Promise.race([starting, late]).catch((error) => {
    starting.then((tooLate) => tooLate.stop()).catch(() => {});
    throw error;
  });
  const url = `postgres://postgres@${container.getHost()}:${container.getMappedPort(5432)}/postgres`;
  return { url, source: `container ${IMAGE}`, stop: async () => void (await container.stop()) };
}

/** A cluster of its own in a temporary folder. The server refuses to run as root: then it runs as somebody else. */
async function fromBinaries(): Promise<PostgresServer> {
  const bin = binaries();
  if (bin === null)
    throw new Error('initdb and postgres are neither under /usr/lib/postgresql nor on the PATH');
  const as = await otherUser();
  const dir = mkdtempSync(join(tmpdir(), 'runfold-pg-'));
  const data = join(dir, 'data');
  const remove = () => rmSync(dir, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    await as.give(dir);
    const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'];
    await run(...as.command(join(bin, 'initdb'), init), { cwd: dir, timeout: START_MS_MAX });
    const port = await freePort();
    const settings = ['fsync=off', 'full_page_writes=off', 'max_connections=60', 'unix_socket_directories='];
    const flags = ['-D', data, '-h', '127.0.0.1', '-p', `${port}`, ...settings.flatMap((one) => ['-c', one])];
    const child = spawn(...as.command(join(bin, 'postgres'), flags), { cwd: dir, stdio: 'ignore' });
    const stop = stopping(child, dir);
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    await answering(child, url).catch(async (error) => {
      await stop();
      throw error;
    });
    return { url, source: join(bin, 'postgres'), stop };
  } catch (error) {
    remove();
    throw error;
  } finally {
    process.off('exit', remove);
  }
}

/** Debian keeps the server's binaries off the PATH, one folder per version: the newest. */
function binaries(): string | null {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => join(root, version, 'bin')),
    ...(process.env.PATH ?? '').split(delimiter),
  ];
  const complete = (folder: string) => ['initdb', 'postgres'].every((name) => existsSync(join(folder, name)));
  return folders.find((folder) => folder !== '' && complete(folder)) ?? null;
}

/** Root's commands run as `postgres`, or `nobody` where no such user is. */
async function otherUser() {
  if (process.getuid?.() !== 0) {
    return {
      give: async (_dir: string) => {},
      command: (name: string, args: string[]): [string, string[]] => [name, args],
    };
  }
  for (const user of ['postgres', 'nobody']) {
    const ids = await Promise.all(['-u', '-g'].map((flag) => run('id', [flag, user]))).catch(() => null);
    if (ids === null) continue;
    const [uid, gid] = ids.map(({ stdout }) => stdout.trim());
    const drop = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
    return {
      give: async (dir: string) => void (await run('chown', [`${uid}:${gid}`, dir])),
      command: (name: string, args: string[]): [string, string[]] => ['setpriv', [...drop, name, ...args]],
    };
  }
  throw new Error('this is root, and there is no user to run the server as');
}

/** An immediate shutdown: the cluster is thrown away. */
function stopping(child: ChildProcess, dir: string): () => Promise<void> {
  const quit = () => {
    child.kill('SIGQUIT');
    // It may still write while it ends, and nothing can be awaited any more.
    for (let attempt = 0; attempt < 20 && existsSync(dir); attempt++) {
      try {
        rmSync(dir, { recursive: true, force: true });
      } catch {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      }
    }
  };
  process.once('exit', quit);
  return async () => {
    process.off('exit', quit);
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGQUIT');
      await gone;
    }
    rmSync(dir, { recursive: true, force: true });
  };
}

async function answering(child: ChildProcess, url: string): Promise<void> {
  const { default: pg } = await import('pg');
  let failure: unknown = null;
  child.once('error', (error) => {
    failure = error;
  });
  for (const until = performance.now() + START_MS_MAX; performance.now() < until; await sleep(50)) {
    if (failure !== null) throw failure;
    if (child.exitCode !== null) throw new Error(`postgres ended with exit code ${child.exitCode}`);
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    try {
      await client.connect();
      return;
    } catch {
      // Not yet.
    } finally {
      await client.end().catch(() => {});
    }
  }
  throw new Error(`postgres did not answer within ${START_MS_MAX} ms`);
}
