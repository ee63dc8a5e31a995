import { createReadStream } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';
import { addAbortSignal, type Readable } from 'node:stream';
import { throwIfAborted } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { readJson, type SourceEvent } from '../openlineage/read.ts';

export interface EventFiles {
  /** Of all files together, for a progress bar; null when standard input is among them. */
  readonly sizeBytes: number | null;
  readonly events: AsyncIterable<SourceEvent>;
}

export interface EventFilesOptions {
  /** What `-` reads. */
  readonly stdin?: Readable;
  /** Called with the bytes read so far, over all files. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens files of OpenLineage events in the order given; `-` is standard input. Throws InputError before anything is
 * read when a file cannot be: a mistyped second name must not leave the first one imported.
 */
export async function openEventFiles(
  paths: readonly string[],
  options: EventFilesOptions = {},
): Promise<EventFiles> {
  if (paths.length === 0)
    throw new InputError('No file was named.', { hint: 'Name files, or - for standard input.' });
  if (paths.filter((path) => path === '-').length > 1)
    throw new InputError('Standard input (-) can be read only once.');
  let sizeBytes: number | null = 0;
  for (const path of paths) {
    const size = path === '-' ? null : await sizeOf(path);
    sizeBytes = size === null || sizeBytes === null ? null : sizeBytes + size;
  }
  return { sizeBytes, events: read(paths, options) };
}

async function* read(paths: readonly string[], options: EventFilesOptions): AsyncGenerator<SourceEvent> {
  const { stdin = process.stdin, onBytes, signal } = options;
  let readBytes = 0;
  for (const path of paths) {
    const stream = path === '-' ? stdin : createReadStream(path, { highWaterMark: 256 * 1024 });
    if (signal) addAbortSignal(signal, stream);
    try {
      yield* readJson(path, counted(stream));
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    }
  }

  async function* counted(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      readBytes += chunk.length;
      onBytes?.(readBytes);
      yield chunk;
    }
  }
}

/** Null for what has no size to tell, such as a pipe. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory())
      throw new InputError(`${path} is a directory.`, { hint: 'Name the files in it.' });
    await access(path, constants.R_OK);
    return stats.isFile() ? stats.size : null;
  } catch (error) {
    if (error instanceof InputError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
    throw new InputError(`${path} ${why}.`, { cause: error });
  }
}
