import { hash } from 'node:crypto';

/**
 * An additive multiset hash over (run id, revision): two 64-bit sums of SHA-256 halves. Adding and removing in
 * any order gives the same value, so each manifest can prove that its state is the previous one plus what was
 * folded minus what was dropped (law 5). After MSet-Add-Hash (Clarke et al., ASIACRYPT 2003).
 */
export class StateHash {
  /** Each sum as two halves of 32 bits: a BigInt for each addition would cost as much as the SHA-256. */
  #highUpper = 0;
  #highLower = 0;
  #lowUpper = 0;
  #lowLower = 0;

  static empty(): StateHash {
    return new StateHash();
  }

  /** From `hex()`; 32 hexadecimal digits. */
  static parse(hex: string): StateHash {
    const part = (at: number) => Number.parseInt(hex.slice(at, at + 8), 16);
    return new StateHash().#plus(part(0), part(8), part(16), part(24));
  }

  add(runId: string, revision: number): this {
    return this.#addDigest(hash('sha256', `${runId}\n${revision}`, 'binary'));
  }

  /** As `add`, for the id whose UTF-8 lies in `bytes` from `start` to `end`: no string is made. */
  addUtf8(bytes: Uint8Array, start: number, end: number, revision: number): this {
    let digits = 1;
    for (let power = 10; revision >= power; power *= 10) digits++;
    const size = end - start + 1 + digits;
    // Ids are mostly of one length: making a view costs as much as filling it.
    if (message.length !== size) message = new Uint8Array(size);
    let at = 0;
    for (let i = start; i < end; i++) message[at++] = bytes[i]!;
    message[at] = 0x0a;
    for (let left = revision, i = size - 1; i > at; left = Math.floor(left / 10), i--)
      message[i] = 0x30 + (left % 10);
    return this.#addDigest(hash('sha256', message, 'binary'));
  }

  /** The hash of both multisets together. */
  plus(other: StateHash): StateHash {
    const sum = new StateHash().#plus(this.#highUpper, this.#highLower, this.#lowUpper, this.#lowLower);
    return sum.#plus(other.#highUpper, other.#highLower, other.#lowUpper, other.#lowLower);
  }

  minus(other: StateHash): StateHash {
    const negative = new StateHash();
    [negative.#highUpper, negative.#highLower] = negated(other.#highUpper, other.#highLower);
    [negative.#lowUpper, negative.#lowLower] = negated(other.#lowUpper, other.#lowLower);
    return this.plus(negative);
  }

  hex(): string {
    const words = [this.#highUpper, this.#highLower, this.#lowUpper, this.#lowLower];
    return words.map((part) => part.toString(16).padStart(8, '0')).join('');
  }

  /** As text, because asking for a Buffer takes three times as long. */
  #addDigest(digest: string): this {
    return this.#plus(word(digest, 0), word(digest, 4), word(digest, 8), word(digest, 12));
  }

  #plus(highUpper: number, highLower: number, lowUpper: number, lowLower: number): this {
    const high = this.#highLower + highLower;
    this.#highUpper = (this.#highUpper + highUpper + (high > WORD_MAX ? 1 : 0)) >>> 0;
    this.#highLower = high >>> 0;
    const low = this.#lowLower + lowLower;
    this.#lowUpper = (this.#lowUpper + lowUpper + (low > WORD_MAX ? 1 : 0)) >>> 0;
    this.#lowLower = low >>> 0;
    return this;
  }
}

/** Filled anew for each use. */
let message = new Uint8Array(0);

const WORD_MAX = 0xffff_ffff;

/** Four bytes of a digest in Latin-1, big-endian. */
function word(digest: string, at: number): number {
  const upper = (digest.charCodeAt(at) << 24) | (digest.charCodeAt(at + 1) << 16);
  return (upper | (digest.charCodeAt(at + 2) << 8) | digest.charCodeAt(at + 3)) >>> 0;
}

/** −x modulo 2^64. */
function negated(upper: number, lower: number): [upper: number, lower: number] {
  return [(~upper + (lower === 0 ? 1 : 0)) >>> 0, -lower >>> 0];
}
