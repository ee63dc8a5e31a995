import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CorruptError, InputError } from '../../src/core/errors.ts';
import { defaultLimits } from '../../src/core/limits.ts';
import { StateHash } from '../../src/manifest/state-hash.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { isTerminal } from '../../src/runs/run.ts';
import { type HistorySource, mergeHistory } from '../../src/snapshot/history-merge.ts';
import { coalesce } from '../../src/snapshot/history-select.ts';
import {
  compareEntries,
  type Entry,
  entriesIn,
  entriesJson,
  entriesOf,
  ORG,
  revisions,
  runs,
  seal,
  sourceOf,
} from './history-model.ts';

/** Sorts the union; of rows with one key keeps the highest revision, then projection version, then the earlier. */
function mergedEntries(parts: readonly Projection[][]): { kept: Entry[]; superseded: Entry[] } {
  const superseded: Entry[] = [];
  const kept: Entry[] = [];
  const outranks = (a: Projection, b: Projection) =>
    a.revision - b.revision || a.projection_version - b.projection_version;
  for (const entry of parts.flatMap(entriesOf).sort(compareEntries)) {
    const last = kept.at(-1);
    if (last === undefined || compareEntries(last, entry) !== 0) kept.push(entry);
    else if (outranks(entry.row, last.row) > 0) superseded.push(kept.splice(-1, 1, entry)[0]!);
    else superseded.push(entry);
  }
  return { kept, superseded };
}

function hashOf(entries: readonly Entry[]): StateHash {
  const state = StateHash.empty();
  for (const { primary, row } of entries) if (primary) state.add(row.run_id, row.revision);
  return state;
}

const groupSizes = fc.integer({ min: 1, max: 6 });
const anyGroupSizes = fc.oneof(groupSizes, fc.constant(1_000));
const partLists = fc.oneof(fc.array(runs, { maxLength: 4 }), revisions);

describe('mergeHistory', () => {
  it('is the sorted union with the highest revision of each key, less what is dropped', async () => {
    await fc.assert(
      fc.asyncProperty(
        partLists,
        groupSizes,
        anyGroupSizes,
        fc.boolean(),
        async (parts, from, to, dropping) => {
          const sealed = await Promise.all(parts.map((rows) => seal(rows, from)));
          const isDropped = (row: Projection) => dropping && isTerminal(row.status);
          const merged = await mergeHistory(ORG, sealed.map(sourceOf), {
            groupRows: to,
            ...(dropping ? { drop: (rows, i) => isDropped(rows.get(i)) } : {}),
          });
          const { kept, superseded } = mergedEntries(parts);
          const expected = kept.filter(({ row }) => !isDropped(row));
          const gone = [...superseded, ...kept.filter(({ row }) => isDropped(row))];
          expect(entriesJson(entriesIn(merged))).toEqual(entriesJson(expected));
          expect(merged.stateHash.hex()).toBe(hashOf(expected).hex());
          expect(merged.dropped.hex()).toBe(hashOf(gone).hex());
          expect(merged.droppedRuns).toBe(gone.filter(({ primary }) => primary).length);
          // Law 5, without looking at the rows.
          const before = sealed.reduce((sum, { stateHash }) => sum.plus(stateHash), StateHash.empty());
          expect(merged.stateHash.hex()).toBe(before.minus(merged.dropped).hex());
          expect(merged.rows).toBe(expected.length);
          expect(merged.groups.slice(0, -1).every(({ rows }) => rows === to)).toBe(true);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('gives the same part in one step and in several', async () => {
    await fc.assert(
      fc.asyncProperty(revisions, groupSizes, async (parts, groupRows) => {
        const sources = (await Promise.all(parts.map((rows) => seal(rows, groupRows)))).map(sourceOf);
        const merge = (from: typeof sources) => mergeHistory(ORG, from, { groupRows });
        const pairs = [await merge(sources.slice(0, 2)), await merge(sources.slice(2))].map(sourceOf);
        const [once, twice] = [await merge(sources), await merge(pairs)];
        expect(Buffer.compare(once.bytes, twice.bytes)).toBe(0);
        expect(twice.groups).toEqual(once.groups);
      }),
    );
  });

  it('reads each range once, in order, and only one ahead of what it merges', async () => {
    const part = await seal(realistic(40), 5);
    const [first] = part.groups;
    for (const rangeBytesMax of [1, 3 * first!.size, undefined]) {
      const reads: { offset: number; size: number }[] = [];
      let inFlight = 0;
      const source: HistorySource = {
        ...sourceOf(part),
        read: async (range) => {
          reads.push(range);
          expect(++inFlight).toBe(1);
          const bytes = await sourceOf(part).read(range);
          inFlight--;
          return bytes;
        },
      };
      await mergeHistory(ORG, [source], { rangeBytesMax });
      const end = reads.reduce(
        (at, { offset, size }) => (offset === at ? at + size : Number.NaN),
        first!.offset,
      );
      expect(end).toBe(part.groups.at(-1)!.offset + part.groups.at(-1)!.size);
      expect(reads.length).toBe(
        coalesce(part.groups, {
          historyGapBytesMax: 0,
          historyRangeBytesMax: rangeBytesMax ?? defaultLimits.historyMergeRangeBytesMax,
        }).length,
      );
    }
  });

  it('fails with the error of a read, of a broken group, and of its signal; nothing is left unhandled', async () => {
    const part = await seal(realistic(40), 5);
    const source = sourceOf(part);
    const bad = part.groups[3]!.offset;
    const options = { rangeBytesMax: 1 };
    const late: HistorySource = {
      ...source,
      read: (range) =>
        range.offset === bad ? Promise.reject(new InputError('no such range')) : source.read(range),
    };
    await expect(mergeHistory(ORG, [source, late], options)).rejects.toThrow('no such range');
    const broken: HistorySource = {
      ...source,
      read: async (range) => {
        const bytes = await source.read(range);
        if (range.offset === bad) bytes[100]! ^= 1;
        return bytes;
      },
    };
    await expect(mergeHistory(ORG, [broken, late], options)).rejects.toThrow(CorruptError);
    const short: HistorySource = { ...source, read: async (range) => (await source.read(range)).subarray(1) };
    await expect(mergeHistory(ORG, [short])).rejects.toThrow(CorruptError);
    await expect(mergeHistory(ORG, [source], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    expect(await mergeHistory(ORG, [])).toMatchObject({ rows: 0, runs: 0, groups: [] });
  });
});

function realistic(count: number): Projection[] {
  return fc
    .sample(runs, { numRuns: count, seed: 1 })
    .flatMap((rows, part) => rows.slice(0, 1).map((row) => ({ ...row, run_id: `run-${part}` })));
}
