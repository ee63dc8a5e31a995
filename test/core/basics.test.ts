import { describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { ServiceError } from '../../src/client/http.ts';
import { crc32c, crc32cFromBase64, crc32cToBase64 } from '../../src/core/crc32c.ts';
import {
  CorruptError,
  errorMessage,
  FormatError,
  isRunfoldError,
  RunfoldError,
  StoreError,
} from '../../src/core/errors.ts';
import { defaultLimits, limits } from '../../src/core/limits.ts';
import { checkStored, encodeStored, parseStored } from '../../src/core/stored-json.ts';
import { objectsOf } from '../../src/runs/open.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { ABSENT } from '../../src/store/object-store.ts';

const bytes = (n: number, of: (i: number) => number) => Uint8Array.from({ length: n }, (_, i) => of(i));

describe('crc32c', () => {
  // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
  it.each([
    ['nothing', new Uint8Array(), 0],
    ['123456789', new TextEncoder().encode('123456789'), 0xe3069283],
    ['32 zeros', bytes(32, () => 0), 0x8a9136aa],
    ['32 ones', bytes(32, () => 0xff), 0x62a8ab43],
    ['0 to 31', bytes(32, (i) => i), 0x46dd794e],
    ['31 to 0', bytes(32, (i) => 31 - i), 0x113fdb5c],
  ])('%s', (_, body, expected) => {
    expect(crc32c(body)).toBe(expected);
  });

  it('speaks base64 as GCS does: big-endian', () => {
    expect(crc32cToBase64(0xe3069283)).toBe('4waSgw==');
    expect(crc32cFromBase64('4waSgw==')).toBe(0xe3069283);
    expect(crc32cFromBase64('AAAA')).toBeNaN();
  });
});

describe('limits', () => {
  it('can be tightened one by one, and the defaults stay', () => {
    expect(limits({ parallelMax: 2 })).toEqual({ ...defaultLimits, parallelMax: 2 });
    expect(limits()).toEqual(defaultLimits);
    expect(limits()).not.toBe(defaultLimits);
  });

  it('are positive or zero, and fit together', () => {
    for (const [name, value] of Object.entries(defaultLimits)) {
      expect(value, name).toBeGreaterThanOrEqual(0);
      expect(Number.isInteger(value), name).toBe(true);
    }
    const l = defaultLimits;
    // A round must end well before anything it listed can be deleted; and no batch may outgrow an entry.
    expect(l.requestDeadlineMs).toBeLessThan(l.entryGraceMs / 2);
    expect(l.entryLagMaxMs).toBeLessThan(l.entryGraceMs / 2);
    expect(3 * l.batchBytesMax).toBeLessThanOrEqual(l.entryBytesMax);
    expect(l.operationDeadlineMs).toBeLessThan(l.lateWriteMaxMs);
    expect(l.lateWriteMaxMs).toBeLessThan(l.intentTtlMs);
    expect(l.intentTtlMs).toBeLessThan(l.tombstoneTtlMs);
    expect(l.entryGraceMs).toBeLessThan(l.partGraceMs);
    expect(l.partGraceMs).toBeLessThan(l.orphanAgeMs);
  });
});

describe('stored JSON', () => {
  const text = (value: string) => new TextEncoder().encode(value);
  const parse = (body: Uint8Array) => parseStored('k', 'thing', 1, body);

  it('comes back as it was', () => {
    const value = { format: 1, text: 'é😀"\\\0', list: [1, null] };
    expect(parse(encodeStored(value))).toEqual(value);
  });

  it.each([
    ['nothing', new Uint8Array()],
    ['half', text('{"format":1')],
    ['not UTF-8', new Uint8Array([0x22, 0xff, 0x22])],
    ['text after the end', text('{} {}')],
  ])('%s is corrupt, and the error names the object', (_, body) => {
    expect(() => parse(body)).toThrow(CorruptError);
    expect(() => parse(body)).toThrow(/^k is corrupt/);
  });

  it('a newer format is refused before anything else is looked at', () => {
    expect(() => parse(text('{"format":2,"whatever":true}'))).toThrow(FormatError);
    expect(() => parse(text('{"format":2}'))).toThrow('the thing has format 2; this runfold reads up to 1');
  });

  it.each(['null', '7', '"x"', '[]', '{"format":"2"}', '{"format":0}', '{"format":0.5}'])(
    'JSON of another shape, %s, is corrupt',
    (body) => {
      const schema = z.object({ format: z.literal(1) });
      expect(() => checkStored('k', schema, parse(text(body)))).toThrow(CorruptError);
    },
  );
});

describe('errors', () => {
  it('are told by class, code and hint', () => {
    const error = new StoreError('STORE_THROTTLED', 'slow down', { retryable: true, retryAfterMs: 5 });
    expect(error).toMatchObject({
      name: 'StoreError',
      code: 'STORE_THROTTLED',
      retryAfterMs: 5,
      details: {},
    });
    expect(isRunfoldError(error)).toBe(true);
    expect(isRunfoldError(new Error('x'))).toBe(false);
    expect(new CorruptError('k', 'why').details).toEqual({ key: 'k', reason: 'why' });
    expect(new FormatError('k', 'what')).toMatchObject({ code: 'UNSUPPORTED_FORMAT', details: { key: 'k' } });
    expect([errorMessage(error), errorMessage('text')]).toEqual(['slow down', 'text']);
  });
});

describe('two copies of the package in one process', () => {
  it('know the errors and the words of each other', async () => {
    vi.resetModules();
    const errors = await import('../../src/core/errors.ts');
    const store = await import('../../src/store/object-store.ts');
    const client = await import('../../src/client/http.ts');
    expect(errors.RunfoldError).not.toBe(RunfoldError);
    const corrupt = new errors.CorruptError('a/key', 'a reason');
    expect(corrupt).toBeInstanceOf(CorruptError);
    expect(corrupt).toBeInstanceOf(RunfoldError);
    expect(isRunfoldError(corrupt)).toBe(true);
    expect(corrupt).not.toBeInstanceOf(FormatError);
    expect(new Error('x')).not.toBeInstanceOf(RunfoldError);
    expect(new client.ServiceError(500, {})).toBeInstanceOf(ServiceError);
    expect(store.ABSENT).toBe(ABSENT);
    // A run store that one copy opened, in the compactor of the other.
    const { ObjectRunStore } = await import('../../src/runs/object-run-store.ts');
    const own = new MemoryStore({});
    expect(objectsOf(new ObjectRunStore(own, defaultLimits), own)).toBe(own);
    // What somebody derives is told by its prototype.
    class Own extends CorruptError {}
    expect(corrupt).not.toBeInstanceOf(Own);
    expect(new Own('a', 'b')).toBeInstanceOf(Own);
    expect(new Own('a', 'b')).toBeInstanceOf(errors.RunfoldError);
    for (const one of [null, undefined, 1, 'x']) expect(isRunfoldError(one)).toBe(false);
  });
});
