import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJson } from '../../src/core/stored-json.ts';
import { inlineBytes, keepHead, parseManifest } from '../../src/manifest/inline-head.ts';

const bytesOf = (text: string) => new TextEncoder().encode(text);
const base64 = (size: number) => Buffer.alloc(size, 'any bytes, and \u00ff').toString('base64');
const LONG = base64(3_090);

/** The value, or what was thrown: by whichever way. */
function outcome(parse: () => unknown): unknown {
  try {
    return { value: parse() };
  } catch (error) {
    return { error: (error as Error).name, message: (error as Error).message };
  }
}

function expectSame(body: Uint8Array): void {
  expect(outcome(() => parseManifest(body).json)).toEqual(outcome(() => parseJson(body)));
}

/** False also where it throws. */
function isCut(body: Uint8Array): boolean {
  const cut = outcome(() => parseManifest(body).inline !== null);
  return (cut as { value?: boolean }).value === true;
}

describe('a manifest whose inline head is cut out before it is parsed', () => {
  it('is what it is when parsed whole, and the head is decoded with it', () => {
    const manifest = { format: 1, parts: [{ inline: null }, { name: 'é', inline: LONG, rows: 3 }], rows: 3 };
    for (const body of [JSON.stringify(manifest), JSON.stringify(manifest.parts[1])]) {
      expectSame(bytesOf(body));
    }
    const { json, inline } = parseManifest(bytesOf(JSON.stringify(manifest)));
    expect(json).toEqual(manifest);
    const parts = (json as typeof manifest).parts as { inline: string | null }[];
    keepHead(parts, inline!);
    const part = parts[1] as { inline: string };
    const kept = inlineBytes(part);
    expect(kept).toBe(inline!.bytes);
    // Given away once; decoded for whoever asks again.
    expect(inlineBytes(part)).toEqual(kept);
    expect(inlineBytes(part)).not.toBe(kept);
    expect(inlineBytes({ ...part })).toEqual(kept);
  });

  it('is parsed whole where the string is not plainly the head', () => {
    const shapes = {
      ok: `{"parts":[{"inline":"${LONG}"}]}`,
      twice: `{"parts":[{"inline":"${LONG}","inline":null}]}`,
      elsewhere: `{"inline":"${LONG}","parts":[]}`,
      inText: `{"parts":[{"a":"\\"inline\\":\\"${LONG}"}]}`,
      otherKey: `{"parts":[{"a\\"inline":"${LONG}"}]}`,
      escaped: `{"parts":[{"inline":"${LONG}\\n"}]}`,
      control: `{"parts":[{"inline":"${LONG}\n"}]}`,
      short: `{"parts":[{"inline":"QUJD"}]}`,
      standIn: `{"a":"InlineHeadThatWasCutOut","parts":[{"inline":"${LONG}"}]}`,
      spelled: `{"parts":[{"inline":"\\u0049nlineHeadThatWasCutOut"},{"inline":"${LONG}"}]}`,
      cutOff: `{"parts":[{"inline":"${LONG}`,
      noJson: `{"parts":["x"inline":"${LONG}"]}`,
      bom: `\ufeff{"parts":[{"inline":"${LONG}"}]}`,
    };
    for (const body of Object.values(shapes)) expectSame(bytesOf(body));
    const cut = Object.entries(shapes).filter(([, body]) => isCut(bytesOf(body)));
    expect(cut.map(([name]) => name)).toEqual(['ok', 'bom']);
    const [before, after] = shapes.ok.split(LONG) as [string, string];
    for (const foreign of [0x00, 0x0a, 0x20, 0x5c, 0x80, 0xc3, 0xff]) {
      const inside = bytesOf(shapes.ok);
      inside[before.length + 100] = foreign;
      expectSame(inside);
      expectSame(Buffer.concat([bytesOf(before + LONG), Buffer.of(foreign), bytesOf(after)]));
    }
  });

  it('is the same for whatever the bytes are', () => {
    const text = fc.oneof(
      { weight: 8, arbitrary: fc.string({ maxLength: 8 }) },
      fc.constantFrom('"inline":"', '\\', '\\u0049', 'InlineHeadThatWasCutOut', '"', LONG, ''),
      fc.string({ unit: 'binary', maxLength: 12 }),
    );
    const inline = fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 3_060, max: 3_300 }).map((size) => base64(size)) },
      fc.constant(null),
      text,
    );
    const part = fc.dictionary(fc.oneof(fc.constant('name'), text), fc.oneof(text, fc.integer()), {
      maxKeys: 3,
    });
    const manifest = fc
      .record({
        extra: fc.dictionary(text, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 }),
        parts: fc.array(fc.tuple(part, fc.option(inline, { nil: undefined })), { maxLength: 3 }),
        behind: fc.dictionary(text, text, { maxKeys: 2 }),
      })
      .map(({ extra, parts, behind }) => ({
        ...extra,
        parts: parts.map(([fields, head], k) =>
          k % 2 ? { inline: head, ...fields } : { ...fields, inline: head },
        ),
        ...behind,
      }));
    const damage = fc.option(fc.tuple(fc.nat(20_000), fc.nat(255)), { nil: null, freq: 2 });
    let cut = 0;
    fc.assert(
      fc.property(manifest, fc.constantFrom(undefined, undefined, 1), damage, (value, indent, change) => {
        const body = bytesOf(JSON.stringify(value, null, indent));
        if (change !== null) body[change[0] % body.length] = change[1];
        expectSame(body);
        if (isCut(body)) cut++;
      }),
      { numRuns: 500 },
    );
    expect(cut).toBeGreaterThan(50);
  });
});
