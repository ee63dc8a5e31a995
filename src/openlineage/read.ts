/** One JSON value of a file, or why there is none. `line` counts from 1: where the value begins. */
export type SourceEvent =
  | { readonly file: string; readonly line: number; readonly json: unknown }
  | { readonly file: string; readonly line: number; readonly error: string };

/** Bytes of one event; Spark's logical plans make events of megabytes. A longer one is skipped, not buffered. */
export const EVENT_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Splits the bytes of one file into JSON values: one per line (NDJSON), or the elements of one array, told apart by
 * the first byte that is not blank. Streams: memory is one event, however long the file, in either form. A broken
 * line or element is reported where it begins and the rest goes on. Byte order marks and blank lines are skipped.
 */
export async function* readJson(
  file: string,
  chunks: AsyncIterable<Uint8Array>,
  eventBytesMax: number = EVENT_BYTES_MAX,
): AsyncGenerator<SourceEvent> {
  const splitter = new Splitter(eventBytesMax);
  for await (const chunk of chunks) {
    for (const piece of splitter.push(chunk)) yield* parse(file, piece, eventBytesMax);
  }
  for (const piece of splitter.end()) yield* parse(file, piece, eventBytesMax);
}

type Piece =
  | { line: number; bytes: Uint8Array }
  | { line: number; tooLong: true }
  | { line: number; error: string };

const decoder = new TextDecoder('utf-8', { fatal: true });

function* parse(file: string, piece: Piece, eventBytesMax: number): Generator<SourceEvent> {
  const { line } = piece;
  if ('error' in piece) return yield { file, line, error: piece.error };
  if ('tooLong' in piece)
    return yield { file, line, error: `the event is longer than ${eventBytesMax} bytes` };
  let text: string;
  try {
    text = decoder.decode(piece.bytes);
  } catch {
    return yield { file, line, error: 'it is not UTF-8' };
  }
  if (text.trim() === '') return;
  try {
    yield { file, line, json: JSON.parse(text) };
  } catch (error) {
    yield { file, line, error: `it is not JSON: ${(error as Error).message}` };
  }
}

const [NEWLINE, QUOTE, BACKSLASH, COMMA] = [0x0a, 0x22, 0x5c, 0x2c];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Works on bytes: the marks of JSON are ASCII, and no byte of a longer UTF-8 character looks like one. */
class Splitter {
  /** `start`: nothing but blanks so far; `after`: behind an array's end; `skip`: the rest is not readable. */
  #mode: 'start' | 'lines' | 'array' | 'after' | 'skip' = 'start';
  #line = 1;
  readonly #item: Item;
  #itemLine = 1;
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor(eventBytesMax: number) {
    this.#item = new Item(eventBytesMax);
  }

  *push(chunk: Uint8Array): Generator<Piece> {
    let at = 0;
    while (at < chunk.length && this.#mode !== 'skip') {
      if (this.#mode === 'lines') at = yield* this.#takeLine(chunk, at);
      else if (this.#mode === 'array') at = yield* this.#takeElement(chunk, at);
      else at = yield* this.#takeBlank(chunk, at);
    }
  }

  *end(): Generator<Piece> {
    if (this.#mode === 'lines') yield* this.#item.take();
    if (this.#mode !== 'array') return;
    yield* this.#item.take();
    yield { line: this.#line, error: 'the file ends before the array does' };
  }

  *#takeBlank(chunk: Uint8Array, at: number): Generator<Piece, number> {
    const byte = chunk[at]!;
    if (byte === NEWLINE) this.#line++;
    if (isBlank(byte)) return at + 1;
    if (byte === OPEN_BRACKET) {
      this.#mode = 'array';
      return at + 1;
    }
    if (this.#mode === 'start' && byte < 0xf8) {
      this.#mode = 'lines';
      return at;
    }
    const error =
      this.#mode === 'start' ? 'the file is not UTF-8 (UTF-16?)' : 'there is text after the array';
    yield { line: this.#line, error };
    this.#mode = 'skip';
    return at;
  }

  *#takeLine(chunk: Uint8Array, at: number): Generator<Piece, number> {
    const newline = chunk.indexOf(NEWLINE, at);
    const end = newline === -1 ? chunk.length : newline;
    this.#item.add(chunk.subarray(at, end), this.#line);
    if (newline === -1) return end;
    yield* this.#item.take();
    this.#line++;
    return end + 1;
  }

  /** Up to the comma or bracket that ends the element, or to the end of the chunk. */
  *#takeElement(chunk: Uint8Array, start: number): Generator<Piece, number> {
    let at = this.#item.empty ? this.#skipBlanks(chunk, start) : start;
    const from = at;
    for (; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === NEWLINE) this.#line++;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) this.#inString = true;
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) this.#depth++;
      else if (this.#depth > 0 && (byte === CLOSE_BRACE || byte === CLOSE_BRACKET)) this.#depth--;
      else if (this.#depth === 0 && (byte === COMMA || byte === CLOSE_BRACKET)) {
        this.#item.add(chunk.subarray(from, at), this.#itemLine);
        yield* this.#item.take();
        if (byte === CLOSE_BRACKET) this.#mode = 'after';
        return at + 1;
      }
    }
    this.#item.add(chunk.subarray(from), this.#itemLine);
    return chunk.length;
  }

  /** Blanks before an element do not belong to it, so that its line is where it begins. */
  #skipBlanks(chunk: Uint8Array, start: number): number {
    let at = start;
    for (; at < chunk.length && isBlank(chunk[at]!); at++) if (chunk[at] === NEWLINE) this.#line++;
    this.#itemLine = this.#line;
    return at;
  }
}

/** The bytes of one value, collected over chunks; past the limit they are counted and dropped. */
class Item {
  readonly #bytesMax: number;
  #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  #line = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get empty(): boolean {
    return this.#sizeBytes === 0;
  }

  add(part: Uint8Array, line: number): void {
    if (part.length === 0) return;
    if (this.empty) this.#line = line;
    this.#sizeBytes += part.length;
    if (this.#sizeBytes > this.#bytesMax) this.#parts = [];
    else this.#parts.push(part);
  }

  *take(): Generator<Piece> {
    const [line, sizeBytes, parts] = [this.#line, this.#sizeBytes, this.#parts];
    this.#parts = [];
    this.#sizeBytes = 0;
    if (sizeBytes === 0) return;
    if (sizeBytes > this.#bytesMax) yield { line, tooLong: true };
    else yield { line, bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts) };
  }
}

/** Blanks of JSON, and the bytes of a byte order mark, which stand only where blanks may. */
function isBlank(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d) || byte === 0xef || byte === 0xbb || byte === 0xbf;
}
