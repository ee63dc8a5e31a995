import fc from 'fast-check';
import { type Projection, tablesOf } from '../../src/runs/projection.ts';
import type { Dataset } from '../../src/runs/run.ts';
import type { HistoryGroup } from '../../src/snapshot/history-index.ts';
import type { HistorySource } from '../../src/snapshot/history-merge.ts';
import { decodeHistoryGroup } from '../../src/snapshot/history-read.ts';
import { sealHistory } from '../../src/snapshot/history-seal.ts';
import type { EncodedHistory } from '../../src/snapshot/history-write.ts';
import { projections, text } from './arbitrary.ts';
import { tableOf } from './tables.ts';

export const ORG = 'acme';
export const KEY = 'catalog/orgs/acme/snapshots/part.parquet';

/** One row of a history part as a plain object. */
export interface Entry {
  table: Dataset | null;
  primary: boolean;
  row: Projection;
}

/** What a history part of these runs holds, worked out the long way. */
export function entriesOf(rows: readonly Projection[]): Entry[] {
  return rows.flatMap((row): Entry[] => {
    const seen = new Set<string>();
    const tables = tablesOf(row).filter(({ namespace, name }) => {
      const key = JSON.stringify([namespace, name]);
      return !seen.has(key) && seen.add(key);
    });
    if (tables.length === 0) return [{ table: null, primary: true, row }];
    return tables.map((table, k) => ({ table, primary: k === 0, row }));
  });
}

export function compareEntries(a: Entry, b: Entry): number {
  return (
    Number(a.table !== null) - Number(b.table !== null) ||
    compareBytes(a.table?.namespace ?? '', b.table?.namespace ?? '') ||
    compareBytes(a.table?.name ?? '', b.table?.name ?? '') ||
    a.row.created_at - b.row.created_at ||
    compareBytes(a.row.run_id, b.row.run_id)
  );
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

export function groupBytesOf(
  { bytes }: EncodedHistory,
  { offset, size }: { offset: number; size: number },
): Uint8Array {
  return bytes.slice(offset, offset + size);
}

export function entriesIn(part: EncodedHistory, groups: readonly HistoryGroup[] = part.groups): Entry[] {
  return groups.flatMap((group) => {
    const history = decodeHistoryGroup(KEY, ORG, groupBytesOf(part, group), group);
    return Array.from({ length: history.length }, (_, i) => ({
      table: history.table(i),
      primary: history.isPrimary(i),
      row: history.rows.get(i),
    }));
  });
}

/** As JSON, so that the order of keys counts too, and a null table differs from none. */
export function entriesJson(entries: readonly Entry[]): string[] {
  return entries.map(({ table, primary, row }) =>
    JSON.stringify([table && [table.namespace, table.name], primary, row]),
  );
}

export function seal(rows: readonly Projection[], groupRows: number): Promise<EncodedHistory> {
  return sealHistory(tableOf(ORG, rows), { groupRows });
}

export function sourceOf(part: EncodedHistory): HistorySource {
  return { key: KEY, groups: part.groups, read: async (group) => groupBytesOf(part, group) };
}

const tableName: fc.Arbitrary<Dataset> = fc.oneof(
  // Few, so that runs meet; with a prefix of another, and with order that UTF-16 and UTF-8 see differently.
  fc.record({
    namespace: fc.constantFrom('', 'a', 'ab', '\uff5e', '😀'),
    name: fc.constantFrom('t', 'tt', '\uffee', '😀'),
  }),
  fc.record({ namespace: text, name: text.filter((name) => name !== '') }),
);

/** Runs with distinct ids, several tables each, created close to one another. */
export const runs: fc.Arbitrary<Projection[]> = fc.uniqueArray(
  fc
    .record({
      row: projections(ORG),
      outputs: fc.array(tableName, { maxLength: 3 }),
      near: fc.option(fc.nat(5), { nil: null }),
      target: fc.option(tableName, { nil: null }),
    })
    .map(({ row, outputs, near, target }): Projection => {
      const payload = {
        ...row.payload,
        target_namespace: target?.namespace ?? null,
        target_table: target?.name ?? null,
      };
      return { ...row, outputs, payload, created_at: near ?? row.created_at };
    }),
  { selector: ({ run_id }) => run_id, maxLength: 14 },
);

/**
 * Several revisions of a few runs as they really follow one another: outputs only grow, created_at only moves back,
 * and first_created_at then tells what it was. Each list has at most one revision of a run.
 */
export const revisions: fc.Arbitrary<Projection[][]> = fc
  .array(
    fc.record({
      base: projections(ORG),
      outputs: fc.array(tableName, { maxLength: 4 }),
      created: fc.integer({ min: 10, max: 40 }),
      steps: fc.array(fc.record({ back: fc.constantFrom(0, 0, 5, 15), grow: fc.nat(2), part: fc.nat(3) }), {
        minLength: 1,
        maxLength: 4,
      }),
    }),
    { maxLength: 8 },
  )
  .map((stories) => {
    const parts: Projection[][] = [[], [], [], []];
    stories.forEach(({ base, outputs, created, steps }, s) => {
      let at = created;
      let size = 0;
      const used = new Set<number>();
      steps.forEach(({ back, grow, part }, k) => {
        at = Math.max(0, at - (k === 0 ? 0 : back));
        size = Math.min(outputs.length, size + grow);
        if (used.has(part)) return;
        used.add(part);
        parts[part]!.push({
          ...base,
          run_id: `run-${s}`,
          revision: k + 1,
          created_at: at,
          first_created_at: at === created ? null : created,
          outputs: outputs.slice(0, size),
          payload: { ...base.payload, target_namespace: null, target_table: null },
        });
      });
    });
    return parts;
  });

/** What readers do: of each run the highest revision, then the filter. */
export function newestOf(rows: readonly Projection[]): Projection[] {
  const newest = new Map<string, Projection>();
  for (const row of rows) {
    const known = newest.get(row.run_id);
    if (known === undefined || row.revision > known.revision) newest.set(row.run_id, row);
  }
  return [...newest.values()].sort((a, b) => compareBytes(a.run_id, b.run_id));
}
