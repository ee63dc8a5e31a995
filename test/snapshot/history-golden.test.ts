import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { decodePart } from '../../src/snapshot/codec.ts';
import { decodeGroups, encodeGroups } from '../../src/snapshot/history-index.ts';
import { decodeHistory, decodeHistoryGroup } from '../../src/snapshot/history-read.ts';
import type { HistoryRows } from '../../src/snapshot/history-rows.ts';
import { sealHistory } from '../../src/snapshot/history-seal.ts';
import { type Entry, entriesJson } from './history-model.ts';
import { asToday, json, projectionsOf, tableOf } from './tables.ts';

/** Never edit these files: parts like them are in people's buckets. A new format gets new files beside them. */
const golden = (name: string) => readFile(new URL(`../golden/${name}`, import.meta.url));
const FILES = ['history-v1', 'history-v1-projection-2'];
const KEY = 'history';
const ORG = 'golden-org';
/** See golden.test.ts. */
const ZSTD_OF_GOLDEN = '1.5.7';

async function load(name: string) {
  const { index, entries } = JSON.parse(String(await golden(`${name}.json`))) as {
    index: string;
    entries: Entry[];
  };
  const known = entries.map((entry) => ({ ...entry, row: asToday(entry.row) }));
  return { bytes: new Uint8Array(await golden(`${name}.parquet`)), index, entries: known };
}

const entriesOf = (histories: readonly HistoryRows[]) =>
  histories.flatMap((history) =>
    Array.from({ length: history.length }, (_, i) => ({
      table: history.table(i),
      primary: history.isPrimary(i),
      row: history.rows.get(i),
    })),
  );

describe('history format 1', () => {
  it.each(FILES)('%s reads as it always did: by ranges, whole, and as a plain part', async (name) => {
    const { bytes, index, entries } = await load(name);
    const groups = decodeGroups(KEY, index);
    expect(groups.length).toBeGreaterThan(2);
    const byRanges = groups.map((group) =>
      decodeHistoryGroup(KEY, ORG, bytes.subarray(group.offset, group.offset + group.size), group),
    );
    expect(entriesJson(entriesOf(byRanges))).toEqual(entriesJson(entries));
    const whole = [...decodeHistory(KEY, ORG, bytes)];
    expect(entriesJson(entriesOf(whole.map(({ history }) => history)))).toEqual(entriesJson(entries));
    expect(whole.map(({ group }) => group)).toEqual(groups);
    expect(json(projectionsOf(await decodePart(KEY, bytes)))).toEqual(json(entries.map(({ row }) => row)));
  });

  it.runIf(process.versions.zstd === ZSTD_OF_GOLDEN)('is written today with the same bytes', async () => {
    const { bytes, index, entries } = await load('history-v1-projection-2');
    const runs = entries.filter(({ primary }) => primary).map(({ row }) => row);
    const part = await sealHistory(tableOf(ORG, runs), { groupRows: 40 });
    expect(Buffer.compare(part.bytes, bytes)).toBe(0);
    expect(decodeGroups(KEY, encodeGroups(part.groups))).toEqual(decodeGroups(KEY, index));
  });
});
