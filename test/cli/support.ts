import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
export const RUNFOLD = join(root, 'src/cli/main.ts');
export const COMPACTOR = join(root, 'compactor/main.ts');

/** Compiled code of the bins, so that the many processes of these tests start in half the time. */
const CACHE = join(root, '.cache/node-compile');

export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface SpawnOptions {
  env?: Record<string, string>;
  stdin?: string;
  /** Called with all output so far, whenever some came; may end the child. */
  onOutput?: (stdout: string, kill: (signal: NodeJS.Signals) => void) => void;
  /** The same of standard error. */
  onError?: (stderr: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs one of the bins as its users do: as a process of its own, without a terminal. */
export function run(bin: string, args: readonly string[], options: SpawnOptions = {}): Promise<Ran> {
  const { RUNFOLD_STORE: _, RUNFOLD_GCS_ENDPOINT: __, NODE_OPTIONS: ___, ...env } = process.env;
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: root,
      env: { ...env, NO_COLOR: '1', NODE_COMPILE_CACHE: CACHE, ...options.env },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      options.onOutput?.(stdout, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
      options.onError?.(stderr, (signal) => child.kill(signal));
    });
    child.on('error', failed);
    child.on('close', (code, signal) => done({ code, signal, stdout, stderr }));
    child.stdin.on('error', () => undefined).end(options.stdin ?? '');
  });
}

const dirs: string[] = [];
afterAll(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

/** A fresh folder, removed when the test file ends. */
export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'runfold-cli-'));
  dirs.push(dir);
  return dir;
}

/** `runfold` on one store. */
export function onStore(url: string) {
  return (...args: string[]) => run(RUNFOLD, [...args, '--store', url]);
}

export async function jsonOf(ran: Promise<Ran>): Promise<unknown> {
  const { code, stdout, stderr } = await ran;
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

export function writeEvents(path: string, events: readonly unknown[]): string {
  writeFileSync(path, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  return path;
}

interface EventOptions {
  type: string;
  run: number;
  at: string;
  job: string;
  inputs?: string[];
  outputs?: string[];
}

export function event({ type, run, at, job, inputs = [], outputs = [] }: EventOptions) {
  const named = (name: string) => ({ namespace: 'db', name });
  return {
    eventType: type,
    eventTime: at,
    producer: 'https://example.com/test',
    schemaURL: 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/definitions/RunEvent',
    run: { runId: `01900000-0000-7000-8000-00000000000${run}` },
    job: { namespace: 'etl', name: job },
    inputs: inputs.map(named),
    outputs: outputs.map(named),
  };
}

/** load: a → b (done twice, the second time it failed); clean: b → c (done); report: c → d (runs). */
export const EVENTS = [
  event({ type: 'START', run: 1, at: '2026-01-01T00:00:00Z', job: 'load', inputs: ['a'], outputs: ['b'] }),
  event({ type: 'COMPLETE', run: 1, at: '2026-01-01T00:01:00Z', job: 'load', inputs: ['a'], outputs: ['b'] }),
  event({ type: 'FAIL', run: 2, at: '2026-01-02T00:01:00Z', job: 'load', inputs: ['a'], outputs: ['b'] }),
  event({
    type: 'COMPLETE',
    run: 3,
    at: '2026-01-03T00:01:00Z',
    job: 'clean',
    inputs: ['b'],
    outputs: ['c'],
  }),
  event({ type: 'START', run: 4, at: '2026-01-04T00:00:00Z', job: 'report', inputs: ['c'], outputs: ['d'] }),
];
