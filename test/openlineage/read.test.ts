import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEventFiles } from '../../src/cli/read-events.ts';
import { readJson } from '../../src/openlineage/read.ts';
import { collect } from './support.ts';

/** Cut into chunks of every small size: a cut may fall anywhere. */
async function read(content: string | Uint8Array, eventBytesMax?: number): Promise<string[]> {
  const bytes = Buffer.from(content as string);
  const results: string[][] = [];
  for (const size of [1, 2, 3, 7, bytes.length + 1]) {
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    const items = await collect(readJson('f', chunks(), eventBytesMax));
    results.push(items.map((i) => `${i.line}: ${'error' in i ? `! ${i.error}` : JSON.stringify(i.json)}`));
  }
  for (const result of results) expect(result).toEqual(results[0]);
  return results[0]!;
}

describe('reading NDJSON and arrays', () => {
  it.each<[string, string, string[]]>([
    ['nothing', '', []],
    ['blanks', ' \n\t\r\n', []],
    ['lines', '{"a":1}\n{"a":2}\n', ['1: {"a":1}', '2: {"a":2}']],
    ['no newline at the end', '{"a":1}\n{"a":2}', ['1: {"a":1}', '2: {"a":2}']],
    ['CRLF and blank lines', '\r\n{"a":1}\r\n\r\n{"a":2}\r\n', ['2: {"a":1}', '4: {"a":2}']],
    ['a BOM', '\ufeff{"a":1}\n\ufeff{"a":2}', ['1: {"a":1}', '2: {"a":2}']],
    ['an array', '[{"a":1},{"a":2}]', ['1: {"a":1}', '1: {"a":2}']],
    ['a pretty array', '[\n  {\n    "a": 1\n  },\n\n  {"a":2}\n]\n', ['2: {"a":1}', '6: {"a":2}']],
    ['a BOM before an array', '\ufeff\n [{"a":1}]', ['2: {"a":1}']],
    ['an empty array', ' [ ] ', []],
    [
      'an array of no objects',
      '[1, "a,]\\"", [2, [3]], null]',
      ['1: 1', '1: "a,]\\""', '1: [2,[3]]', '1: null'],
    ],
    ['batches: one array a line', '[{"a":1}]\n[{"a":2}]\n', ['1: {"a":1}', '2: {"a":2}']],
    ['text beyond ASCII', '[{"ä":"→😀"}]', ['1: {"ä":"→😀"}']],
  ])('%s', async (_name, content, expected) => {
    expect(await read(content)).toEqual(expected);
  });

  it.each<[string, string | Uint8Array, RegExp[]]>([
    ['a broken line', '{"a":1}\n{"a":\n{"a":3}', [/^1: {/, /^2: ! it is not JSON: /, /^3: {/]],
    ['a broken element', '[{"a":1},\n{"a"},\n{"a":3}]', [/^1: {/, /^2: ! it is not JSON: /, /^3: {/]],
    [
      'an array cut off',
      '[{"a":1},\n{"a":',
      [/^1: {/, /^2: ! it is not JSON/, /^2: ! the file ends before the array/],
    ],
    ['text behind an array', '[{"a":1}]\nx\ny', [/^1: {/, /^2: ! there is text after the array/]],
    ['plain text', 'hello\nworld', [/^1: ! it is not JSON/, /^2: ! it is not JSON/]],
    ['UTF-16', Buffer.from('\ufeff{"a":1}', 'utf16le'), [/^1: ! the file is not UTF-8/]],
    [
      'a line that is not UTF-8',
      Buffer.concat([Buffer.from('{"a":"'), Buffer.of(0xc3, 0x28), Buffer.from('"}\n{"a":2}')]),
      [/^1: ! it is not UTF-8/, /^2: {/],
    ],
  ])('reports %s and goes on', async (_name, content, expected) => {
    const lines = await read(content);
    expect(lines).toHaveLength(expected.length);
    for (const [i, line] of lines.entries()) expect(line).toMatch(expected[i]!);
  });

  it('skips a huge line or element without keeping it', async () => {
    const huge = JSON.stringify({ a: 'x'.repeat(100) });
    const expected = ['1: {"a":1}', '2: ! the event is longer than 50 bytes', '3: {"a":3}'];
    expect(await read(`{"a":1}\n${huge}\n{"a":3}`, 50)).toEqual(expected);
    expect(await read(`[{"a":1},\n${huge},\n{"a":3}]`, 50)).toEqual(expected);
  });

  it('outlives deep nesting', async () => {
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    const chunks = async function* () {
      yield Buffer.from(`{"a":1}\n{"a":${deep}}\n{"a":3}\n`);
    };
    const items = await collect(readJson('f', chunks()));
    expect(items.map(({ line }) => line)).toEqual([1, 2, 3]);
    expect(items[2]).toMatchObject({ json: { a: 3 } });
  });
});

describe('event files', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runfold-read-'));
    await writeFile(join(dir, 'a'), '{"a":1}\n');
    await writeFile(join(dir, 'b'), '[{"a":2}]');
  });
  afterAll(() => rm(dir, { recursive: true }));

  it('reads files and standard input in the order given', async () => {
    const seen: number[] = [];
    const files = [join(dir, 'a'), '-', join(dir, 'b')];
    const stdin = Readable.from([Buffer.from('{"a":9}')]);
    const { sizeBytes, events } = await openEventFiles(files, { stdin, onBytes: (n) => seen.push(n) });
    expect(sizeBytes).toBeNull();
    expect(await collect(events)).toEqual([
      { file: files[0], line: 1, json: { a: 1 } },
      { file: '-', line: 1, json: { a: 9 } },
      { file: files[2], line: 1, json: { a: 2 } },
    ]);
    expect(seen.at(-1)).toBe(8 + 7 + 9);
    expect((await openEventFiles([join(dir, 'a'), join(dir, 'b')])).sizeBytes).toBe(17);
  });

  it('refuses a bad list before it reads anything', async () => {
    await expect(openEventFiles([])).rejects.toThrowError('No file was named.');
    await expect(openEventFiles(['-', '-'])).rejects.toThrowError(/only once/);
    await expect(openEventFiles([join(dir, 'a'), join(dir, 'none')])).rejects.toThrowError(
      /none does not exist\./,
    );
    await expect(openEventFiles([dir])).rejects.toThrowError(/is a directory\./);
  });

  it('stops when aborted, also while it waits for standard input', async () => {
    const stop = new AbortController();
    const stdin = new Readable({ read() {} });
    const { events } = await openEventFiles(['-'], { stdin, signal: stop.signal });
    const waiting = collect(events);
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
