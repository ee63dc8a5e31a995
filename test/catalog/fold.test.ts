import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareRecords,
  fold as foldUpTo,
  isPast,
  merge,
  Overlay,
  pendingIntents,
  stateHashOf,
} from '../../src/catalog/fold.ts';
import { CatalogState } from '../../src/catalog/state.ts';
import { StateHash } from '../../src/manifest/state-hash.ts';
import { type Projection, project } from '../../src/runs/projection.ts';
import { type LogRecord, runIdOf } from '../../src/runs/record.ts';
import { RUN_STATUSES } from '../../src/runs/run.ts';
import { Rows } from '../../src/snapshot/rows.ts';
import { projectionsOf, tableOf } from '../snapshot/tables.ts';
import { START } from '../support/fake-clock.ts';
import { dataset, histories, ORG, put, rowOf } from '../support/runs.ts';

const RUNS = ['a', 'b', 'c'] as const;

/** Few runs, few revisions, few contents: repeats and ties are common. */
const row: fc.Arbitrary<Projection> = fc
  .record(
    {
      run_id: fc.constantFrom(...RUNS),
      revision: fc.integer({ min: 1, max: 4 }),
      status: fc.constantFrom(...RUN_STATUSES),
      projection_version: fc.integer({ min: 1, max: 2 }),
      outputs: fc.subarray([dataset('x'), dataset('y')]),
    },
    { noNullPrototype: true },
  )
  .map((changes) => rowOf(changes));
const record: fc.Arbitrary<LogRecord> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), row }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('intent' as const), row }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('delete' as const),
      run_id: fc.constantFrom(...RUNS),
      revision: fc.integer({ min: 1, max: 4 }),
      deleted_at: fc.integer({ min: START, max: START + 2 }),
    }),
  },
);
const records = fc.array(record, { maxLength: 20 });
/** At most one row per run, as in a snapshot. */
const base = fc
  .uniqueArray(row, { maxLength: 3, selector: ({ run_id }) => run_id })
  .map((rows) => tableOf(ORG, rows));

/** Without a horizon: nothing is forgotten. */
const fold = (rows: Rows, overlay: Overlay) => foldUpTo(rows, overlay, null);
const overlayOf = (all: readonly LogRecord[]) => new Overlay().applyAll(all);
/** What an overlay says, in one order. */
function said({ facts, intents }: Overlay) {
  const sorted = (map: ReadonlyMap<string, LogRecord>) =>
    [...map.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([sorted(facts), sorted(intents)]);
}
const byRun = (rows: readonly Projection[]) =>
  rows.toSorted((a, b) => (a.run_id < b.run_id ? -1 : 1)).map((one) => JSON.stringify(one));
const rowsOf = (rows: Rows) => byRun(projectionsOf(rows));

describe('law 1: fold is commutative, associative, idempotent', () => {
  it('commutative: the order of records does not matter, ties, deletes and intents included', () => {
    const shuffled = records.chain((all) =>
      fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length })),
    );
    fc.assert(
      fc.property(shuffled, base, ([all, other], rows) => {
        expect(said(overlayOf(other))).toBe(said(overlayOf(all)));
        expect(rowsOf(fold(rows, overlayOf(other)).rows)).toEqual(rowsOf(fold(rows, overlayOf(all)).rows));
      }),
      { numRuns: 300 },
    );
  });

  it('associative: folding in two steps is folding at once, where tombstones travel along', () => {
    fc.assert(
      fc.property(base, records, records, (rows, first, second) => {
        const once = fold(rows, overlayOf([...first, ...second]));
        const half = fold(rows, overlayOf(first));
        const twice = fold(half.rows, overlayOf([...half.deletes, ...second]));
        expect(rowsOf(twice.rows)).toEqual(rowsOf(once.rows));
      }),
      { numRuns: 300 },
    );
  });

  it('associative: overlays joined in any grouping are one overlay', () => {
    fc.assert(
      fc.property(records, records, records, (a, b, c) => {
        const left = overlayOf([...a, ...b])
          .copy()
          .applyAll(c);
        const inner = overlayOf([...b, ...c]);
        const right = overlayOf(a).applyAll(inner.facts.values()).applyAll(inner.intents.values());
        expect(said(left)).toBe(said(right));
      }),
      { numRuns: 300 },
    );
  });

  it('idempotent: every record may come twice, and a fold may be repeated', () => {
    fc.assert(
      fc.property(base, records, (rows, all) => {
        const overlay = overlayOf(all);
        expect(said(overlayOf([...all, ...all]))).toBe(said(overlay));
        const folded = fold(rows, overlay);
        const again = fold(folded.rows, overlay);
        expect(again.changed).toBe(false);
        expect(rowsOf(again.rows)).toEqual(rowsOf(folded.rows));
        expect([again.added.hex(), again.removed.hex()]).toEqual([
          StateHash.empty().hex(),
          StateHash.empty().hex(),
        ]);
      }),
      { numRuns: 300 },
    );
  });

  it('late records of the past change nothing', () => {
    const now = overlayOf([put({ revision: 3, status: 'SUCCEEDED' })]);
    const before = said(now);
    now.applyAll([put({ revision: 1 }), put({ revision: 2, status: 'RUNNING' })]);
    expect(said(now)).toBe(before);
  });
});

describe('compareRecords is a total order', () => {
  const facts = record.filter(({ kind }) => kind !== 'intent');
  const intents = record.filter(({ kind }) => kind === 'intent');
  for (const [name, one] of [
    ['facts', facts],
    ['intents', intents],
  ] as const) {
    it(`of ${name}`, () => {
      const same = fc.tuple(one, one, one);
      fc.assert(
        fc.property(same, ([a, b, c]) => {
          const sign = (x: LogRecord, y: LogRecord) => Math.sign(compareRecords(x, y));
          expect(sign(a, b) + sign(b, a)).toBe(0);
          // One of the same run that is equal in the order is equal in content.
          if (sign(a, b) === 0 && runIdOf(a) === runIdOf(b))
            expect(JSON.stringify(a)).toBe(JSON.stringify(b));
          if (sign(a, b) <= 0 && sign(b, c) <= 0) expect(sign(a, c)).toBeLessThanOrEqual(0);
        }),
        { numRuns: 500 },
      );
    });
  }

  it('revision, then delete over put, then projection version, then content', () => {
    const deletion: LogRecord = { kind: 'delete', run_id: 'run-1', revision: 2, deleted_at: 1 };
    const ascending: LogRecord[] = [
      put({ revision: 1, projection_version: 9 }),
      put({ revision: 2, projection_version: 1 }),
      put({ revision: 2, projection_version: 2 }),
      deletion,
      { ...deletion, deleted_at: 2 },
      put({ revision: 3, projection_version: 1 }),
    ];
    for (let i = 0; i < ascending.length; i++)
      for (let j = 0; j < ascending.length; j++)
        expect(Math.sign(compareRecords(ascending[i]!, ascending[j]!))).toBe(Math.sign(i - j));
  });

  it('ties of different bytes are counted, repeats are not', () => {
    const [a, b] = [put({ kind: 'a' }), put({ kind: 'b' })];
    expect(overlayOf([a, a, structuredClone(a)]).ties).toBe(0);
    expect(overlayOf([a, b]).ties).toBe(1);
    expect(overlayOf([b, a]).ties).toBe(1);
    expect(said(overlayOf([a, b]))).toBe(said(overlayOf([b, a])));
  });
});

describe('intents only state what somebody is about to do', () => {
  const intent = (revision: number, run_id = 'run-1'): LogRecord => ({
    kind: 'intent',
    row: rowOf({ run_id, revision }),
  });
  const pending = (rows: Rows, all: LogRecord[]) =>
    pendingIntents(rows, overlayOf(all)).map(({ row }) => row.revision);
  const none = Rows.empty(ORG);

  it('no intent is ever a row', () => {
    const folded = fold(none, overlayOf([intent(1)]));
    expect(folded).toMatchObject({ changed: false });
    expect(folded.rows.length).toBe(0);
    expect(new CatalogState(ORG, null, none, overlayOf([intent(1)])).rowCount).toBe(0);
  });

  it('one is open until a fact reaches its revision, from the tail or the snapshot', () => {
    expect(pending(none, [intent(2)])).toEqual([2]);
    expect(pending(none, [intent(2), put({ revision: 1 })])).toEqual([2]);
    expect(pending(none, [intent(2), put({ revision: 2 })])).toEqual([]);
    expect(pending(none, [put({ revision: 3 }), intent(2)])).toEqual([]);
    expect(pending(tableOf(ORG, [rowOf({ revision: 1 })]), [intent(2)])).toEqual([2]);
    expect(pending(tableOf(ORG, [rowOf({ revision: 2 })]), [intent(2)])).toEqual([]);
    const deletion: LogRecord = { kind: 'delete', run_id: 'run-1', revision: 2, deleted_at: 1 };
    expect(pending(none, [intent(2), deletion])).toEqual([]);
  });

  it('of several, the greatest counts', () => {
    expect(pending(none, [intent(2), intent(4), intent(3), put({ revision: 2 })])).toEqual([4]);
  });
});

describe('law 5: the state hash is the previous one plus what was added minus what was removed', () => {
  it('for every fold', () => {
    fc.assert(
      fc.property(base, records, (rows, all) => {
        const folded = fold(rows, overlayOf(all));
        const expected = stateHashOf(rows).plus(folded.added).minus(folded.removed);
        expect(stateHashOf(folded.rows).hex()).toBe(expected.hex());
        expect(StateHash.parse(expected.hex()).hex()).toBe(expected.hex());
      }),
      { numRuns: 300 },
    );
  });

  it('tells every multiset of (run, revision) apart, in whatever order it was made', () => {
    const pairs = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'ab'), fc.integer({ min: 1, max: 12 })), {
      maxLength: 6,
    });
    const hashOf = (all: [string, number][]) =>
      all.reduce((hash, [id, n]) => hash.add(id, n), StateHash.empty()).hex();
    const sorted = (all: [string, number][]) => JSON.stringify(all.map(String).toSorted());
    fc.assert(
      fc.property(pairs, pairs, (a, b) => {
        expect(hashOf(a) === hashOf(b)).toBe(sorted(a) === sorted(b));
        expect(hashOf(a.toReversed())).toBe(hashOf(a));
      }),
    );
    expect(StateHash.empty().hex()).toBe('0'.repeat(32));
    expect(StateHash.empty().minus(StateHash.empty().add('a', 1)).add('a', 1).hex()).toBe('0'.repeat(32));
  });
});

describe('the state hash of rows', () => {
  it('is the sum over their ids and revisions, whatever ids of whatever length', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.string({ unit: 'grapheme', maxLength: 40 }),
            fc.maxSafeNat().map((n) => n + 1),
          ),
          {
            maxLength: 20,
          },
        ),
        (all) => {
          const text = StateHash.empty();
          const bytes = StateHash.empty();
          for (const [id, revision] of all) {
            text.add(id, revision);
            const utf8 = Buffer.from(`x${id}y`);
            bytes.addUtf8(utf8, 1, utf8.length - 1, revision);
          }
          expect(bytes.hex()).toBe(text.hex());
        },
      ),
    );
  });
});

describe('law 2: snapshot + tail ≡ full replay ≡ projection of all canonical runs', () => {
  it('for random histories, cut anywhere, delivered in any order and twice', () => {
    const cases = histories(['r1', 'r2', 'r3', 'r4']).chain((history) =>
      fc.record({
        history: fc.constant(history),
        cut: fc.nat(history.records.length),
        order: fc.shuffledSubarray(history.records, {
          minLength: history.records.length,
          maxLength: history.records.length,
        }),
        repeats: fc.subarray(history.records),
      }),
    );
    fc.assert(
      fc.property(cases, ({ history, cut, order, repeats }) => {
        const replayed = fold(Rows.empty(ORG), overlayOf(order)).rows;
        const snapshot = fold(Rows.empty(ORG), overlayOf(order.slice(0, cut))).rows;
        // The manifest keeps what was deleted as tombstones: a put may come later than the delete that outranks it.
        const tombstones = order.slice(0, cut).filter(({ kind }) => kind === 'delete');
        const tail = overlayOf([...tombstones, ...order.slice(cut), ...repeats]);
        const state = new CatalogState(ORG, null, snapshot, tail);
        expect(rowsOf(state.rows())).toEqual(rowsOf(replayed));
        expect(state.rowCount).toBe(replayed.length);
        expect(rowsOf(fold(snapshot, tail).rows)).toEqual(rowsOf(replayed));
        // Heartbeats since the last record are all that the canonical run may be ahead by.
        const rows = new Map(projectionsOf(replayed).map((one) => [one.run_id, one]));
        const runs = history.runs.filter(({ deleted_at }) => deleted_at === null);
        expect(rows.size).toBe(runs.length);
        for (const run of runs) {
          const found = rows.get(run.run_id)!;
          const { revision, updated_at, heartbeat_at } = found;
          expect(revision).toBe(run.indexed_revision);
          if (revision === run.revision) expect(found).toEqual(project(run));
          else expect(found).toEqual({ ...project(run), revision, updated_at, heartbeat_at });
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('what ended before the horizon is forgotten', () => {
  const horizon = START + 10;
  const ended = (finished_at: number, changes: Partial<Projection> = {}) =>
    put({ status: 'SUCCEEDED', revision: 3, finished_at, ...changes });

  it('late records of it are ignored, those of a run that is still there are not', () => {
    const none = Rows.empty(ORG);
    expect(foldUpTo(none, overlayOf([ended(horizon - 1)]), horizon)).toMatchObject({ changed: false });
    expect(foldUpTo(none, overlayOf([ended(horizon)]), horizon).rows.length).toBe(1);
    // A record of an active state does not say when the run will have ended: if it comes that late, the row is back,
    // until the sweep asks the canonical run.
    expect(foldUpTo(none, overlayOf([put({ status: 'RUNNING' })]), horizon).rows.length).toBe(1);
    const running = tableOf(ORG, [rowOf({ status: 'RUNNING' })]);
    const after = foldUpTo(running, overlayOf([ended(horizon - 1)]), horizon).rows;
    expect(projectionsOf(after)).toMatchObject([{ status: 'SUCCEEDED', revision: 3 }]);
  });

  it('law 1 holds for runs of which nothing is past', () => {
    const times = fc.constantFrom(null, horizon - 1, horizon, horizon + 1);
    const dated = fc.array(
      fc.tuple(record, times).map(([one, finished_at]) =>
        one.kind === 'delete'
          ? one
          : {
              ...one,
              row: {
                ...one.row,
                finished_at: isPast({ ...one.row, finished_at: 0 }, 1) ? finished_at : null,
              },
            },
      ),
    );
    fc.assert(
      fc.property(base, dated, dated, (rows, first, second) => {
        const past = [...first, ...second].filter((one) => one.kind !== 'delete' && isPast(one.row, horizon));
        const forgotten = new Set(past.map(runIdOf));
        const standing = (all: Rows) =>
          byRun(projectionsOf(all).filter(({ run_id }) => !forgotten.has(run_id)));
        const once = foldUpTo(rows, overlayOf([...first, ...second]), horizon);
        const half = foldUpTo(rows, overlayOf(first), horizon);
        const twice = foldUpTo(half.rows, overlayOf([...half.deletes, ...second]), horizon);
        expect(standing(twice.rows)).toEqual(standing(once.rows));
      }),
      { numRuns: 300 },
    );
  });
});

describe('a fold', () => {
  it('keeps the rows that stand, in order, and adds the new ones after them', () => {
    const rows = tableOf(
      ORG,
      ['a', 'b', 'c'].map((run_id) => rowOf({ run_id })),
    );
    const folded = fold(rows, overlayOf([put({ run_id: 'b', revision: 2 }), put({ run_id: 'd' })]));
    expect(projectionsOf(folded.rows).map(({ run_id, revision }) => `${run_id}${revision}`)).toEqual([
      'a1',
      'c1',
      'b2',
      'd1',
    ]);
  });

  it('does not touch its input', () => {
    const rows = tableOf(ORG, [rowOf()]);
    const before = rowsOf(rows);
    const overlay = overlayOf([put({ revision: 2 })]);
    fold(rows, overlay);
    expect([rowsOf(rows), said(overlay)]).toEqual([before, said(overlayOf([put({ revision: 2 })]))]);
  });

  it('a delete removes its run, and wins over a put of the same revision', () => {
    const rows = tableOf(ORG, [rowOf({ revision: 2 })]);
    const deletion: LogRecord = { kind: 'delete', run_id: 'run-1', revision: 2, deleted_at: 1 };
    expect(fold(rows, overlayOf([deletion, put({ revision: 2 })]))).toMatchObject({
      changed: true,
      deletes: [deletion],
    });
    expect(fold(rows, overlayOf([deletion])).rows.length).toBe(0);
    expect(fold(rows, overlayOf([{ ...deletion, revision: 1 }])).rows.length).toBe(1);
    expect(merge(rows, overlayOf([{ ...deletion, revision: 1 }]), null)).toMatchObject({
      deletes: [],
      replacedCount: 0,
    });
  });

  it('text without a UTF-8 form settles once, not at every fold', () => {
    const odd = put({ reference_id: 'half \ud800 pair' });
    const folded = fold(Rows.empty(ORG), overlayOf([odd]));
    const again = fold(folded.rows, overlayOf([odd]));
    expect(rowsOf(again.rows)).toEqual(rowsOf(folded.rows));
    expect(stateHashOf(again.rows).hex()).toBe(stateHashOf(folded.rows).hex());
  });
});
