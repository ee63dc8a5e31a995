import { crc32c } from '../../src/core/crc32c.ts';

const KEPT = 14;

/** The history of one simulation, as a hash of all of it and the last lines of every actor. */
export class Trace {
  #hash = 0;
  #lines = 0;
  readonly #last = new Map<string, string[]>();

  add(time: number, actor: string, what: string): void {
    const line = `${(time / 1000).toFixed(3)}s ${what}`;
    this.#hash = crc32c(Buffer.from(`${this.#hash} ${actor} ${line}`));
    this.#lines++;
    const lines = this.#last.get(actor) ?? [];
    this.#last.set(actor, lines);
    lines.push(line);
    if (lines.length > KEPT) lines.shift();
  }

  /** Equal for equal histories. */
  get hash(): string {
    return `${this.#lines.toString(36)}-${(this.#hash >>> 0).toString(16).padStart(8, '0')}`;
  }

  /** The last events of each actor, the newest actors last. */
  tail(): string {
    return [...this.#last.entries()]
      .map(([actor, lines]) => `${actor}\n${lines.map((line) => `    ${line}`).join('\n')}`)
      .join('\n');
  }
}
