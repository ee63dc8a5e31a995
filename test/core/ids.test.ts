import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/core/errors.ts';
import { checkId, decodeSegment, encodeSegment, isId } from '../../src/core/ids.ts';
import { defaultLimits } from '../../src/core/limits.ts';
import {
  dirtyKey,
  entryKey,
  manifestKey,
  orgOfDirtyKey,
  orgOfKey,
  parseRunKey,
  runKey,
} from '../../src/store/keys.ts';

const attacks: [name: string, id: unknown][] = [
  ['empty', ''],
  ['dot', '.'],
  ['dot dot', '..'],
  ['dot dot inside', 'a..b'],
  ['parent folder', '../other-org'],
  ['slash', 'a/b'],
  ['leading slash', '/etc'],
  ['backslash', 'a\\b'],
  ['leading dot', '.hidden'],
  ['trailing dot', 'a.'],
  ['leading dash', '-rf'],
  ['NUL', 'a\0b'],
  ['newline at the end', 'a\n'],
  ['newline inside', 'a\nb'],
  ['space', 'a b'],
  ['percent', 'a%2Fb'],
  ['bare percent', '%'],
  ['query', 'a?b'],
  ['fragment', 'a#b'],
  ['star', 'a*'],
  ['quote', 'a"b'],
  ['unicode letter', 'é'],
  ['unicode digit', 'a１'],
  ['fullwidth slash', 'a／b'],
  ['right-to-left mark', 'a\u200fb'],
  ['half a surrogate pair', 'a\ud800'],
  ['emoji', 'a😀'],
  ['129 characters', 'a'.repeat(129)],
  ['a megabyte', 'a'.repeat(1 << 20)],
  ['number', 7],
  ['null', null],
  ['undefined', undefined],
  ['array', ['a']],
  ['object with toString', { toString: () => 'a' }],
];

describe('ids become object keys, so their alphabet is closed', () => {
  it.each(attacks)('refused: %s', (_, id) => {
    expect(isId(id)).toBe(false);
    expect(() => checkId('org id', id)).toThrow(InputError);
    expect(() => manifestKey(id as string)).toThrow(InputError);
    expect(() => runKey('acme', id as string)).toThrow(InputError);
  });

  it.each(['a', '0', 'A', 'a.b', 'a_b', 'team:job@v1~x+y=z', 'x-', 'x_', `${'a'.repeat(127)}b`])(
    'accepted: %s',
    (id) => {
      expect(checkId('run id', id)).toBe(id);
    },
  );

  it('an error names what is wrong, and shows no megabytes', () => {
    const error = (() => {
      try {
        return checkId('run id', `x/${'y'.repeat(5_000)}`, 10_000);
      } catch (thrown) {
        return thrown as InputError;
      }
    })() as InputError;
    expect(error).toMatchObject({ code: 'INVALID_INPUT', hint: expect.stringContaining('10000') });
    expect(error.message.length).toBeLessThan(200);
  });

  it('the length limit can be tightened', () => {
    expect(() => checkId('queue', 'abcd', 3)).toThrow('longer than 3');
    expect(isId('a'.repeat(defaultLimits.idLengthMax))).toBe(true);
  });

  const ids = fc.string({ unit: fc.constantFrom(...'abZ09._:@~+=-'), minLength: 1 }).filter((id) => isId(id));

  it('no accepted id leaves its own folder, and every key names it back', () => {
    fc.assert(
      fc.property(ids, ids, (orgId, runId) => {
        const key = runKey(orgId, runId);
        expect(key.split('/')).toHaveLength(4);
        expect(key).not.toContain('..');
        expect(parseRunKey(key)).toEqual({ orgId, runId });
        expect(orgOfKey(entryKey(orgId, 'x'))).toBe(orgId);
        expect(orgOfDirtyKey(dirtyKey(orgId))).toBe(orgId);
        expect(decodeSegment(encodeSegment(orgId))).toBe(orgId);
      }),
    );
  });

  it('keys of no id read as nobody', () => {
    expect(parseRunKey('authoritative-runs/runs/%/x.json')).toBeNull();
    expect(parseRunKey('authoritative-runs/runs/acme/%2e%2e.json')).toBeNull();
    expect(parseRunKey('authoritative-runs/runs/acme/x.json.tmp')).toBeNull();
    expect(parseRunKey('authoritative-runs/runs/acme/a/b.json')).toBeNull();
    expect(orgOfKey('catalog/orgs/%2e%2e/manifest.json')).toBeNull();
    expect(orgOfKey('somewhere/else')).toBeNull();
    expect(orgOfDirtyKey('catalog/dirty/00/')).toBeNull();
    expect(decodeSegment('%E0%A4%A')).toBeNull();
  });
});
