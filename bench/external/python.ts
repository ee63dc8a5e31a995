import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { promisify } from 'node:util';
import { endWithUs } from '../support/end-with-us.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const VENV = '.cache/bench-python';
const PYTHON = join(ROOT, VENV, 'bin/python');
/** A refresh or a check: minutes mean that it hangs. */
const ASK_MS_MAX = 120_000;

export const INSTALL = `python3 -m venv ${VENV} && ${VENV}/bin/pip install -r bench/external/requirements.txt`;

/** What the last of stderr says that is told with an error. */
const SAID_MAX = 300;

interface Running {
  child: ChildProcess;
  reader: Interface;
  lines: AsyncIterator<string>;
  /** The end of what it wrote on stderr. */
  said: string;
}

/** worker.py, which holds the rivals that are Python packages. One that ended is started anew: it keeps nothing. */
export class PythonWorker {
  #running: Running | null = null;

  private constructor() {}

  /** Rejects with how to install what is missing. */
  static async start(): Promise<PythonWorker> {
    const missing = `no Python environment with the packages: ${INSTALL}`;
    if (!existsSync(PYTHON)) throw new Error(missing);
    await promisify(execFile)(PYTHON, ['-c', 'import deltalake, slatedb, duckdb, fsspec, pyarrow']).catch(
      () => {
        throw new Error(missing);
      },
    );
    return new PythonWorker();
  }

  /** One command at a time. Rejects with what Python said, or when it has said nothing for `msMax`, and is ended then. */
  async ask<T>(command: Record<string, unknown>, msMax = ASK_MS_MAX): Promise<T> {
    this.#running ??= started();
    const running = this.#running;
    let late: NodeJS.Timeout | undefined;
    try {
      running.child.stdin!.write(`${JSON.stringify(command)}\n`);
      const { value, done } = await Promise.race([
        running.lines.next(),
        new Promise<never>((_, reject) => {
          late = setTimeout(
            () => reject(new Error(`Python did not answer within ${msMax / 1_000} s${said(running)}`)),
            msMax,
          );
        }),
      ]);
      if (done === true) {
        const { exitCode, signalCode } = running.child;
        throw new Error(`Python ended with ${exitCode ?? signalCode ?? 'no answer'}${said(running)}`);
      }
      const answer = JSON.parse(value) as { ok: T } | { error: string };
      if ('ok' in answer) return answer.ok;
      throw new PythonError(answer.error);
    } catch (error) {
      // What has not answered may answer the next question with this one's answer.
      if (!(error instanceof PythonError)) await this.stop();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    if (running === null) return;
    const { child, reader } = running;
    reader.close();
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  }
}

/** What a command said, which leaves Python as it was. */
class PythonError extends Error {}

function started(): Running {
  const script = join(import.meta.dirname, 'worker.py');
  const child = endWithUs(spawn(PYTHON, [script], { stdio: ['pipe', 'pipe', 'pipe'] }));
  const reader = createInterface({ input: child.stdout! });
  const running: Running = { child, reader, lines: reader[Symbol.asyncIterator](), said: '' };
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    running.said = (running.said + text).slice(-SAID_MAX);
  });
  // Writing to one that has ended: its end is told by `ask`.
  child.stdin!.on('error', () => undefined);
  return running;
}

function said({ said }: Running): string {
  return said.trim() === '' ? '' : `: ${said.trim().replaceAll(/\s+/g, ' ')}`;
}
