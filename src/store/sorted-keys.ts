const CHUNK_MAX = 1024;

/**
 * A set of strings in order, in chunks: an insert moves at most one chunk, so that a million keys can change between
 * two listings without sorting them again.
 */
export class SortedKeys {
  /** None is empty, but for the first of an empty set. */
  readonly #chunks: string[][] = [[]];

  /** `key` must not be there. */
  add(key: string): void {
    const at = this.#chunkOf(key);
    const chunk = this.#chunks[at]!;
    chunk.splice(lowerBound(chunk, key), 0, key);
    if (chunk.length <= CHUNK_MAX) return;
    // Keys often come in order: then the front stays full.
    const isLast = at === this.#chunks.length - 1;
    this.#chunks.splice(at + 1, 0, chunk.splice(isLast ? CHUNK_MAX : CHUNK_MAX >>> 1));
  }

  delete(key: string): void {
    const at = this.#chunkOf(key);
    const chunk = this.#chunks[at]!;
    const i = lowerBound(chunk, key);
    if (chunk[i] !== key) return;
    chunk.splice(i, 1);
    if (chunk.length === 0 && this.#chunks.length > 1) this.#chunks.splice(at, 1);
  }

  /** Keys that are not before `from`, in order. Do not change the set meanwhile. */
  *from(from: string): Generator<string, void, void> {
    let at = this.#chunkOf(from);
    let i = lowerBound(this.#chunks[at]!, from);
    for (; at < this.#chunks.length; at++, i = 0) {
      const chunk = this.#chunks[at]!;
      for (; i < chunk.length; i++) yield chunk[i]!;
    }
  }

  /** The last chunk that begins at or before `key`. */
  #chunkOf(key: string): number {
    let low = 0;
    let high = this.#chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#chunks[middle]![0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

function lowerBound(keys: readonly string[], from: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < from) low = middle + 1;
    else high = middle;
  }
  return low;
}
