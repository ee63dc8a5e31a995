import { defaultLimits, type Limits } from '../core/limits.ts';
import type { Dataset } from '../runs/run.ts';
import type { HistoryGroup } from './history-index.ts';
import { compareTables, compareUtf8 } from './history-rows.ts';

export interface HistoryFilter {
  /** Runs that write this table; a missing namespace or name matches any. */
  table?: { namespace?: string | undefined; name?: string | undefined } | undefined;
  /** Bounds of `created_at`, ms: inclusive, exclusive. */
  since?: number | undefined;
  until?: number | undefined;
}

/**
 * The groups that may hold a row that matches, or the revision that supersedes such a row. Filter the rows
 * themselves only after the merge by revision.
 */
export function selectGroups(groups: readonly HistoryGroup[], filter: HistoryFilter): HistoryGroup[] {
  const { table, since, until } = filter;
  return groups.filter(
    (group) =>
      (since === undefined || group.created_at_max >= since) &&
      (until === undefined || group.created_at_min < until) &&
      (table === undefined || mayHold(group, table)),
  );
}

function mayHold({ first, last }: HistoryGroup, { namespace, name }: NonNullable<HistoryFilter['table']>) {
  // Rows without a table come first: where the last row has none, no row has.
  if (last === null) return false;
  if (namespace !== undefined && name !== undefined) {
    const wanted: Dataset = { namespace, name };
    return compareTables(first, wanted) <= 0 && compareTables(wanted, last) <= 0;
  }
  if (namespace !== undefined) {
    const after = first === null || compareUtf8(first.namespace, namespace) <= 0;
    return after && compareUtf8(namespace, last.namespace) <= 0;
  }
  // Names are in order within one namespace only.
  if (name === undefined || first?.namespace !== last.namespace) return true;
  return compareUtf8(first.name, name) <= 0 && compareUtf8(name, last.name) <= 0;
}

/** Groups of one object that one request reads. */
export interface HistoryRange {
  offset: number;
  size: number;
  groups: HistoryGroup[];
}

export type RangeLimits = Pick<Limits, 'historyGapBytesMax' | 'historyRangeBytesMax'>;

/** The requests that read `selected`, in the order of the object; a group larger than the cap has one to itself. */
export function coalesce(
  selected: readonly HistoryGroup[],
  { historyGapBytesMax, historyRangeBytesMax }: RangeLimits = defaultLimits,
): HistoryRange[] {
  const ranges: HistoryRange[] = [];
  for (const group of selected) {
    const range = ranges.at(-1);
    const end = group.offset + group.size;
    if (
      range !== undefined &&
      group.offset - (range.offset + range.size) <= historyGapBytesMax &&
      end - range.offset <= historyRangeBytesMax
    ) {
      range.groups.push(group);
      range.size = end - range.offset;
    } else ranges.push({ offset: group.offset, size: group.size, groups: [group] });
  }
  return ranges;
}

/** The bytes of one group out of those of its range; no copy. */
export function groupBytes(range: HistoryRange, bytes: Uint8Array, group: HistoryGroup): Uint8Array {
  const start = group.offset - range.offset;
  return bytes.subarray(start, start + group.size);
}
