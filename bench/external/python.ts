import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { promisify } from 'node:util';

const ROOT = resolve(import.meta.dirname, '../..');
const VENV = '.cache/bench-python';
const PYTHON = join(ROOT, VENV, 'bin/python');

export const INSTALL = `python3 -m venv ${VENV} && ${VENV}/bin/pip install -r bench/external/requirements.txt`;

/** worker.py, which holds the rivals that are Python packages. */
export class PythonWorker {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#reader = createInterface({ input: child.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Rejects with how to install what is missing. */
  static async start(): Promise<PythonWorker> {
    const missing = `no Python environment with the packages: ${INSTALL}`;
    if (!existsSync(PYTHON)) throw new Error(missing);
    await promisify(execFile)(PYTHON, ['-c', 'import deltalake, slatedb, duckdb, fsspec, pyarrow']).catch(
      () => {
        throw new Error(missing);
      },
    );
    const script = join(import.meta.dirname, 'worker.py');
    return new PythonWorker(spawn(PYTHON, [script], { stdio: ['pipe', 'pipe', 'ignore'] }));
  }

  /** One command at a time. Rejects with what Python said. */
  async ask<T>(command: Record<string, unknown>): Promise<T> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`Python ended with ${this.#child.exitCode ?? this.#child.signalCode}`);
    const answer = JSON.parse(value) as { ok: T } | { error: string };
    if ('error' in answer) throw new Error(answer.error);
    return answer.ok;
  }

  async stop(): Promise<void> {
    this.#reader.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((done) => this.#child.once('exit', done));
    this.#child.kill('SIGKILL');
    await gone;
  }
}
