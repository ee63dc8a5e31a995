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
 * Half a surrogate pair has no UTF-8 form. It becomes U+FFFD when a row is built, not when it is stored, so that
 * the row in memory and the row read back are the same.
 */
export function wellFormed(text: string): string {
  return LONE_SURROGATE.test(text) ? text.replace(LONE_SURROGATES, '\ufffd') : text;
}

const LONE_SURROGATE = /\p{Surrogate}/u;
const LONE_SURROGATES = /\p{Surrogate}/gu;
