import { TextVector } from './vectors.ts';

/**
 * Texts that are all UUIDs in their canonical form (lowercase, with dashes), as run ids mostly are: 16 bytes each
 * instead of 36 and an offset. In memory only; parts hold the texts. Whoever asks for the bytes of the texts, as
 * writers do, gets them made, and they are kept for as long as somebody uses them.
 */
export class UuidVector extends TextVector {
  /** Four per row, the most significant first: their order is that of the texts. */
  readonly words: Uint32Array;
  #texts: WeakRef<TextVector> | null = null;

  constructor(words: Uint32Array) {
    super();
    this.words = words;
  }

  /** Null where some text is something else. `bytes` are the texts, end to end. */
  static of(bytes: Uint8Array, length: number): UuidVector | null {
    if (length === 0 || bytes.length !== length * UUID_BYTES) return null;
    const words = new Uint32Array(length * 4);
    for (let i = 0; i < length; i++) {
      if (!readUuid(bytes, i * UUID_BYTES, words, i * 4)) return null;
    }
    return new UuidVector(words);
  }

  pick(rows: Uint32Array): UuidVector {
    const words = new Uint32Array(rows.length * 4);
    for (let k = 0; k < words.length; k++) words[k] = this.words[rows[k >> 2]! * 4 + (k & 3)]!;
    return new UuidVector(words);
  }

  override get length(): number {
    return this.words.length / 4;
  }

  override get bytes(): Uint8Array {
    return this.#asTexts().bytes;
  }

  override get offsets(): Int32Array {
    return this.#asTexts().offsets;
  }

  override start(i: number): number {
    return i * UUID_BYTES;
  }

  override at(i: number): string | null {
    writeUuid(this.words, i * 4, scratch, 0);
    return scratch.toString('latin1');
  }

  override isNull(_i: number): boolean {
    return false;
  }

  override presence(start = 0, end = this.length): Uint8Array {
    return new Uint8Array(end - start).fill(1);
  }

  override get sizeBytes(): number {
    return this.words.byteLength;
  }

  #asTexts(): TextVector {
    const known = this.#texts?.deref();
    if (known !== undefined) return known;
    const { words, length } = this;
    const bytes = new Uint8Array(length * UUID_BYTES);
    const offsets = new Int32Array(length + 1);
    for (let i = 0; i < length; i++) {
      offsets[i] = i * UUID_BYTES;
      writeUuid(words, i * 4, bytes, i * UUID_BYTES);
    }
    offsets[length] = bytes.length;
    const texts = new TextVector(bytes, offsets);
    this.#texts = new WeakRef(texts);
    return texts;
  }
}

/** Of the canonical text. */
export const UUID_BYTES = 36;

const DASH = 0x2d;
const scratch = Buffer.alloc(UUID_BYTES);

/** By byte: the value of the hexadecimal digit, −1 for any other byte. */
const VALUES = Int8Array.from({ length: 256 }, (_, byte) =>
  '0123456789abcdef'.indexOf(String.fromCharCode(byte)),
);
const DIGITS = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0));

/** The four words of the canonical text at `at`; false where another text lies there. */
export function readUuid(bytes: Uint8Array, at: number, words: Uint32Array, to: number): boolean {
  const a = fourDigits(bytes, at);
  const b = fourDigits(bytes, at + 4);
  const c = fourDigits(bytes, at + 9);
  const d = fourDigits(bytes, at + 14);
  const e = fourDigits(bytes, at + 19);
  const f = fourDigits(bytes, at + 24);
  const g = fourDigits(bytes, at + 28);
  const h = fourDigits(bytes, at + 32);
  words[to] = (a << 16) | b;
  words[to + 1] = (c << 16) | d;
  words[to + 2] = (e << 16) | f;
  words[to + 3] = (g << 16) | h;
  return (
    (a | b | c | d | e | f | g | h) >= 0 &&
    bytes[at + 8] === DASH &&
    bytes[at + 13] === DASH &&
    bytes[at + 18] === DASH &&
    bytes[at + 23] === DASH
  );
}

/** Negative where one of them is none. */
function fourDigits(bytes: Uint8Array, at: number): number {
  return (
    (VALUES[bytes[at]!]! << 12) |
    (VALUES[bytes[at + 1]!]! << 8) |
    (VALUES[bytes[at + 2]!]! << 4) |
    VALUES[bytes[at + 3]!]!
  );
}

function writeUuid(words: Uint32Array, from: number, bytes: Uint8Array, at: number): void {
  const [b, c] = [words[from + 1]!, words[from + 2]!];
  writeFour(words[from]! >>> 16, bytes, at);
  writeFour(words[from]!, bytes, at + 4);
  bytes[at + 8] = DASH;
  writeFour(b >>> 16, bytes, at + 9);
  bytes[at + 13] = DASH;
  writeFour(b, bytes, at + 14);
  bytes[at + 18] = DASH;
  writeFour(c >>> 16, bytes, at + 19);
  bytes[at + 23] = DASH;
  writeFour(c, bytes, at + 24);
  writeFour(words[from + 3]! >>> 16, bytes, at + 28);
  writeFour(words[from + 3]!, bytes, at + 32);
}

/** The lower 16 bits. */
function writeFour(value: number, bytes: Uint8Array, at: number): void {
  bytes[at] = DIGITS[(value >>> 12) & 15]!;
  bytes[at + 1] = DIGITS[(value >>> 8) & 15]!;
  bytes[at + 2] = DIGITS[(value >>> 4) & 15]!;
  bytes[at + 3] = DIGITS[value & 15]!;
}
