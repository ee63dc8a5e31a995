import { hash } from 'node:crypto';

const MASK = (1n << 64n) - 1n;
const digest = Buffer.alloc(32);

/**
 * An additive multiset hash over (run id, revision): two 64-bit sums of SHA-256 halves. Adding and removing in
 * any order gives the same value, so each manifest can prove that its state is the previous one plus what was
 * folded minus what was dropped (law 5). After MSet-Add-Hash (Clarke et al., ASIACRYPT 2003).
 */
export class StateHash {
  #high: bigint;
  #low: bigint;

  private constructor(high: bigint, low: bigint) {
    this.#high = high;
    this.#low = low;
  }

  static empty(): StateHash {
    return new StateHash(0n, 0n);
  }

  /** From `hex()`; 32 hexadecimal digits. */
  static parse(hex: string): StateHash {
    return new StateHash(BigInt(`0x${hex.slice(0, 16)}`), BigInt(`0x${hex.slice(16)}`));
  }

  add(runId: string, revision: number): this {
    // As text, because asking for a Buffer takes three times as long.
    digest.write(hash('sha256', `${runId}\n${revision}`, 'binary'), 'latin1');
    this.#high = (this.#high + digest.readBigUInt64BE(0)) & MASK;
    this.#low = (this.#low + digest.readBigUInt64BE(8)) & MASK;
    return this;
  }

  /** The hash of both multisets together. */
  plus(other: StateHash): StateHash {
    return new StateHash((this.#high + other.#high) & MASK, (this.#low + other.#low) & MASK);
  }

  minus(other: StateHash): StateHash {
    return new StateHash((this.#high - other.#high) & MASK, (this.#low - other.#low) & MASK);
  }

  hex(): string {
    return this.#high.toString(16).padStart(16, '0') + this.#low.toString(16).padStart(16, '0');
  }
}
