import { describe, expect, it } from 'vitest';
import { type FoldPolicy, foldPolicy, judge, type ListedTail } from '../../compactor/due.ts';
import { crc32c } from '../../src/core/crc32c.ts';
import { defaultLimits } from '../../src/core/limits.ts';
import { seededRandom } from '../../src/core/random.ts';
import { uuidv7 } from '../../src/core/uuid.ts';
import { encodeEntry, inlinePayload } from '../../src/log/entry.ts';
import { intentOf, type LogRecord, recordOf } from '../../src/runs/record.ts';
import { entryKey, logPrefix } from '../../src/store/keys.ts';
import { LIST_PAGE_MAX, type ObjectMeta } from '../../src/store/object-store.ts';
import { START } from '../support/fake-clock.ts';
import { ORG, put, runOf } from '../support/runs.ts';

const random = seededRandom(5);
const policy: FoldPolicy = { afterMs: 600_000, entries: 20, records: 40 };

/** An entry as a LIST shows it, named `ageMs` before it. */
function entry(records: readonly LogRecord[], ageMs = 1_000, changes: Partial<ObjectMeta> = {}): ObjectMeta {
  const body = encodeEntry({ org_id: ORG, records: [...records] });
  return {
    key: entryKey(ORG, uuidv7(START - ageMs, random)),
    generation: '1',
    sizeBytes: body.length,
    crc32c: crc32c(body),
    createdAt: START - ageMs,
    metadata: inlinePayload(body, 8_192),
    ...changes,
  };
}

const puts = (count: number) => Array.from({ length: count }, (_, i) => put({ run_id: `r${i}` }));
const ask = (tail: Partial<ListedTail>) =>
  judge({ orgId: ORG, fresh: [], listedAt: START, ...tail }, policy, defaultLimits);

describe('a tail is worth a fold', () => {
  it('not while it is short and young, to the last entry, record and millisecond', () => {
    const fresh = [entry(puts(21), 599_999), ...Array.from({ length: 18 }, () => entry(puts(1)))];
    expect(ask({ fresh })).toEqual({ due: null, entries: 19, oldest_age_ms: 599_999 });
    expect(ask({ fresh: [...fresh, entry(puts(1))] })).toMatchObject({ due: 'entries', entries: 20 });
    expect(ask({ fresh: [...fresh.slice(1), entry(puts(22))] })).toMatchObject({ due: 'records' });
    expect(ask({ fresh: [entry(puts(1)), entry(puts(1), 600_000)] })).toEqual({
      due: 'age',
      entries: 2,
      oldest_age_ms: 600_000,
    });
    expect(ask({})).toEqual({ due: null, entries: 0, oldest_age_ms: 0 });
  });

  it('when an entry does not travel in the listing: a refresh pays for it', () => {
    expect(ask({ fresh: [entry(puts(1)), entry(puts(1), 1_000, { metadata: {} })] })).toMatchObject({
      due: 'apart',
    });
  });

  it('when a record takes an answer away that history may have to give', () => {
    const gone: LogRecord = { kind: 'delete', run_id: 'r0', revision: 3, deleted_at: START };
    expect(ask({ fresh: [entry([gone])] })).toMatchObject({ due: 'answer' });
    const ended = (status: 'FAILED' | 'SUCCEEDED', ago: number) =>
      ask({ fresh: [entry([put({ status, finished_at: START - 1_000 - ago })])] }).due;
    expect(ended('FAILED', defaultLimits.sealAgeMs + 1)).toBe('answer');
    expect(ended('FAILED', defaultLimits.sealAgeMs)).toBe(null);
    expect(ended('SUCCEEDED', defaultLimits.sealAgeMs + 1)).toBe(null);
  });

  it('when an entry cannot be read, or is none: the fold sets it aside', () => {
    const strange = encodeEntry({ org_id: 'other', records: [] });
    const bytes = { metadata: inlinePayload(strange, 8_192), crc32c: crc32c(strange) };
    expect(ask({ fresh: [entry(puts(1), 1_000, bytes)] })).toMatchObject({ due: 'unreadable' });
    expect(ask({ fresh: [entry(puts(1), 1_000, { key: `${logPrefix(ORG)}what.json` })] })).toMatchObject({
      due: 'unreadable',
    });
  });

  it('when nothing has confirmed an announcement in time: every refresh asks for it', () => {
    const run = runOf({ run_id: 'new' });
    const announced = (ageMs: number) => entry([intentOf(run)], ageMs);
    expect(ask({ fresh: [announced(30_000)] })).toMatchObject({ due: null });
    expect(ask({ fresh: [announced(30_001)] })).toMatchObject({ due: 'intent' });
    expect(ask({ fresh: [announced(90_000), entry([recordOf(run)])] })).toMatchObject({ due: null });
    expect(ask({ fresh: [announced(90_000), announced(2_000)] })).toMatchObject({ due: null });
  });

  it('when a fold can tell readers not to ask any more, and not once it has', () => {
    const run = runOf({ run_id: 'new' });
    const fresh = [entry(puts(1))];
    const left = (ageMs: number) => [entry([intentOf(run)], ageMs)];
    // The last fold came a minute ago, and could not name it yet.
    const foldedAt = START - 60_000;
    expect(ask({ fresh, left: left(300_000), foldedAt })).toMatchObject({ due: null, entries: 1 });
    expect(ask({ fresh, left: left(300_001), foldedAt })).toMatchObject({ due: 'intent' });
    expect(ask({ fresh, left: left(360_000), foldedAt })).toMatchObject({ due: 'intent' });
    expect(ask({ fresh, left: left(360_001), foldedAt })).toMatchObject({ due: null });
    // It was announced again since.
    expect(ask({ fresh: [entry([intentOf(run)], 31_000)], left: left(360_001), foldedAt })).toMatchObject({
      due: 'intent',
    });
  });

  it('by default long before a second page, and half of a refresh may spend', () => {
    const { entries, records, afterMs } = foldPolicy(defaultLimits);
    // This tail, what came until the next pass, and what the last fold took and nobody has collected.
    expect(3 * entries).toBeLessThan(LIST_PAGE_MAX);
    expect(records).toBeGreaterThanOrEqual(entries);
    expect(afterMs).toBeGreaterThan(defaultLimits.entryGraceMs);
  });
});
