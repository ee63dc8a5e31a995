import type { Dataset } from '../runs/run.ts';

/** A list of tables as one text: `[["namespace","name"],…]`. Equal lists give equal texts. */
export function formatDatasets(datasets: readonly Dataset[]): string {
  if (datasets.length === 0) return '[]';
  return JSON.stringify(datasets.map(({ namespace, name }) => [wellFormed(namespace), wellFormed(name)]));
}

/** Frozen, because callers share it. Throws SyntaxError or TypeError where the text is no list of tables. */
export function parseDatasets(text: string): readonly Dataset[] {
  const pairs: unknown = JSON.parse(text);
  if (!Array.isArray(pairs)) throw new TypeError('not a list of tables');
  const datasets = pairs.map((pair: unknown) => {
    if (!Array.isArray(pair) || pair.length !== 2) throw new TypeError('not a [namespace, name] pair');
    const [namespace, name] = pair as unknown[];
    if (typeof namespace !== 'string' || typeof name !== 'string') throw new TypeError('not a table name');
    return Object.freeze({ namespace, name });
  });
  return Object.freeze(datasets);
}

/**
 * Reads lists of tables from ASCII in which nothing is escaped, as `formatDatasets` makes of most names: the same as
 * `parseDatasets` of the text, in a third of the time, and namespaces that come again are one string.
 */
export class DatasetScanner {
  readonly #bytes: Buffer;
  /** Those that came last. */
  readonly #namespaces: string[] = [];

  constructor(ascii: Uint8Array) {
    this.#bytes = Buffer.from(ascii.buffer, ascii.byteOffset, ascii.length);
  }

  /** The list from `start` to `end`; null where it is written in another way, or is none. */
  scan(start: number, end: number): readonly Dataset[] | null {
    if (end - start === 2 && this.#isAt('[]', start, end)) return NO_DATASETS;
    if (!this.#isAt('[["', start, end)) return null;
    const datasets: Dataset[] = [];
    for (let from = start + 3; ; ) {
      const to = this.#quote(from, end);
      if (to < 0 || !this.#isAt('","', to, end)) return null;
      const nameEnd = this.#quote(to + 3, end);
      if (nameEnd < 0) return null;
      const name = this.#bytes.toString('latin1', to + 3, nameEnd);
      datasets.push(Object.freeze({ namespace: this.#namespace(from, to), name }));
      if (!this.#isAt('"],["', nameEnd, end)) {
        return nameEnd + 3 === end && this.#isAt('"]]', nameEnd, end) ? Object.freeze(datasets) : null;
      }
      from = nameEnd + 5;
    }
  }

  /** Where the text that began ends; −1 where it does not, or holds what JSON writes in another way. */
  #quote(from: number, end: number): number {
    const bytes = this.#bytes;
    for (let at = from; at < end; at++) {
      const byte = bytes[at]!;
      if (byte === QUOTE) return at;
      if (byte === BACKSLASH || byte < SPACE) return -1;
    }
    return -1;
  }

  #isAt(ascii: string, at: number, end: number): boolean {
    if (at + ascii.length > end) return false;
    for (let k = 0; k < ascii.length; k++) if (this.#bytes[at + k] !== ascii.charCodeAt(k)) return false;
    return true;
  }

  #namespace(from: number, to: number): string {
    for (const known of this.#namespaces) {
      let k = to - from === known.length ? known.length - 1 : -2;
      while (k >= 0 && known.charCodeAt(k) === this.#bytes[from + k]) k--;
      if (k === -1) return known;
    }
    const namespace = this.#bytes.toString('latin1', from, to);
    if (this.#namespaces.length === NAMESPACES_KEPT) this.#namespaces.shift();
    this.#namespaces.push(namespace);
    return namespace;
  }
}

const [QUOTE, BACKSLASH, SPACE] = [0x22, 0x5c, 0x20];
const NAMESPACES_KEPT = 16;
const NO_DATASETS: readonly Dataset[] = Object.freeze([]);

/**
 * Half a surrogate pair has no UTF-8 form. It becomes U+FFFD when a row is built, not when it is stored, so that
 * the row in memory and the row read back are the same.
 */
export function wellFormed(text: string): string {
  return LONE_SURROGATE.test(text) ? text.replace(LONE_SURROGATES, '\ufffd') : text;
}

const LONE_SURROGATE = /\p{Surrogate}/u;
const LONE_SURROGATES = /\p{Surrogate}/gu;
