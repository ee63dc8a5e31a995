import { openCatalog } from '../../src/catalog/catalog.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { cpuMs } from '../support/cpu.ts';
import { type Cost, costOf } from '../support/meter.ts';
import { type Spread, spread } from '../support/report.ts';

export interface HistoryFigure {
  about: string;
  runs: number;
  /** After the refresh that reads manifest and head. */
  cost: Cost;
  partsBytes: number;
  /** Of the parts' bytes, how much was read. */
  share: number;
  ms: Spread;
}

/** All runs of one table, out of an org's whole history. Time is that of the CPU, without a store's. */
export async function measureHistory(
  store: ObjectStore,
  orgId: string,
  { rounds }: { rounds: number },
): Promise<HistoryFigure[]> {
  const org = await openCatalog(store).org(orgId).refresh();
  const parts = org.state.manifest?.parts.filter(({ level }) => level > 0) ?? [];
  const partsBytes = parts.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  const tables = org.tables();
  const figures: HistoryFigure[] = [];
  for (const [about, at] of [
    ['a table in the middle', tables.length >>> 1],
    ['the first table', 0],
    ['the last table', tables.length - 1],
  ] as const) {
    const table = tables[at]!;
    let runs = 0;
    const query = async (slow: ObjectStore) => {
      const reader = openCatalog(slow).org(orgId);
      await reader.refresh();
      runs = 0;
      for await (const _ of reader.runs({ table })) runs++;
    };
    const refresh = await costOf(store, (slow) => openCatalog(slow).org(orgId).refresh());
    const both = await costOf(store, query);
    const samples: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const start = cpuMs();
      for await (const _ of org.runs({ table })) runs++;
      samples.push(cpuMs() - start);
    }
    const cost = Object.fromEntries(
      Object.entries(both).map(([name, value]) => [name, value - refresh[name as keyof Cost]]),
    ) as unknown as Cost;
    figures.push({
      about,
      runs: runs / (rounds + 1),
      cost,
      partsBytes,
      share: cost.bytesRead / partsBytes,
      ms: spread(samples),
    });
  }
  return figures;
}
